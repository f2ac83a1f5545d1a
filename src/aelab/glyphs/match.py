"""From pictures to characters: in each cell the glyph that looks most like it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ShapeError
from aelab.glyphs.renderer import FontRenderer

#: Numbers held at a time (cells and their scores), 64 MB as float32.
_AT_ONCE = 16 * 2**20


@torch.no_grad()
def match_glyphs(
    pictures: Tensor,
    shape: tuple[int, int],
    renderer: FontRenderer,
    *,
    brightness: bool = False,
    edges: bool = False,
) -> Tensor:
    """Pictures as ASCII art: each cell becomes the glyph with the least squared error.

    Pictures are first resized to H * h by W * w pixels (bilinear, antialiased); their shape is not
    kept. Large sets are worked on in pieces, so that memory stays bounded.

    Args:
        pictures: (N, 1, height, width) grey, 0..1, paper 1 and ink 0.
        shape: (H, W), characters.
        renderer: whose glyphs are compared; its device does the work.
        brightness: map black to the mean grey of the darkest glyph first. Otherwise every dark area
            becomes that one glyph, since no glyph is as dark as it.
        edges: match the outlines (size of the gradient, strongest 1) instead of the areas.

    Returns:
        (N, H, W) uint8, character numbers, on the device of `pictures`. A picture that the renderer
        drew, at its size, gives back its characters, where no two glyphs are the same.

    Raises:
        ShapeError: `pictures` are not grey.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 1:
        raise ShapeError(
            f"pictures have the shape (N, 1, height, width), and not {tuple(pictures.shape)}"
        )
    atlas = renderer.atlas
    cells = shape[0] * shape[1]
    each = cells * (atlas.shape[0] + 3 * atlas[0].numel())
    pieces = []
    for piece in pictures.split(max(1, _AT_ONCE // each)):
        large = _resized(piece.to(atlas), shape, renderer.cell)
        if edges:
            large = 1 - _outlines(1 - large)
        if brightness:
            darkest = atlas.flatten(1).mean(1).min()
            large = darkest + (1 - darkest) * large
        pieces.append(_nearest(large, shape, atlas).to(pictures.device))
    return torch.cat(pieces) if pieces else torch.empty((0, *shape), dtype=torch.uint8)


def _resized(pictures: Tensor, shape: tuple[int, int], cell: tuple[int, int]) -> Tensor:
    """(n, 1, height, width) -> (n, 1, H * h, W * w)."""
    size = (shape[0] * cell[0], shape[1] * cell[1])
    if tuple(pictures.shape[2:]) == size:
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def _nearest(pictures: Tensor, shape: tuple[int, int], atlas: Tensor) -> Tensor:
    """argmin over glyphs of |cell - glyph|^2, where |cell|^2 is the same for all; uint8."""
    (rows, columns), (height, width) = shape, atlas.shape[1:]
    tiles = pictures.view(-1, rows, height, columns, width).transpose(2, 3)
    cells = tiles.reshape(-1, height * width)
    # Around grey 1/2 the numbers are smallest, and so are the rounding errors of the difference.
    glyphs = atlas.flatten(1) - 0.5
    scores = torch.addmm(-0.5 * glyphs.square().sum(1), cells - 0.5, glyphs.T)
    return scores.argmax(1).to(torch.uint8).view(-1, rows, columns)


def _outlines(ink: Tensor) -> Tensor:
    """Size of the gradient (Sobel), 1 where a picture's is strongest; 0 throughout a blank one."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(ink)
    kernels = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(F.pad(ink, (1, 1, 1, 1), mode="replicate"), kernels)
    size = gradient.norm(dim=1, keepdim=True)
    return size / size.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)

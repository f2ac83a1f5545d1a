"""Converts pictures to characters: each cell becomes the most similar glyph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.ascii.glyphs.renderer import FontRenderer
from aelab.errors import ConfigError, ShapeError

#: Most numbers held at a time (cells and their scores): 64 MB as float32.
_AT_ONCE = 16 * 2**20
_PARTS = (3, 2)
_WHOLE = 60.0
#: Standard deviation of the blur for comparing strokes, in heights of a cell. With drawn circles,
#: boxes and lines, a smaller one leaves gaps and a larger one doubles strokes.
_STROKE_BLUR_CELLS = 1 / 17
#: Greatest factor by which ink is darkened.
_MOST_DARKENED = 10.0


@torch.no_grad()
def match_glyphs(
    pictures: Tensor,
    shape: tuple[int, int],
    renderer: FontRenderer,
    *,
    brightness: bool = False,
    edges: bool = False,
    strokes: bool = False,
) -> Tensor:
    """Pictures as ASCII art: each cell becomes the glyph with the least squared error.

    Pictures are first resized to H * h by W * w pixels (bilinear, antialiased), which may change
    their aspect. Large sets are processed in parts, so that memory stays bounded.

    Args:
        pictures: (N, 1, height, width) grey, 0..1, paper 1 and ink 0.
        shape: (H, W) in characters.
        renderer: provides the glyphs; the work is done on its device.
        brightness: compare greys instead of strokes: the means of each cell and of its 3 x 2
            parts, with black mapped to the mean grey of the darkest glyph. For photographs, in
            which otherwise every dark area becomes the darkest glyph and every light one a space.
        edges: match outlines (magnitude of the gradient, the strongest is 1) instead of areas.
        strokes: for drawings, also with `edges`: the darkest ink becomes black, and both sides are
            compared after a slight blur, for the picture across the borders of cells. Without it,
            thin lines become spaces if no glyph has a stroke in exactly that column or row.

    Returns:
        (N, H, W) uint8, character numbers, on the device of `pictures`. A picture drawn by the
        renderer at its size gives back its characters, if no two glyphs are equal and without
        `strokes`.

    Raises:
        ConfigError: both `strokes` and `brightness`.
        ShapeError: `pictures` are not grey.
    """
    _refuse(pictures, strokes and brightness)
    atlas = renderer.atlas[:, None]  # (95, 1, h, w)
    darkest = atlas.mean((1, 2, 3)).amin()
    sigma_pixels = _STROKE_BLUR_CELLS * renderer.cell[0]
    glyphs = _greys(atlas, (1, 1)) if brightness else atlas.flatten(1)
    glyphs = _soft(atlas, sigma_pixels).flatten(1) if strokes else glyphs
    each = shape[0] * shape[1] * (len(atlas) + 3 * atlas[0].numel())
    pieces = []
    for piece in torch.split(pictures, max(1, _AT_ONCE // each)):
        large = _resized(piece.to(atlas), shape, renderer.cell)
        if edges:
            large = 1 - _outlines(1 - large)
        if strokes:
            large = _soft(_darkened(large), sigma_pixels)
        if brightness:
            cells = _greys(darkest + (1 - darkest) * large, shape)
        else:
            cells = _cut(large, shape)
        pieces.append(_nearest(cells, glyphs).view(-1, *shape).to(pictures.device))
    return torch.cat(pieces)


def _refuse(pictures: Tensor, both: bool) -> None:
    """Raises the errors of `match_glyphs`."""
    if both:
        raise ConfigError(
            "glyphs are matched by strokes or by brightness, not by both",
            hint="take strokes for drawings, brightness for photographs",
        )
    if pictures.ndim != 4 or pictures.shape[1] != 1:
        raise ShapeError(
            f"pictures have the shape (N, 1, height, width), and not {tuple(pictures.shape)}"
        )


def _cut(pictures: Tensor, shape: tuple[int, int]) -> Tensor:
    """(n, 1, H * h, W * w) -> (n * H * W, h * w)."""
    height, width = pictures.shape[2] // shape[0], pictures.shape[3] // shape[1]
    tiles = pictures.reshape(-1, shape[0], height, shape[1], width).transpose(2, 3)
    return tiles.reshape(-1, height * width)


def _greys(pictures: Tensor, shape: tuple[int, int]) -> Tensor:
    """(n, 1, H * h, W * w) -> (n * H * W, parts + 1): means of each cell's parts, and of the cell.

    The last is weighted by `_WHOLE`: otherwise uniform areas get uniform glyphs, which are light.
    """
    counts = (shape[0] * _PARTS[0], shape[1] * _PARTS[1])
    parts = _cut(F.adaptive_avg_pool2d(pictures, counts), shape)
    whole = _cut(F.adaptive_avg_pool2d(pictures, shape), shape)
    return torch.cat([parts, whole * _WHOLE**0.5], 1)


def _resized(pictures: Tensor, shape: tuple[int, int], cell: tuple[int, int]) -> Tensor:
    """(n, 1, height, width) -> (n, 1, H * h, W * w)."""
    size = (shape[0] * cell[0], shape[1] * cell[1])
    if tuple(pictures.shape[2:]) == size:
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def _nearest(cells: Tensor, glyphs: Tensor) -> Tensor:
    """(m, d), (95, d) -> argmin of |cell - glyph|^2, where |cell|^2 is the same for all; (m,)."""
    # Subtracting the mean makes the numbers and so the rounding errors of the difference smaller.
    middle = glyphs.mean(0)
    glyphs = glyphs - middle
    scores = torch.addmm(-0.5 * glyphs.square().sum(1), cells - middle, glyphs.T)
    return scores.argmax(1).to(torch.uint8)


def _outlines(ink: Tensor) -> Tensor:
    """Magnitude of the gradient (Sobel), scaled to a maximum of 1; 0 for a blank picture."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(ink)
    kernels = torch.stack([across, across.T])[:, None]
    gradient: Tensor = F.conv2d(F.pad(ink, (1, 1, 1, 1), mode="replicate"), kernels)
    size: Tensor = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    strongest = torch.amax(size, (1, 2, 3), keepdim=True)
    return size / strongest.clamp_min(1e-6)


def _darkened(pictures: Tensor) -> Tensor:
    """Scales each picture's ink so that its darkest pixel is black; paper stays 1."""
    darkest = torch.amax(1 - pictures, (1, 2, 3), keepdim=True)
    return 1 - (1 - pictures) / darkest.clamp_min(1 / _MOST_DARKENED)


def _soft(pictures: Tensor, sigma_pixels: float) -> Tensor:
    """(n, 1, height, width) blurred by a Gaussian, with paper around."""
    reach = max(1, round(3 * sigma_pixels))
    places = torch.arange(-reach, reach + 1).to(pictures)
    window = torch.exp(-places.square() / (2 * sigma_pixels**2))
    window = window / window.sum()
    ink = F.conv2d(1 - pictures, window.view(1, 1, -1, 1), padding=(reach, 0))
    return 1 - F.conv2d(ink, window.view(1, 1, 1, -1), padding=(0, reach))

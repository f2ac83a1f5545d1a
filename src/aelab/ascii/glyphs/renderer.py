"""Draws characters: as a weighted sum with gradients, and exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from aelab.ascii.glyphs.alphabet import ALPHABET
from aelab.ascii.glyphs.font import find_font, glyph_atlas
from aelab.errors import ShapeError


def check_weights(weights: Tensor) -> None:
    """Raise ShapeError for weights that are not (B, 95, H, W)."""
    if weights.ndim != 4 or weights.shape[1] != len(ALPHABET):
        raise ShapeError(
            f"weights of characters have the shape (B, {len(ALPHABET)}, H, W), "
            f"and not {tuple(weights.shape)}"
        )


def tiled(pixels: Tensor, cell: tuple[int, int], shape: Sequence[int]) -> Tensor:
    """Arranges the pixels of cells to one picture.

    Args:
        pixels: (B, h * w, H * W).
        cell: (h, w), pixels.
        shape: (H, W), cells.

    Returns:
        (B, 1, H * h, W * w).
    """
    height, width = cell
    rows, columns = shape
    tiles = pixels.reshape(-1, height, width, rows, columns).permute(0, 3, 1, 4, 2)
    return tiles.reshape(-1, 1, rows * height, columns * width)


class FontRenderer(nn.Module):
    """Draws grids of characters with a font, each character in a cell of its own.

    White paper is 1, black ink 0. Pillow draws each character alone, cut at the edges of its cell.
    DejaVu Sans Mono keeps all ink inside its cells at 6, 8, 11 and 16 pixels; there, and wherever
    no ink reaches into a neighbouring cell, the picture equals a line drawn by Pillow.

    Args:
        font_res: size of the font in pixels; with `font_zoom` the side of the square cell.
        font_zoom: None for the font's own cell (line height x advance), or 0 to 63 for the
            document's way: crop of a 64x64 picture, resized.
        font: path of a monospaced TrueType font, or a name; default DejaVu Sans Mono.

    Attributes:
        atlas: (95, h, w) float32 in 0..1, a buffer that no state_dict carries.
        cell: (h, w), pixels.

    Raises:
        ConfigError, DataError: see `aelab.ascii.glyphs.glyph_atlas`.

    Source: theAdamColton/python-pytorch-font-renderer, commit 198ddc4 (`font_zoom`).
    """

    atlas: Tensor

    def __init__(
        self,
        font_res: int = 9,
        font_zoom: int | None = None,
        font: str | Path | None = None,
    ) -> None:
        super().__init__()
        # An atlas made in inference mode could not be used with gradients.
        with torch.inference_mode(False):
            atlas = glyph_atlas(font_res, font_zoom, font).float() / 255
        self.font_res, self.font_zoom = font_res, font_zoom
        self.cell: tuple[int, int] = (atlas.shape[1], atlas.shape[2])
        self.register_buffer("atlas", atlas, persistent=False)

    def forward(self, weights: Tensor) -> Tensor:
        """Draws each cell as the weighted sum of all characters' pictures.

        Args:
            weights: (B, 95, H, W), any real numbers; one-hots give exactly the result of `draw`.

        Returns:
            (B, 1, H * h, W * w), of the weights' type and device; with gradient.

        Raises:
            ShapeError: not four axes, or not 95 characters.
        """
        check_weights(weights)
        # The product in this order needs no copy of the weights, which halves the time.
        pixels = self.atlas.to(weights).flatten(1).T @ weights.flatten(2)  # (B, h * w, H * W)
        return tiled(pixels, self.cell, weights.shape[2:])

    def draw(self, numbers: Tensor) -> Tensor:
        """Draws character numbers exactly.

        Args:
            numbers: (B, H, W) integers, 0 to 94.

        Returns:
            (B, 1, H * h, W * w) float, 0..1.

        Raises:
            ShapeError: not three axes.
        """
        if numbers.ndim != 3:
            raise ShapeError(
                f"character numbers have the shape (B, H, W), and not {tuple(numbers.shape)}"
            )
        batch, rows, columns = numbers.shape
        height, width = self.cell
        tiles = self.atlas.to(numbers.device)[numbers.long()].transpose(2, 3)  # (B, H, h, W, w)
        return tiles.reshape(batch, 1, rows * height, columns * width)


def font_renderer(
    font_res: int = 9, font_zoom: int | None = None, font: str | Path | None = None
) -> FontRenderer:
    """Returns the `FontRenderer` with these settings, made once per process and shared."""
    return _shared(font_res, font_zoom, find_font(font))


@cache
def _shared(font_res: int, font_zoom: int | None, font: Path) -> FontRenderer:
    return FontRenderer(font_res, font_zoom, font)

"""Finds characters that a font draws so similarly that no loss on pictures distinguishes them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aelab.ascii.glyphs.alphabet import ALPHABET
from aelab.ascii.glyphs.renderer import FontRenderer


class AlikePair(NamedTuple):
    """Two characters and the difference of their pictures.

    Attributes:
        first: the one with the lower number.
        second: the other.
        of_ink: share of their ink that differs, 0 (the same picture) to 1 (no common ink).
        of_pixels: mean absolute difference of the cell's pixels, 0..1.
    """

    first: str
    second: str
    of_ink: float
    of_pixels: float

    def __str__(self) -> str:
        ink, pixels = 100 * self.of_ink, 100 * self.of_pixels
        return f"{self.first} {self.second}  {ink:5.1f} % of the ink, {pixels:4.1f} % of the cell"


def alike_pairs(renderer: FontRenderer, most: float = 0.15) -> list[AlikePair]:
    """The pairs of characters that a renderer draws too similarly, the most similar first.

    The document found that at 7 pixels (zoom 21) `[` looks like `|`: here they differ in 14 % of
    their ink, and at 9 pixels in 89 %.

    Args:
        renderer: a `FontRenderer` with any size, zoom and font.
        most: greatest `of_ink` of the listed pairs; 1 lists all 4465.
    """
    ink = 1 - renderer.atlas.flatten(1).double().cpu()  # (95, h * w)
    difference = torch.cdist(ink, ink, p=1)
    inked = ink.sum(1)
    of_ink = difference / (inked[:, None] + inked).clamp_min(1e-9)
    first, second = torch.triu_indices(len(ALPHABET), len(ALPHABET), offset=1)
    order = of_ink[first, second].argsort(stable=True)
    kept = order[of_ink[first, second][order] <= most]
    return [_pair(int(first[k]), int(second[k]), of_ink, difference / ink.shape[1]) for k in kept]


def _pair(first: int, second: int, of_ink: Tensor, of_pixels: Tensor) -> AlikePair:
    where = first, second
    return AlikePair(
        ALPHABET[first], ALPHABET[second], float(of_ink[where]), float(of_pixels[where])
    )

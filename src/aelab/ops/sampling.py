"""Interpolation of images on any window: the baseline for enlargements by an implicit decoder.

Coordinates are those of such a decoder: -1 is the centre of the first pixel, 1 that of the last.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from aelab.errors import ShapeError

Lookup = Literal["nearest", "bicubic"]


class Region(NamedTuple):
    """A window of an image; the outermost pixels of a render have their centres on its edges."""

    x0: float = -1.0
    y0: float = -1.0
    x1: float = 1.0
    y1: float = 1.0


#: From the centre of the first pixel to that of the last.
FULL = Region()


def same_borders(inner: tuple[int, int], outer: tuple[int, int]) -> Region:
    """The region in which `outer` pixels cover the same area as `inner` pixels.

    In an image of twice the size the first pixel's centre lies a quarter pixel further out. With
    `FULL` its grid would not match that of a real larger original, nor that of a resize filter.

    Args:
        inner: (height, width) of the small image, each at least 2.
        outer: (height, width) of the large one.

    Returns:
        The region; exactly `FULL` where the sizes are equal.

    Raises:
        ShapeError: a side has only one pixel.
    """
    if min(inner) < 2:
        raise ShapeError(f"a picture of {inner[1]}x{inner[0]} pixels has no scale to enlarge by")
    reach_y, reach_x = (
        (small - small / large) / (small - 1) for small, large in zip(inner, outer, strict=True)
    )
    return Region(-reach_x, -reach_y, reach_x, reach_y)


def look_up(
    images: Tensor, size: tuple[int, int], region: Region = FULL, filter: Lookup = "bicubic"
) -> Tensor:
    """Interpolates images on another grid; outside, the border pixels continue.

    Args:
        images: (B, C, H, W) float.
        size: (height, width) of the result.
        region: the shown window; with `same_borders` the result matches `ops.resize`.
        filter: `nearest`, or `bicubic` (Keys' cubic with a = -0.5, as Pillow's).

    Returns:
        (B, C, height, width), within 0..1 if the images are: an overshoot is clamped to the
        range of each image.

    Source: Keys 1981, Cubic convolution interpolation for digital image processing, equation 15.
    """
    height, width = images.shape[-2:]
    rows = _shares(height, size[0], region.y0, region.y1, filter).to(images)
    columns = _shares(width, size[1], region.x0, region.x1, filter).to(images)
    result = rows @ images @ columns.T  # separable: (h, H) (B, C, H, W) (W, w)
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    high = images.amax(dim=(1, 2, 3), keepdim=True)
    return result.clamp(low, high)


def _shares(inner: int, outer: int, first: float, last: float, filter: Lookup) -> Tensor:
    """Interpolation weights, (outer, inner) float64; rows sum to 1.

    A weight outside of the image goes to the nearest border pixel.
    """
    centres = torch.linspace(first, last, outer, dtype=torch.float64)
    places = (centres + 1) / 2 * (inner - 1)  # in source pixels, 0 the centre of the first
    shares = torch.zeros(outer, inner, dtype=torch.float64)
    if filter == "nearest":
        taken = (places + 0.5).floor().long().clamp(0, inner - 1)
        return shares.scatter_(1, taken[:, None], 1.0)
    below = places.floor()
    for step in (-1, 0, 1, 2):
        taken = below + step
        weight = _keys(places - taken)
        shares.scatter_add_(1, taken.long().clamp(0, inner - 1)[:, None], weight[:, None])
    return shares


def _keys(distance: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

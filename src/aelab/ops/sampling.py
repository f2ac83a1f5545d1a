"""Images looked up between their pixels, on any window: what an enlargement is compared with.

Places are those of an implicit decoder: -1 is the centre of the first pixel, 1 that of the last.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from aelab.errors import ShapeError

Lookup = Literal["nearest", "bicubic"]


class Region(NamedTuple):
    """A window of a picture; the outermost pixels of a render have their centres on its edges."""

    x0: float = -1.0
    y0: float = -1.0
    x1: float = 1.0
    y1: float = 1.0


#: From the first pixel's centre to the last one's.
FULL = Region()


def same_borders(inner: tuple[int, int], outer: tuple[int, int]) -> Region:
    """The region that makes `outer` pixels cover the very area that `inner` pixels cover.

    A picture of twice the size has its first pixel's centre a quarter pixel further out: with
    `FULL` its grid would not lie on that of a true larger original, nor on that of a resize filter.

    Args:
        inner: (height, width) of the small picture, each at least 2.
        outer: (height, width) of the large one.

    Returns:
        `FULL` exactly where the sizes are equal.

    Raises:
        ShapeError: a side of one pixel has no scale.
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
    """Images on another grid; beyond the border its pixels go on.

    Args:
        images: (B, C, H, W) float.
        size: (height, width) of the result.
        region: what it shows; `same_borders` gives what `ops.resize` gives.
        filter: `nearest`, or `bicubic` (Keys' cubic with a = -0.5, as Pillow's).

    Returns:
        (B, C, height, width), within 0..1 where the images are: an overshoot is clamped to the
        range of each image.

    Source: Keys 1981, Cubic convolution interpolation for digital image processing, equation 15.
    """
    height, width = images.shape[-2:]
    rows = _shares(height, size[0], region.y0, region.y1, filter).to(images)
    columns = _shares(width, size[1], region.x0, region.x1, filter).to(images)
    result = rows @ images @ columns.T
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    high = images.amax(dim=(1, 2, 3), keepdim=True)
    return result.clamp(low, high)


def _shares(inner: int, outer: int, first: float, last: float, filter: Lookup) -> Tensor:
    """(outer, inner) float64: each source pixel's share in each pixel of the result; rows sum to 1.

    A share that falls beyond the border goes to the outermost pixel.
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
    """Keys' cubic, a = -0.5."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

"""The values of black and white in a set of images, and conversion to 0..1 and back.

A model is trained on images in their own range, -1..1 for instance. Measures and figures need
0..1, and call `to_unit`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aelab.errors import DataError, ShapeError
from aelab.types import Bound, ValueRange

#: The range that measures and figures expect.
UNIT: ValueRange = (0.0, 1.0)


def to_unit(images: Tensor, value_range: ValueRange) -> Tensor:
    """Converts (B, C, H, W) images from `value_range` to 0..1, without clamping."""
    if value_range == UNIT:
        return images
    low, high = (_column(bound, images) for bound in value_range)
    return (images - low) / (high - low)


def from_unit(images: Tensor, value_range: ValueRange) -> Tensor:
    """Converts (B, C, H, W) images from 0..1 to `value_range`, the range of the model."""
    if value_range == UNIT:
        return images
    low, high = (_column(bound, images) for bound in value_range)
    return images * (high - low) + low


def as_given(images: Tensor, value_range: ValueRange) -> Tensor:
    """Images as model input: uint8 is converted to its range, floats are returned unchanged.

    Raises:
        ShapeError: the images are not (B, C, H, W).
        DataError: whole numbers that are not uint8, or floats far outside of the range.
    """
    if images.ndim != 4:
        raise ShapeError(
            f"a model takes images (B, C, H, W), not {tuple(images.shape)}",
            hint="one image: images[None]; channels first: images.permute(0, 3, 1, 2)",
        )
    if images.dtype == torch.uint8:
        return from_unit(images.float() / 255, value_range)
    low, high = limits(value_range)
    most = float(images.amax()) if images.numel() else high
    if not images.is_floating_point() or most > high + 8 * (high - low):
        raise DataError(
            f"images are uint8, or floats in {range_words(value_range)}; these are "
            f"{images.dtype} up to "
            f"{most:.4g}",
            hint="divide by 255: images / 255, or give uint8",
        )
    return images


def guessed_range(pixels: Tensor) -> ValueRange:
    """The likely range: -1..1 for floats within -1..1 with clearly negative values, else 0..1.

    Custom scaling functions nearly always use one of the two.
    """
    if not pixels.is_floating_point() or pixels.numel() == 0:
        return UNIT
    low, high = (float(value) for value in torch.aminmax(pixels))
    return (-1.0, 1.0) if -1.0 - 1e-3 <= low < -0.05 and high <= 1.0 + 1e-3 else UNIT


def affine(value_range: ValueRange, mean: Sequence[float], std: Sequence[float]) -> ValueRange:
    """The range after (images - mean) / std per channel; one number where all channels agree."""
    low, high = (_shifted(bound, mean, std) for bound in value_range)
    return low, high


def limits(value_range: ValueRange) -> tuple[float, float]:
    """The least and the greatest value of any channel."""
    low, high = (bound if isinstance(bound, tuple) else (bound,) for bound in value_range)
    return min(*low, *high), max(*low, *high)


def range_words(value_range: ValueRange) -> str:
    """The range in words, `-1..1`; the widest over channels."""
    low, high = limits(value_range)
    return f"{low:.4g}..{high:.4g}"


def _shifted(bound: Bound, mean: Sequence[float], std: Sequence[float]) -> Bound:
    count = max(len(mean), len(std), len(bound) if isinstance(bound, tuple) else 1)
    bounds = bound if isinstance(bound, tuple) else (bound,)
    columns = ([*values] * count if len(values) == 1 else [*values]
               for values in (bounds, mean, std))  # fmt: skip
    moved = tuple(round((b - m) / s, 6) for b, m, s in zip(*columns, strict=True))
    return moved[0] if len(set(moved)) == 1 else moved


def _column(bound: Bound, images: Tensor) -> Tensor:
    values = bound if isinstance(bound, tuple) else (bound,)
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)

"""Resizing whole image tensors at once, each filter under one exact name.

Seed document 000 showed that the filter decides how hard a data set is, so the name is part of a
run's configuration, and a filter means the same thing on every machine:

    nearest           index floor(i * in / out), as torch and torchvision do on tensors (the
                      documents' tool); the picture moves by up to half a pixel
    nearest-exact     index floor((i + .5) * in / out) in torch's single precision
    pillow-nearest    the same in Pillow's double precision: other pixels where a centre is a tie
    area              mean over the covered pixels, torch's adaptive mean
    box, bilinear, hamming, bicubic, lanczos
                      Pillow's filters, antialiased; on uint8 equal to Pillow bit for bit, width
                      first (Pillow 13 takes the height first where it shrinks much more)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aelab.errors import DataError, ShapeError, did_you_mean, one_of

ResizeFilter = Literal[
    "nearest",
    "nearest-exact",
    "pillow-nearest",
    "area",
    "box",
    "bilinear",
    "hamming",
    "bicubic",
    "lanczos",
]

#: Numbers held at once in double precision while resizing: 2 MB, so that they stay in a cache.
_CHUNK_ELEMENTS = 1 << 18

#: Pillow's fixed point: weights are rounded to 1 / 2**22.
_ONE = float(1 << 22)


def filter_name(interpolation: bool | str) -> ResizeFilter:
    """The exact filter behind the old flag: True is `bilinear`, False is `nearest`.

    Raises:
        DataError: if a word is not the name of a filter.
    """
    if isinstance(interpolation, bool):
        return "bilinear" if interpolation else "nearest"
    name = str(interpolation).lower().replace("_", "-")
    if name not in FILTERS:
        raise DataError(
            f"no resize filter is called {interpolation!r}{did_you_mean(name, FILTERS)}",
            hint=f"possible: True (bilinear), False (nearest), {one_of(FILTERS)}",
        )
    return name  # type: ignore[return-value]


def resize(
    pixels: Tensor,
    size: tuple[int, int],
    filter: bool | ResizeFilter | str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """Images at another size.

    Args:
        pixels: (..., H, W), uint8 0..255 or float of any range.
        size: (height, width) wanted.
        filter: see `FILTERS`; True is `bilinear`, False is `nearest`.
        antialias: False leaves the filter's width at one source pixel when shrinking.

    Returns:
        (..., height, width) of the same dtype; `pixels` itself where the size fits already. A float
        result stays within the range of its input (bicubic and lanczos would overshoot).

    Raises:
        ShapeError: if a size is below 1.
        DataError: if the filter is unknown.

    Source: Pillow, src/libImaging/Resample.c and Geometry.c.
    """
    name = filter_name(filter)
    height, width = size
    if height < 1 or width < 1 or pixels.shape[-1] < 1 or pixels.shape[-2] < 1:
        raise ShapeError(f"cannot resize {tuple(pixels.shape)} to {tuple(size)}: sizes start at 1")
    if tuple(pixels.shape[-2:]) == (height, width) or pixels.numel() == 0:
        return pixels if pixels.numel() else pixels.new_empty((*pixels.shape[:-2], height, width))
    flat = pixels.reshape(-1, *pixels.shape[-2:])
    largest = max(flat.shape[1], height) * max(flat.shape[2], width)
    step = max(1, _CHUNK_ELEMENTS // largest)
    chunks = [_resize_planes(part, size, name, antialias) for part in torch.split(flat, step)]
    return torch.cat(chunks).reshape(*pixels.shape[:-2], height, width)


def nearest_index(inner: int, outer: int, filter: str) -> Tensor:
    """Which of `inner` source pixels each of `outer` pixels takes; (outer,) int64."""
    if filter == "pillow-nearest":
        return torch.tensor(_pillow_nearest(inner, outer))
    line = torch.arange(inner, dtype=torch.float32)[None, None]
    return F.interpolate(line, outer, mode=filter)[0, 0].long()


def _resize_planes(planes: Tensor, size: tuple[int, int], filter: str, antialias: bool) -> Tensor:
    if filter in {"nearest", "nearest-exact", "pillow-nearest"}:
        rows = nearest_index(planes.shape[1], size[0], filter).to(planes.device)
        columns = nearest_index(planes.shape[2], size[1], filter).to(planes.device)
        return planes.index_select(1, rows).index_select(2, columns)
    if filter == "area":
        mean = F.interpolate(planes[:, None].double(), size, mode="area")[:, 0]
        return _as(mean, planes.dtype)
    whole = planes.dtype == torch.uint8
    low, high = (0.0, 255.0) if whole else _range(planes)
    count, inner_height, inner_width = planes.shape
    # Rows first: both passes are then one large product each, without strided copies of doubles.
    rows = planes.transpose(0, 1).double().contiguous().view(-1, inner_width)  # (H * N, W)
    across = _weights(inner_width, size[1], filter, antialias, whole)
    rows = _product(rows, across, low, high, whole).view(inner_height, -1)  # (H, N * width)
    along = _weights(inner_height, size[0], filter, antialias, whole)
    rows = _product(along.T, rows, low, high, whole)  # (height, N * width)
    return rows.to(planes.dtype).view(size[0], count, size[1]).transpose(0, 1)


def _product(left: Tensor, right: Tensor, low: float, high: float, whole: bool) -> Tensor:
    """One pass, rounded and clamped as Pillow does it between the passes.

    Whole numbers times weights of 1 / 2**22 are exact in double precision.
    """
    if left.device != right.device:
        device = left.device if left.device.type != "cpu" else right.device
        left, right = left.to(device), right.to(device)
    if not whole:
        return (left @ right).clamp_(low, high)
    half = left.new_full((), 0.5)
    return torch.addmm(half, left, right).floor_().clamp_(low, high)


@lru_cache(maxsize=64)
def _weights(inner: int, outer: int, filter: str, antialias: bool, whole: bool) -> Tensor:
    """(inner, outer) float64: each source pixel's share; rounded to 1 / 2**22 if `whole`."""
    if inner == outer:  # Pillow leaves out a pass that changes nothing
        return torch.eye(inner, dtype=torch.float64)
    shape, support = _SHAPES[filter]
    scale = inner / outer
    spread = max(scale, 1.0) if antialias else 1.0
    reach = support * spread
    matrix = torch.zeros(inner, outer, dtype=torch.float64)
    for column in range(outer):
        centre = (column + 0.5) * scale
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), inner)
        values = [shape((row - centre + 0.5) / spread) for row in range(first, last)]
        total = math.fsum(values) or 1.0
        for row, value in enumerate(values, first):
            share = value / total
            fixed = int(share * _ONE + math.copysign(0.5, share)) / _ONE
            matrix[row, column] = fixed if whole else share
    return matrix


def _pillow_nearest(inner: int, outer: int) -> list[int]:
    """Pillow adds the step up instead of multiplying, which decides the ties."""
    step = inner / outer
    place = step * 0.5
    index = []
    for _ in range(outer):
        index.append(min(int(place), inner - 1))
        place += step
    return index


def _range(planes: Tensor) -> tuple[float, float]:
    low, high = planes.aminmax()
    return float(low), float(high)


def _as(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else values.to(dtype)


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    return math.sin(x) / x * (0.54 + 0.46 * math.cos(x))


def _cubic(x: float) -> float:
    """Keys' cubic with a = -0.5."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


_SHAPES: dict[str, tuple[Callable[[float], float], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}

#: Every name of a filter.
FILTERS: tuple[str, ...] = ("nearest", "nearest-exact", "pillow-nearest", "area", *_SHAPES)

"""Resizing of image tensors, with one exact name for each filter.

The filter changes how hard a data set is (docs/results/compare-datasets.md). So its name is part of
a run's configuration, and it gives the same pixels on every machine:

    nearest           index floor(i * in / out), as torch and torchvision on tensors (and the
                      documents' tool); shifts the image by up to half a pixel
    nearest-exact     index floor((i + .5) * in / out) in torch's single precision
    pillow-nearest    the same in Pillow's double precision; differs where a centre is a tie
    area              mean over the covered pixels, torch's adaptive mean
    box, bilinear, hamming, bicubic, lanczos
                      Pillow's filters, antialiased, width first; on uint8 bit-identical to Pillow
                      if both sides change by the same factor. Else Pillow 13 often resizes the
                      height first, which rounds and clamps differently
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

#: Numbers held at once in double precision while resizing: 2 MB, which fits into a CPU cache.
_CHUNK_ELEMENTS = 1 << 18

#: Numbers in one product at most (32 MB); a single larger image is resized in parts.
_PASS_ELEMENTS = 1 << 22

#: Weights of one pass at most (512 MB), and at most in the cache.
_MOST_WEIGHTS, _KEPT_WEIGHTS = 1 << 26, 1 << 20

#: A part of the result: top, left, height, width.
Window = tuple[int, int, int, int]
_Part = tuple[range, range]

_NEAREST = frozenset({"nearest", "nearest-exact", "pillow-nearest"})

#: Pillow's fixed point: weights are rounded to 1 / 2**22.
_ONE = float(1 << 22)


def filter_name(interpolation: bool | str) -> ResizeFilter:
    """The exact filter name; for the old flag True is `bilinear`, False is `nearest`.

    Raises:
        DataError: there is no filter of this name.
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
    window: Window | None = None,
) -> Tensor:
    """Resizes images.

    Args:
        pixels: (..., H, W), uint8 0..255 or float of any range.
        size: (height, width) of the result.
        filter: see `FILTERS`; True is `bilinear`, False is `nearest`.
        antialias: False keeps the filter's width at one source pixel when shrinking.
        window: compute only this part of the result, (top, left, height, width): the same pixels
            with far less memory if the whole is large.

    Returns:
        (..., height, width) of the same dtype; `pixels` itself if it has this size already. A float
        result is clamped to the range of its input (bicubic and lanczos would overshoot).

    Raises:
        ShapeError: if a size is below 1.
        DataError: if the filter is unknown.

    Source: Pillow, src/libImaging/Resample.c and Geometry.c.
    """
    return _resized(pixels, size, filter_name(filter), antialias, window)


def _resized(
    pixels: Tensor,
    size: tuple[int, int],
    name: str,
    antialias: bool,
    window: Window | None,
    clamp: bool = True,
) -> Tensor:
    """As `resize`; without `clamp` float results may overshoot."""
    height, width = size
    if height < 1 or width < 1 or pixels.shape[-1] < 1 or pixels.shape[-2] < 1:
        raise ShapeError(f"cannot resize {tuple(pixels.shape)} to {tuple(size)}: sizes start at 1")
    top, left, rows, columns = window or (0, 0, height, width)
    if tuple(pixels.shape[-2:]) == (height, width) or pixels.numel() == 0:
        if not pixels.numel():
            return pixels.new_empty((*pixels.shape[:-2], rows, columns))
        return pixels if window is None else pixels[..., top : top + rows, left : left + columns]
    flat = pixels.reshape(-1, *pixels.shape[-2:])  # (planes, H, W)
    step = _chunk_planes(flat.shape[-2:], (rows, columns))
    part = range(top, top + rows), range(left, left + columns)
    made: Tensor | None = None
    for number, some in enumerate(torch.split(flat, step)):
        chunk = _resize_planes(some, size, name, antialias, part, clamp)
        if made is None:
            made = chunk.new_empty(len(flat), rows, columns)
        made[number * step : number * step + len(chunk)] = chunk
    assert made is not None
    return made.reshape(*pixels.shape[:-2], rows, columns)


def _chunk_planes(given: Sequence[int], made: Sequence[int]) -> int:
    """Number of planes (H, W) that are resized together."""
    return max(1, _CHUNK_ELEMENTS // (max(given[0], made[0]) * max(given[1], made[1])))


def whole_chunks(shape: tuple[int, ...], size: tuple[int, int]) -> int:
    """The smallest number of images of `shape` (C, H, W) that fill whole chunks of `resize`.

    A set that is cut after a multiple of this number and resized part by part equals, bit for bit,
    the set resized at once, floats included.
    """
    step = _chunk_planes(shape[1:], size)
    # The smallest n for which n * C planes are a multiple of `step`.
    return step // math.gcd(step, shape[0])


def resize_rgba(
    pixels: Tensor, size: tuple[int, int], filter: str, window: Window | None = None
) -> Tensor:
    """Resizes images with alpha; colours are weighted by their alpha.

    Otherwise the invisible colour of transparent pixels would show at the edge of a sprite.

    Args:
        pixels: (..., 4, H, W) uint8 or float of 0..1, colours not multiplied by alpha.
        size, filter, window: as for `resize`.

    Returns:
        (..., 4, height, width) of the same dtype; fully transparent pixels are black.
    """
    if filter in _NEAREST or tuple(pixels.shape[-2:]) == tuple(size):
        return resize(pixels, size, filter, window=window)
    white = 255.0 if pixels.dtype == torch.uint8 else 1.0
    alpha = pixels[..., 3:, :, :].double() / white
    colour = pixels[..., :3, :, :].double() / white
    weighed = torch.cat([colour * alpha, alpha], -3)
    # Clamped only after the division: colour and alpha overshoot in the same way.
    made = _resized(weighed, size, filter_name(filter), True, window, clamp=False)
    alpha = made[..., 3:, :, :]
    colour = torch.where(alpha > 0.5 / 255, made[..., :3, :, :] / alpha.clamp(min=1e-9), 0.0)
    result = torch.cat([colour, alpha], -3).clamp(0, 1) * white
    return (result.round() if pixels.dtype == torch.uint8 else result).to(pixels.dtype)


def nearest_index(inner: int, outer: int, filter: str) -> Tensor:
    """Source index, of `inner` pixels, for each of `outer` pixels; (outer,) int64."""
    if filter == "pillow-nearest":
        return torch.tensor(_pillow_nearest(inner, outer))
    # Asks torch itself, so that the rounding is exactly its own.
    line = torch.arange(inner, dtype=torch.float32)[None, None]
    return F.interpolate(line, outer, mode=filter)[0, 0].long()


def _resize_planes(
    planes: Tensor, size: tuple[int, int], filter: str, antialias: bool, part: _Part, clamp: bool
) -> Tensor:
    down, right = part
    if filter in _NEAREST:
        rows = nearest_index(planes.shape[1], size[0], filter)[down.start : down.stop]
        columns = nearest_index(planes.shape[2], size[1], filter)[right.start : right.stop]
        rows, columns = rows.to(planes.device), columns.to(planes.device)
        return planes.index_select(1, rows).index_select(2, columns)
    if filter == "area":
        return _as(_area(planes.double(), size, part), planes.dtype)
    whole = planes.dtype == torch.uint8
    low, high = (0.0, 255.0) if whole else _range(planes) if clamp else (-math.inf, math.inf)
    count, inner_height, inner_width = planes.shape
    # Rows first: both passes are then one large product each, without strided copies of doubles.
    source = planes.transpose(0, 1).reshape(-1, inner_width)  # (H * N, W)
    if size[1] == inner_width:  # Pillow skips a pass that changes nothing
        rows = source[:, right.start : right.stop].double().clamp_(low, high)
    else:
        across = _shares(inner_width, size[1], filter, antialias, whole, right)
        step = max(1, _PASS_ELEMENTS // inner_width)
        parts = [
            _product(some.double(), across, low, high, whole) for some in torch.split(source, step)
        ]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    rows = rows.reshape(inner_height, -1)  # (H, N * width)
    if size[0] == inner_height:
        rows = rows[down.start : down.stop]
    else:
        along = _shares(inner_height, size[0], filter, antialias, whole, down)
        rows = _product(along.T, rows, low, high, whole)  # (height, N * width)
    return rows.to(planes.dtype).view(len(down), count, len(right)).transpose(0, 1)


def _area(planes: Tensor, size: tuple[int, int], part: _Part) -> Tensor:
    """torch's adaptive mean, cut to `part`; of a large result only that part is computed."""
    down, right = part
    if size[0] * size[1] <= _PASS_ELEMENTS:
        made = F.interpolate(planes[:, None], size, mode="area")[:, 0]
        return made[:, down.start : down.stop, right.start : right.stop]
    made = planes.new_empty(len(planes), len(down), len(right))
    for y, row in enumerate(down):
        rows = slice(*_covered(row, planes.shape[1], size[0]))
        for x, column in enumerate(right):
            block = planes[:, None, rows, slice(*_covered(column, planes.shape[2], size[1]))]
            made[:, y, x] = F.interpolate(block, (1, 1), mode="area")[:, 0, 0, 0]
    return made


def _covered(place: int, inner: int, outer: int) -> tuple[int, int]:
    """The source pixels (first, last + 1) that one pixel of `area` averages."""
    return place * inner // outer, -(-(place + 1) * inner // outer)


def _product(left: Tensor, right: Tensor, low: float, high: float, whole: bool) -> Tensor:
    """One pass of a resize, rounded and clamped as Pillow does between its passes.

    Whole numbers times weights of 1 / 2**22 are exact in double precision.
    """
    if left.device != right.device:
        device = left.device if left.device.type != "cpu" else right.device
        left, right = left.to(device), right.to(device)
    if not whole:
        return (left @ right).clamp_(low, high)
    half = left.new_full((), 0.5)  # adding 0.5 and rounding down, as Pillow's fixed point does
    return torch.addmm(half, left, right).floor_().clamp_(low, high)


def _shares(
    inner: int, outer: int, filter: str, antialias: bool, whole: bool, part: range
) -> Tensor:
    """Resize weights, (inner, len(part)) float64; rounded to 1 / 2**22 if `whole`.

    Raises:
        ShapeError: the weights alone would need more than 512 MB.
    """
    if inner * len(part) > _MOST_WEIGHTS:
        raise ShapeError(
            f"resizing a side of {inner:,} pixels to {len(part):,} needs too much memory",
            hint="cut such pictures into parts, or shrink them before",
        )
    # Large matrices bypass the cache.
    make = _weights if inner * len(part) <= _KEPT_WEIGHTS else _weights.__wrapped__
    return make(inner, outer, filter, antialias, whole, part.start, part.stop)


@lru_cache(maxsize=64)
def _weights(
    inner: int, outer: int, filter: str, antialias: bool, whole: bool, first: int, last: int
) -> Tensor:
    """Columns `first` to `last` of the (inner, outer) weight matrix; see `_shares`."""
    shape, support = _SHAPES[filter]
    scale = inner / outer
    spread = max(scale, 1.0) if antialias else 1.0  # a filter is widened only when shrinking
    reach = support * spread
    matrix = torch.zeros(inner, last - first, dtype=torch.float64)
    for column in range(first, last):
        centre = (column + 0.5) * scale  # in source pixels
        top = max(int(centre - reach + 0.5), 0)
        end = min(int(centre + reach + 0.5), inner)
        values = [shape((row - centre + 0.5) / spread) for row in range(top, end)]
        total = math.fsum(values) or 1.0
        for row, value in enumerate(values, top):
            share = value / total
            # Pillow rounds half away from zero here.
            fixed = int(share * _ONE + math.copysign(0.5, share)) / _ONE
            matrix[row, column - first] = fixed if whole else share
    return matrix


def _pillow_nearest(inner: int, outer: int) -> list[int]:
    """Pillow's nearest indices. Pillow sums up the step instead of multiplying: ties differ."""
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

"""Changes of shape and range: size, channels, and the values of black and white."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import Steps
from aelab.data.base import Change, Description, Shape, make_images
from aelab.data.memory import refuse_too_large
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.errors import DataError, ShapeError
from aelab.ops.color import convert_channels
from aelab.ops.resize import Window, filter_name, resize, resize_rgba, whole_chunks
from aelab.types import Images


@dataclass(frozen=True)
class ToShape(Change):
    """Converts to another (C, H, W): channels first, then the size, then an optional range.

    Args:
        shape: (C, H, W) wanted; None keeps the shape of the set.
        interpolation: True is `bilinear` (antialiased), False `nearest`, or the name of a filter.
            Without effect, and not part of the fingerprint, if the size fits already.
        normalize_between: (low, high): each image's own minimum and maximum are mapped to these;
            the pixels are then float32.
    """

    shape: tuple[int, ...] | None = None
    interpolation: bool | str = True
    normalize_between: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        shape = None if self.shape is None else checked_shape(self.shape)
        between = self.normalize_between
        if between is not None:
            between = checked_range(between, "normalize_between")
        # The dataclass is frozen, so checked values are set this way once.
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "interpolation", filter_name(self.interpolation))
        object.__setattr__(self, "normalize_between", between)

    def settled(self, before: Description) -> Change:
        """The same change, after checking that the medium allows it.

        Raises:
            ConfigError: the medium of the set does not allow it.
        """
        medium = before.medium
        if not medium.allows("resize") and self.shape not in (None, before.item_shape()):
            medium.refuse(before.name, "resize")
        if self.normalize_between:
            medium.refuse(before.name, "normalize_between")
        return self

    def key(self, before: Description) -> str:
        """The shape, the filter where it matters, and the range."""
        resized = self.shape is not None and self.shape[1:] != before.item_shape()[-2:]
        filter = self.interpolation if resized else ""
        return f"-> {self.shape} {filter} {self.normalize_between}"

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """(C, H, W) as wanted, or the shape before."""
        return self.shape or before.item_shape()

    def seconds_after(self, before: Description) -> float | None:
        """Seconds of the set before, plus a millisecond for 50,000 changed values."""
        seconds = before.reading_seconds()
        if seconds is None or (self.shape in (None, before.item_shape())
                               and self.normalize_between is None):  # fmt: skip
            return seconds
        return seconds + 2e-8 * (before.count() or 0) * math.prod(before.item_shape())

    def is_bytes_after(self, before: Description) -> bool:
        """As before, unless a range is asked for: then the pixels are float32."""
        return self.normalize_between is None and before.is_bytes()

    def raw_after(self, before: Description) -> bool:
        """False: per-sample functions get float32 in 0..1."""
        return False

    def apply(self, images: Images, before: Description) -> Images:
        """Changes the whole set, or after random changes each batch."""
        if images.augment:
            return self._after(images)
        change = self._of(images)
        resized = images.shape[1:] != change.shape[1:]
        facts = self._facts(images, resized)
        fits = images.shape == change.shape and images.pixels.is_contiguous()
        if fits and self.normalize_between is None:
            return replace(images, facts=facts)
        what = f"{before.name} at {'x'.join(map(str, change.shape))}, {len(images):,} images,"
        refuse_too_large(8 * math.prod(change.shape), what)  # one image, in double precision
        room = PixelRoom(len(images), what)
        value_bytes = 4 if self.normalize_between else images.pixels.itemsize
        item_bytes = math.prod(change.shape) * value_bytes
        # Parts of whole chunks, so that the result is the same, bit for bit, as in one go.
        multiple = change.whole_chunks(images.shape)
        for some in parts_of(len(images), item_bytes, multiple):
            room.add(change(images.pixels[some]))
        facts["memory_mapped"] = room.mapped
        return make_images(
            room.done(),
            labels=images.labels,
            augment=images.augment,
            provenance=images.provenance,
            facts=facts,
            medium=images.medium,
            value_range=self.normalize_between or images.value_range,
            file_names=images.file_names,
            factors=images.factors,
        )

    def _of(self, images: Images) -> BatchResize:
        """The operation on the pixels of these images."""
        alpha = bool(images.facts.get("alpha"))
        channels, height, width = self.shape or images.shape
        filter = filter_name(self.interpolation)
        return BatchResize((channels, height, width), filter, self.normalize_between, alpha)

    def _facts(self, images: Images, resized: bool) -> dict[str, Any]:
        """The recorded facts of the images afterwards."""
        facts = {**images.facts, "resized": bool(images.facts.get("resized")) or resized}
        if resized:
            facts["filter"] = self.interpolation
        return facts

    def _after(self, images: Images) -> Images:
        """Adds this change after the random ones, so that it runs on each batch."""
        if self.normalize_between is None and self.shape in (None, images.shape):
            return images
        change = self._of(images)
        return replace(
            images,
            augment=(*images.augment, Steps(change, sets_range=self.normalize_between is not None)),
            facts=self._facts(images, images.shape[1:] != change.shape[1:]),
            value_range=self.normalize_between or images.value_range,
        )


class Relative(Change):
    """A resize whose shape depends on the set."""

    @abstractmethod
    def settled(self, before: Description) -> Change:
        """The resize with a fixed shape for this set."""

    def apply(self, images: Images, before: Description) -> Images:
        """Applies that resize."""
        return self.settled(before).apply(images, before)


@dataclass(frozen=True)
class Size(Relative):
    """Resizes to another (H, W) and keeps the channels."""

    size: tuple[int, ...]
    interpolation: bool | str = True

    def settled(self, before: Description) -> Change:
        """The resize to (H, W) with the channels of the set."""
        return ToShape((before.shape[0], *self.size), self.interpolation).settled(before)


@dataclass(frozen=True)
class Scale(Relative):
    """Multiplies height and width by `factor`, rounded, at least 1."""

    factor: float
    interpolation: bool | str = True

    def settled(self, before: Description) -> Change:
        """The resize to the rounded size."""
        channels, *sides = before.shape
        size = (max(1, round(side * self.factor)) for side in sides)
        return ToShape((channels, *size), self.interpolation).settled(before)


@dataclass(frozen=True)
class ValuesBetween(Change):
    """Declares that `low` is black and `high` white, without changing a pixel.

    Use it for floats in another range than 0..1, so that metrics and pictures are right.
    """

    low: float
    high: float

    def settled(self, before: Description) -> Change:
        """The same change with two checked numbers.

        Raises:
            ConfigError: the medium of the set does not allow it.
            DataError: `low` and `high` are no range.
        """
        before.medium.refuse(before.name, "values_between")
        return ValuesBetween(*checked_range((self.low, self.high), "values_between"))

    def apply(self, images: Images, before: Description) -> Images:
        """The same pixels."""
        return replace(images, value_range=(self.low, self.high))


@dataclass(frozen=True)
class BatchResize:
    """The operation of `ToShape` on a batch or a whole set, (N, C, H, W)."""

    shape: Shape
    filter: str
    normalize_between: tuple[float, float] | None
    alpha: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        images = prepare(images, self.shape, self.filter, alpha=self.alpha)
        return normalize(images, *self.normalize_between) if self.normalize_between else images

    def whole_chunks(self, shape: Shape) -> int:
        """The number of images of `shape` resized together; see `ops.resize.whole_chunks`."""
        if shape[1:] == self.shape[1:]:
            return 1
        channels = 1 if self.shape[0] == 1 else shape[0]
        return whole_chunks((channels, *shape[1:]), self.shape[1:])

    def __repr__(self) -> str:
        # Records of runs hold this text and runs are compared by it, so it must not change.
        return (
            f"Change(shape={self.shape!r}, filter={self.filter!r}, "
            f"normalize_between={self.normalize_between!r})"
        )


def prepare(
    pixels: Tensor,
    shape: Shape,
    filter: str,
    window: Window | None = None,
    *,
    alpha: bool = False,
) -> Tensor:
    """Converts (N, C', H', W') to `shape` (C, H, W); returns the same tensor if it fits.

    Args:
        pixels: uint8, or float in 0..1.
        shape: wanted.
        filter: of `ops.resize`.
        window: only this part of the result, (top, left, height, width).
        alpha: four channels are red, green, blue and alpha; colours are weighted by alpha.
    """
    pixels = convert_channels(pixels, 1) if shape[0] == 1 else pixels
    if alpha and pixels.shape[1] == shape[0] == 4:
        return resize_rgba(pixels, shape[1:], filter, window).contiguous()
    # Grey before the resize, extra channels after it: fewer channels to resize.
    pixels = resize(pixels, shape[1:], filter, window=window)
    return convert_channels(pixels, shape[0]).contiguous()


def normalize(pixels: Tensor, low: float, high: float) -> Tensor:
    """float32: maps each image's own range to low..high; a constant image becomes `low`."""
    values = pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels.float()
    # (N, 1, 1, 1): over all channels together, so that hues are kept.
    least = values.amin(dim=(1, 2, 3), keepdim=True)
    most = values.amax(dim=(1, 2, 3), keepdim=True)
    # The clamp avoids 0 / 0 for constant images, whose numerator is 0.
    return (values - least) / (most - least).clamp(min=1e-12) * (high - low) + low


def checked_range(given: Any, name: str) -> tuple[float, float]:
    """(low, high), two different finite numbers, the lower one first.

    Raises:
        DataError: otherwise, with what was given.
    """
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(
            f"{name} is a pair (low, high) of two numbers, the lower first, got {given!r}",
            hint="for instance (-1, 1)",
        )
    return low, high


def checked_shape(shape: tuple[int, ...] | int) -> Shape:
    """(C, H, W) of positive integers.

    Raises:
        ShapeError: otherwise, with what was given.
    """
    try:
        sizes = tuple(int(size) for size in shape)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise ShapeError(
            f"a shape is three sizes (channels, height, width) from 1 up, got {shape!r}",
            hint="for instance shape=(1, 28, 28)",
        )
    return sizes[0], sizes[1], sizes[2]

"""Bringing a set to the wished shape: channels first, then size, then an optional range."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import Steps
from aelab.data.base import Dataset, Shape, make_images
from aelab.data.memory import refuse_too_large
from aelab.data.wrapped import Wrapped
from aelab.errors import DataError, ShapeError
from aelab.ops.color import convert_channels
from aelab.ops.resize import Window, filter_name, resize, resize_rgba
from aelab.types import Images, ValueRange


class Prepared(Wrapped):
    """A set at another shape.

    Args:
        source: the set as it is stored.
        shape: (C, H, W) wanted; None keeps the source's.
        interpolation: True is `bilinear` (antialiased), False `nearest`, or the name of a filter.
            Without effect, and out of the fingerprint, where the size fits already.
        normalize_between: (low, high): each image's own minimum and maximum go there; the pixels
            are then float32.
    """

    def __init__(
        self,
        source: Dataset,
        shape: tuple[int, ...] | None = None,
        interpolation: bool | str = True,
        normalize_between: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(source)
        self.raw = False
        self.wanted = checked_shape(shape) if shape is not None else None
        self.resize_filter = filter_name(interpolation)
        self.normalize_between = normalize_between
        if normalize_between is not None:
            self.normalize_between = checked_range(normalize_between, "normalize_between")
        if not source.medium.allows("resize") and self.wanted not in (None, source.item_shape()):
            source.medium.refuse(source.name, "resize")
        if normalize_between:
            source.medium.refuse(source.name, "normalize_between")

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as wanted, or as in the other set."""
        return self.wanted or self.source.item_shape()

    def reading_seconds(self) -> float | None:
        """As in the other set, and a millisecond for 50,000 values that are changed."""
        before = self.source.reading_seconds()
        if before is None or (self.wanted in (None, self.source.item_shape())
                              and self.normalize_between is None):  # fmt: skip
            return before
        count = self.source.count() or 0
        return before + 2e-8 * count * math.prod(self.source.item_shape())

    def is_bytes(self) -> bool:
        """As in the other set, unless a range is asked for."""
        return self.normalize_between is None and self.source.is_bytes()

    def fingerprint(self) -> str:
        """The other set, the shape, the filter where it matters, and the range."""
        size = self.source.item_shape()[-2:]
        resized = self.wanted is not None and self.wanted[1:] != size
        filter = self.resize_filter if resized else ""
        return f"{self.source.fingerprint()} -> {self.wanted} {filter} {self.normalize_between}"

    def _read(self) -> Images:
        images = self.source.load()
        if images.augment:
            return self._after(images)
        shape = self.wanted or images.shape
        refuse_too_large(
            len(images) * math.prod(shape) * (4 if self.normalize_between else 1),
            f"{self.name} at {'x'.join(map(str, shape))}, {len(images):,} images,",
        )
        alpha = bool(images.facts.get("alpha"))
        pixels = prepare(images.pixels, shape, self.resize_filter, alpha=alpha)
        facts: dict[str, Any] = dict(images.facts)
        resized = tuple(images.pixels.shape[2:]) != shape[1:]
        facts["resized"] = bool(facts.get("resized")) or resized
        if resized:
            facts["filter"] = self.resize_filter
            facts["memory_mapped"] = False
        value_range: ValueRange = images.value_range
        if self.normalize_between is not None:
            pixels = normalize(pixels, *self.normalize_between)
            value_range = self.normalize_between
        if pixels is images.pixels:
            return Images(**{**vars(images), "facts": facts})
        return make_images(
            pixels,
            labels=images.labels,
            augment=images.augment,
            provenance=images.provenance,
            facts=facts,
            medium=images.medium,
            value_range=value_range,
        )

    def _after(self, images: Images) -> Images:
        """Random changes come first, so this one follows them with each batch."""
        if self.normalize_between is None and self.wanted in (None, images.shape):
            return images
        change = Change(
            self.wanted or images.shape, self.resize_filter, self.normalize_between,
            bool(images.facts.get("alpha")),
        )  # fmt: skip
        resized = images.shape[1:] != change.shape[1:]
        facts = {**images.facts, "resized": bool(images.facts.get("resized")) or resized}
        if resized:
            facts["filter"] = self.resize_filter
        return replace(
            images,
            augment=(*images.augment, Steps(change, sets_range=self.normalize_between is not None)),
            facts=facts,
            value_range=self.normalize_between or images.value_range,
        )


@dataclass(frozen=True)
class Change:
    """What `Prepared` does, for one batch."""

    shape: Shape
    filter: str
    normalize_between: tuple[float, float] | None
    alpha: bool = field(default=False, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        images = prepare(images, self.shape, self.filter, alpha=self.alpha)
        return normalize(images, *self.normalize_between) if self.normalize_between else images


def prepare(
    pixels: Tensor,
    shape: Shape,
    filter: str,
    window: Window | None = None,
    *,
    alpha: bool = False,
) -> Tensor:
    """(N, C', H', W') at `shape` (C, H, W); the same tensor where it fits.

    Args:
        pixels: uint8 or float of 0..1.
        shape: wanted.
        filter: of `ops.resize`.
        window: only this part of the result, (top, left, height, width).
        alpha: four channels are red, green, blue and alpha, which weighs them.
    """
    pixels = convert_channels(pixels, 1) if shape[0] == 1 else pixels
    if alpha and pixels.shape[1] == shape[0] == 4:
        return resize_rgba(pixels, shape[1:], filter, window).contiguous()
    # Fewest channels first: less to resize.
    pixels = resize(pixels, shape[1:], filter, window=window)
    return convert_channels(pixels, shape[0]).contiguous()


def normalize(pixels: Tensor, low: float, high: float) -> Tensor:
    """Each image's own range moved to low..high; a constant image becomes `low`. float32."""
    values = pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels.float()
    least = values.amin(dim=(1, 2, 3), keepdim=True)
    most = values.amax(dim=(1, 2, 3), keepdim=True)
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

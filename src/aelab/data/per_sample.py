"""Per-sample functions: run once over a set if they are deterministic, else with each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import EachItem, Steps, seeded, to_bytes
from aelab.data.base import Change, Description, make_images, refuse_other_range
from aelab.data.functions import call_on_image, function_key, refuse_missing_names
from aelab.data.pixel_room import PixelRoom
from aelab.data.transforms import RandomAugment, RandomTransform, Transform, flat_transforms
from aelab.errors import DataError, ShapeError
from aelab.ops.look import TOLERANCE, tried
from aelab.ops.value_range import UNIT, guessed_range, limits
from aelab.preparation import track
from aelab.types import Augment, Images, ValueRange

Function = Callable[[Any], Any]
_BATCH = 512


@dataclass(frozen=True)
class Started:
    """The conversion of type and the factor applied to an item or a batch before the functions."""

    dtype: torch.dtype | None = None
    multiply: float | None = None

    def __call__(self, images: Tensor) -> Tensor:
        images = images if self.dtype is None else images.to(self.dtype)
        return images if self.multiply is None else images * self.multiply


@dataclass(frozen=True)
class _Plan:
    """Which functions run once, and which changes run with each batch."""

    once: tuple[Function, ...]
    always: tuple[Augment, ...]


@dataclass(frozen=True, repr=False)
class PerSample(Change):
    """Applies functions of one image in order, after an optional dtype and factor.

    Functions that draw no random numbers run once and the result is kept; from the first random one
    on they run with each batch, our own (`VT.RandomCrop`, ...) batched, others one image at a time
    (slow: `.freeze()` runs them once).

    Args:
        functions: called with one item: float32 (C, H, W) in 0..1 unless the set is raw.
        dtype: type of the item given to the functions.
        multiply: factor, for instance 1/255.
    """

    functions: tuple[Function, ...] = ()
    dtype: torch.dtype | None = None
    multiply: float | None = None
    texts: list[str] = field(init=False)
    tried: dict[Any, tuple[int, ...]] = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        # Computed once: a function that cannot be compared gets a new key at each call.
        object.__setattr__(self, "texts", [function_key(function) for function in self.functions])

    @property
    def started(self) -> Started:
        """The conversion before the functions."""
        return Started(self.dtype, self.multiply)

    @property
    def changes_nothing(self) -> bool:
        """Whether there is no function, no dtype and no factor."""
        return self.started == Started() and not self.functions

    def __repr__(self) -> str:
        """Names the functions by their content, not their address: fingerprints use this text."""
        return f"{self.dtype} {self.multiply} {self.texts}"

    def settled(self, before: Description) -> Change | None:
        """The same change, after checking that the medium allows it.

        Raises:
            ConfigError: the medium of the set does not allow it.
        """
        given = {"dtype": self.dtype, "multiply": self.multiply}
        named = [name for name, value in given.items() if value is not None]
        before.medium.refuse(before.name, *named, *self.functions)
        return self

    def verify(self, before: Description) -> None:
        """Raise DataError if a function uses a name that is not defined."""
        refuse_missing_names(before.name, *self.functions)

    def seconds_after(self, before: Description) -> float | None:
        """Seconds of the set before, plus 30 microseconds for each function and image."""
        seconds, count = before.reading_seconds(), before.count()
        if seconds is None or count is None:
            return None
        # About 30 microseconds for a call and a small tensor operation.
        return seconds + 3e-5 * count * len(self.functions)

    def is_bytes_after(self, before: Description) -> bool:
        """As before if nothing is changed; else False, because a function may return any values."""
        return self.changes_nothing and before.is_bytes()

    def raw_after(self, before: Description) -> bool:
        """As before if nothing is changed, else False."""
        return self.changes_nothing and before.raw

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """The shape after the functions, found by one call on a black item."""
        given = (before.item_shape(), before.item_dtype())
        if given not in self.tried:
            self.tried[given] = self._tried_shape(*given, before.name)
        return self.tried[given]

    def _tried_shape(
        self, shape: tuple[int, ...], dtype: torch.dtype, name: str
    ) -> tuple[int, ...]:
        """Runs the functions on a black item and returns the shape of the result."""
        # The model may be built on the meta device; the functions need real values.
        with torch.device("cpu"), seeded(0):
            item = self.started(torch.zeros(shape, dtype=dtype))
            for function in self.functions:
                item = call_on_image(function, item, name, 0)
        if not isinstance(item, Tensor):
            raise DataError(f"{name}: transforms must return a tensor, got {type(item).__name__}")
        return tuple(item.shape)

    def apply(self, images: Images, before: Description) -> Images:
        """Runs the functions on all images; random ones are left for training's batches."""
        if images.augment:  # random changes come first, so all of these follow them
            first = () if self.started == Started() else (Steps(self.started),)
            plan = _Plan((), (*first, *_as_augments(self.functions)))
            pixels, mapped = images.pixels, bool(images.facts.get("memory_mapped"))
        else:
            plan = self._plan(images, before)
            room, drew = self._run(images, plan, before)
            if drew:  # a function that did not draw for the first image, but for a later one
                plan = _Plan((), _as_augments(self.functions))
                room, _ = self._run(images, plan, before)
            mapped, pixels = room.mapped, room.done()
        made = make_images(
            pixels,
            labels=images.labels,
            augment=(*images.augment, *plan.always),
            provenance=images.provenance,
            facts={**images.facts, "memory_mapped": mapped},
            medium=images.medium,
            file_names=images.file_names,
            factors=images.factors,
        )
        own_later = any(isinstance(change, EachItem) for change in plan.always)
        # Values that a user's function gives with each batch are known from some images only.
        seen = tried(made) if own_later else pixels
        value_range = self._range_after(images.value_range, seen, before.name)
        if own_later and not _within(tried(replace(made, augment=())), value_range):
            made = replace(made, augment=(*images.augment, *map(_setting_range, plan.always)))
        return replace(made, value_range=value_range)

    def _range_after(self, given: ValueRange, pixels: Tensor, name: str) -> ValueRange:
        """The values of black and white afterwards; after a user's function guessed from `pixels`.

        Raises:
            DataError: a change expects images in 0..1, and they are in another range.
        """
        own = self.started != Started()
        value_range = UNIT if own else given
        for function in self.functions:
            refuse_other_range(name, value_range, function)
            if isinstance(function, Transform):
                value_range = function.range_after(value_range)
            elif not isinstance(function, RandomTransform):
                own, value_range = True, UNIT
        return guessed_range(pixels) if own and value_range == UNIT else value_range

    def _plan(self, images: Images, before: Description) -> _Plan:
        """Puts all functions before the first random one into `once`; tries them on one image."""
        item = self.started(before.item(images, 0))
        for number, function in enumerate(self.functions):
            # A function is random if it moves the state of torch's or Python's generator.
            state = seeded(number)
            with state:
                item = call_on_image(function, item, before.name, 0)
                drew = isinstance(function, RandomTransform) or state.drew()
            if drew:
                return _Plan(self.functions[:number], _as_augments(self.functions[number:]))
        return _Plan(self.functions, ())

    def _run(self, images: Images, plan: _Plan, before: Description) -> tuple[PixelRoom, bool]:
        """Runs `plan.once` on all images; also returns whether it drew random numbers after all."""
        room = PixelRoom(len(images), f"{before.name}, changed by functions,")
        starts = range(0, len(images), _BATCH)
        state = seeded(0)
        with state:
            for start in track(starts, f"transforming {before.name}", len(images), _BATCH):
                batch = images.pixels[start : start + _BATCH]
                if not before.raw and batch.dtype == torch.uint8:
                    batch = batch.float() / 255.0
                else:
                    batch = batch.clone()  # a function may work in place; the set is shared
                batch = self.started(batch)
                for function in plan.once:
                    batch = _whole(function, batch, before.name, start)
                if plan.always and before.raw and not batch.is_floating_point():
                    batch = batch.float()  # random functions get raw values, not 0..1
                # As uint8 where nothing is lost: a quarter of the memory of float32.
                room.add(batch if self.raw_after(before) else to_bytes(batch))
            return room, state.drew()


def augmentations(transforms: Function | Sequence[Function] | None) -> tuple[Augment, ...]:
    """Converts transforms to random changes of batches, for training's input transforms.

    The lab's own work on the batch; other functions are called with one image at a time.
    """
    return _as_augments(tuple(flat_transforms(transforms)))


def _as_augments(functions: tuple[Function, ...]) -> tuple[Augment, ...]:
    made: list[Augment] = []
    for function in functions:
        if isinstance(function, RandomTransform):
            made.append(RandomAugment(function))
        elif isinstance(function, Transform):
            made.append(Steps(function.batch, sets_range=function.range_after(UNIT) != UNIT))
        elif made and isinstance(made[-1], EachItem):
            # Functions in a row share one pass over the images.
            made[-1] = EachItem((*made[-1].functions, function))
        else:
            made.append(EachItem((function,)))
    return tuple(made)


def _within(pixels: Tensor, value_range: ValueRange) -> bool:
    """Whether images have this range already, as far as their values tell."""
    low, high = limits(value_range)
    slack = TOLERANCE * (high - low)
    if (guessed_range(pixels) == UNIT) != (value_range == UNIT):
        return False
    return low - slack <= float(pixels.min()) and float(pixels.max()) <= high + slack


def _setting_range(change: Augment) -> Augment:
    return replace(change, sets_range=True) if isinstance(change, EachItem) else change


def _whole(function: Function, batch: Tensor, name: str, start: int) -> Tensor:
    """Applies one function to a batch: at once if it is the lab's own, else item by item."""
    if isinstance(function, Transform):
        return function.batch(batch)
    items = [call_on_image(function, item, name, start + i) for i, item in enumerate(batch)]
    shapes = {tuple(item.shape) if isinstance(item, Tensor) else type(item) for item in items}
    if len(shapes) > 1 or not isinstance(items[0], Tensor):
        raise ShapeError(
            f"{name}: a transform must return tensors of one shape, got "
            f"{', '.join(sorted(map(str, shapes))[:5])}",
            hint="end with a crop or a resize to one size",
        )
    return torch.stack(items)

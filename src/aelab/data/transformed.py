"""Per-sample functions: run once over a set when they are deterministic, else with each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import EachItem, Steps, join, seeded, to_bytes
from aelab.data.base import Dataset, content_sha256, make_images
from aelab.data.change import RandomTransform, Transform
from aelab.data.combine import refuse_other_range, repeat, take_rows
from aelab.data.functions import call_function, function_key, refuse_missing_names
from aelab.data.transforms import RandomAugment, flat
from aelab.data.wrapped import Wrapped
from aelab.errors import DataError, ShapeError
from aelab.medium import PIXELS, Medium
from aelab.ops.value_range import UNIT, guessed_range
from aelab.preparation import track
from aelab.types import Augment, Images, Provenance, ValueRange

Function = Callable[[Any], Any]
_BATCH = 512


class TensorDataset(Dataset):
    """Tensors as a set: images, and labels if there are two.

    Items are given to per-sample functions as they are stored, uint8 or float, with or without a
    channel axis, as the old files expect.

    Args:
        tensors: images (N, ...) first, then labels (N,); or the `.data` and `.targets` of a
            described set.
    """

    raw = True

    def __init__(self, *tensors: Any) -> None:
        super().__init__()
        if not tensors or not all(isinstance(t, (Tensor, Dataset)) for t in tensors):
            raise DataError(
                f"TensorDataset takes tensors, got {[type(t).__name__ for t in tensors]}",
                hint="TensorDataset(images, labels), labels being optional",
            )
        counts = {len(t) for t in tensors if isinstance(t, Tensor)}
        if len(counts) > 1 or (0 in counts):
            raise DataError(f"TensorDataset: tensors of different or no length: {sorted(counts)}")
        self.tensors = tensors
        first = tensors[0]
        self.name = first.name if isinstance(first, Dataset) else "tensor"
        self._key = ""

    @property
    def medium(self) -> Medium:
        """As in a set given as a tensor."""
        first = self.tensors[0]
        return first.medium if isinstance(first, Dataset) else PIXELS

    def item_shape(self) -> tuple[int, ...]:
        """The shape of one row of the first tensor."""
        first = self.tensors[0]
        return first.item_shape() if isinstance(first, Dataset) else tuple(first.shape[1:])

    def item_dtype(self) -> torch.dtype:
        """The type per-sample functions get."""
        first = self.tensors[0]
        return torch.uint8 if isinstance(first, Dataset) else first.dtype

    def count(self) -> int | None:
        """The rows of the first tensor."""
        first = self.tensors[0]
        return first.count() if isinstance(first, Dataset) else len(first)

    def reading_seconds(self) -> float | None:
        """That of a copy and its hash."""
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return first.reading_seconds()
        return None if first.is_meta else first.nbytes / 2e8

    def is_bytes(self) -> bool:
        """By the type of the first tensor."""
        first = self.tensors[0]
        return first.is_bytes() if isinstance(first, Dataset) else first.dtype == torch.uint8

    def verify(self) -> None:
        """Raise DataError if files of a set given as a tensor are missing."""
        for tensor in self.tensors:
            if isinstance(tensor, Dataset):
                tensor.verify()

    def sources(self) -> list[tuple[str, str]]:
        """As in the set given, or that a tensor was given."""
        first = self.tensors[0]
        return first.sources() if isinstance(first, Dataset) else [(self.name, "given")]

    def fingerprint(self) -> str:
        """The content of the tensors, hashed once."""
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return f"tensors of {first.fingerprint()}"
        self._key = self._key or " ".join(map(_tensor_key, self.tensors))
        return f"tensor {self._key}"

    def _read(self) -> Images:
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return first.load()
        pixels = first.detach().cpu().clone()  # whoever made the tensor may still change it
        labels = self.tensors[1] if len(self.tensors) > 1 else None
        facts: dict[str, Any] = {}
        if isinstance(labels, Dataset):
            given = labels.load()
            labels, facts["label_names"] = given.labels, list(given.label_names)
        source = Provenance(self.name, "given tensor", len(pixels), content_sha256(pixels))
        return make_images(
            pixels,
            labels=labels,
            provenance=[source],
            facts=facts,
            value_range=guessed_range(pixels),
        )


def _tensor_key(tensor: Tensor | Dataset) -> str:
    if isinstance(tensor, Dataset):
        return tensor.fingerprint()
    if tensor.is_meta:  # of a global that `check` evaluates: it has no content
        return f"{tuple(tensor.shape)} {tensor.dtype} {id(tensor)}"
    return content_sha256(tensor.detach().cpu())


@dataclass(frozen=True)
class _Plan:
    """What is done once, and what with each batch."""

    once: tuple[Function, ...]
    always: tuple[Augment, ...]


class TransformDataset(Wrapped):
    """A set with functions of one image.

    An item goes through dtype, multiply and the functions in this order. Functions that draw no
    random numbers run once and the result is kept; from the first random one on they run with each
    batch, our own (`VT.RandomCrop`, ...) batched, others one image at a time (slow: `.freeze()`
    runs them once).

    Args:
        source: any set.
        dtype: type of the item given to the functions.
        multiply: factor, for instance 1/255.
        transforms: functions, called with one item; float32 (C, H, W) in 0..1 unless the source is
            a `TensorDataset`, whose items come as they are.
        num_repeat: each image so many times.
        features_dataframe: of the old tool, not supported.
        transform_all: of the old tool, not supported: labels stay as they are.
    """

    def __init__(
        self,
        source: Dataset,
        dtype: torch.dtype | None = None,
        multiply: float | None = None,
        transforms: Function | Sequence[Function] | None = None,
        num_repeat: int = 1,
        features_dataframe: None = None,
        transform_all: bool = False,
    ) -> None:
        if isinstance(source, Tensor):
            source = TensorDataset(source)
        super().__init__(source)
        if features_dataframe is not None or transform_all:
            raise DataError(
                "TransformDataset: features_dataframe and transform_all are not supported",
                hint="leave them out; functions change the image only",
            )
        self.dtype, self.multiply = dtype, multiply
        self.functions = tuple(flat(transforms))
        self.repeated = repeat(source, num_repeat)
        self._keys = [function_key(function) for function in self.functions]
        given = {"dtype": dtype, "multiply": multiply}
        named = [name for name, value in given.items() if value is not None]
        source.medium.refuse(source.name, *named, *self.functions)
        changes = dtype is not None or multiply is not None or bool(self.functions)
        self.raw = source.raw and not changes
        self._shape: tuple[int, ...] | None = None

    def verify(self) -> None:
        """As in the other set; and the functions know every name that they use."""
        super().verify()
        refuse_missing_names(self.name, *self.functions)

    def fingerprint(self) -> str:
        """The other set, its repeats and what the functions do."""
        return f"{self.repeated.fingerprint()} {self.dtype} {self.multiply} {self._keys}"

    def count(self) -> int | None:
        """As in the other set, times its repeats."""
        return self.repeated.count()

    def reading_seconds(self) -> float | None:
        """As in the other set, and some microseconds for each function and image."""
        before, count = self.source.reading_seconds(), self.count()
        if before is None or count is None:
            return None
        return before + 3e-5 * count * len(self.functions)

    def is_bytes(self) -> bool:
        """As in the other set if nothing is changed: a function may make anything of bytes."""
        changed = self.functions or self.dtype is not None or self.multiply is not None
        return not changed and self.source.is_bytes()

    def item_shape(self) -> tuple[int, ...]:
        """The shape after the functions, tried once on a black item."""
        if self._shape is None:
            self._shape = self._tried_shape()
        return self._shape

    def _tried_shape(self) -> tuple[int, ...]:
        """What the functions make of a black item."""
        with torch.device("cpu"), seeded(0):
            item = torch.zeros(self.source.item_shape(), dtype=_item_dtype(self.source))
            item = self._started(item)
            for function in self.functions:
                item = call_function(function, item, self.name, 0)
        if not isinstance(item, Tensor):
            raise DataError(
                f"{self.name}: transforms must return a tensor, got {type(item).__name__}"
            )
        return tuple(item.shape)

    def _read(self) -> Images:
        images = self.source.load()
        if images.augment:  # random changes come first, so all of these follow them
            plan = _Plan((), (Steps(self._started), *_as_augments(self.functions)))
            pixels = images.pixels
        else:
            plan = self._plan(images)
            pixels, drew = self._run(images, plan)
            if drew:  # a function that did not draw for the first image, but for a later one
                plan = _Plan((), _as_augments(self.functions))
                pixels, _ = self._run(images, plan)
        changed = make_images(
            pixels,
            labels=images.labels,
            augment=(*images.augment, *plan.always),
            provenance=images.provenance,
            facts={**images.facts, "memory_mapped": False},
            medium=images.medium,
            value_range=self._range_after(images.value_range, pixels),
        )
        times = len(self.repeated.load()) // len(images) if self.repeated is not self.source else 1
        rows = torch.arange(len(changed)).repeat_interleave(times)
        return take_rows(changed, rows) if times > 1 else changed

    def _range_after(self, before: ValueRange, pixels: Tensor) -> ValueRange:
        """What black and white are afterwards; after somebody's own function as `pixels` look.

        Raises:
            DataError: one of the lab's own changes takes images for 0..1, and they are not.
        """
        own = self.dtype is not None or self.multiply is not None
        value_range = UNIT if own else before
        for function in self.functions:
            refuse_other_range(self.name, value_range, function)
            if isinstance(function, Transform):
                value_range = function.range_after(value_range)
            elif not isinstance(function, RandomTransform):
                own, value_range = True, UNIT
        return guessed_range(pixels) if own and value_range == UNIT else value_range

    def _plan(self, images: Images) -> _Plan:
        """Everything before the first random function runs once; found by trying on one image."""
        item = self._started(self.source.item(images, 0))
        for number, function in enumerate(self.functions):
            state = seeded(number)
            with state:
                item = call_function(function, item, self.name, 0)
                drew = isinstance(function, RandomTransform) or state.drew()
            if drew:
                return _Plan(self.functions[:number], _as_augments(self.functions[number:]))
        return _Plan(self.functions, ())

    def _run(self, images: Images, plan: _Plan) -> tuple[Tensor, bool]:
        """All images through what is done once; and whether that drew random numbers after all."""
        parts = []
        starts = range(0, len(images), _BATCH)
        state = seeded(0)
        with state:
            for start in track(starts, f"transforming {self.name}", len(images), _BATCH):
                batch = images.pixels[start : start + _BATCH]
                if not self.source.raw and batch.dtype == torch.uint8:
                    batch = batch.float() / 255.0
                else:
                    batch = batch.clone()  # a function may work in place; the source is shared
                batch = self._started(batch)
                for function in plan.once:
                    batch = _whole(function, batch, self.name, start)
                if plan.always and self.source.raw and not batch.is_floating_point():
                    batch = batch.float()  # random functions get raw values, not 0..1
                parts.append(batch if self.raw else to_bytes(batch))
            return join(parts), state.drew()

    def _started(self, item: Tensor) -> Tensor:
        item = item if self.dtype is None else item.to(self.dtype)
        return item if self.multiply is None else item * self.multiply


def augmentations(transforms: Function | Sequence[Function] | None) -> tuple[Augment, ...]:
    """Transforms as random changes of batches, for training's own input transforms.

    Ours work on the batch; other functions are called with one image at a time.
    """
    return _as_augments(tuple(flat(transforms)))


def _as_augments(functions: tuple[Function, ...]) -> tuple[Augment, ...]:
    made: list[Augment] = []
    for function in functions:
        if isinstance(function, RandomTransform):
            made.append(RandomAugment(function))
        elif isinstance(function, Transform):
            made.append(Steps(function.batch, sets_range=function.range_after(UNIT) != UNIT))
        elif made and isinstance(made[-1], EachItem):
            made[-1] = EachItem((*made[-1].functions, function))
        else:
            made.append(EachItem((function,)))
    return tuple(made)


def _whole(function: Function, batch: Tensor, name: str, start: int) -> Tensor:
    """One function over a batch: at once if it is ours, else item by item."""
    if isinstance(function, Transform):
        return function.batch(batch)
    items = [call_function(function, item, name, start + i) for i, item in enumerate(batch)]
    shapes = {tuple(item.shape) if isinstance(item, Tensor) else type(item) for item in items}
    if len(shapes) > 1 or not isinstance(items[0], Tensor):
        raise ShapeError(
            f"{name}: a transform must return tensors of one shape, got "
            f"{', '.join(sorted(map(str, shapes))[:5])}",
            hint="end with a crop or a resize to one size",
        )
    return torch.stack(items)


def _item_dtype(source: Dataset) -> torch.dtype:
    inner: Any = source
    while inner.raw and isinstance(inner, Wrapped):
        inner = inner.source
    return inner.item_dtype() if isinstance(inner, TensorDataset) else torch.float32

"""Sets made of sets: fewer images, another order, random changes, several sets in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import freeze_images, join, shape_after
from aelab.data.base import Dataset, make_images
from aelab.data.functions import call_function, function_key, refuse_missing_names
from aelab.data.memory import refuse_too_large
from aelab.data.prepare import Prepared, checked_range, checked_shape
from aelab.data.wrapped import Wrapped
from aelab.errors import DataError, ShapeError
from aelab.medium import Medium, common_medium
from aelab.ops.classes import class_numbers, common_classes
from aelab.ops.random import keyed_generator
from aelab.ops.value_range import UNIT, range_words
from aelab.preparation import track
from aelab.types import Augment, Images, Provenance, ValueRange

#: Chooses rows: (number of images) -> slice, or row numbers (n,) int64.
Choose = Callable[[int], "slice | Tensor"]


class Rows(Wrapped):
    """Some rows of a set in some order."""

    def __init__(self, source: Dataset, key: str, choose: Choose) -> None:
        super().__init__(source)
        self.key, self.choose = key, choose

    def fingerprint(self) -> str:
        """The other set and which rows of it."""
        return f"{self.source.fingerprint()} {self.key}"

    def count(self) -> int | None:
        """How many rows are chosen, if the other set knows its number."""
        known = self.source.count()
        if known is None:
            return None
        rows = self.choose(known)
        return len(range(known)[rows]) if isinstance(rows, slice) else len(rows)

    def _read(self) -> Images:
        images = self.source.load()
        return take_rows(images, self.choose(len(images)))


class Augmented(Wrapped):
    """A set with random changes, applied by training to each batch anew."""

    def __init__(self, source: Dataset, augment: tuple[Augment, ...]) -> None:
        super().__init__(source)
        source.medium.refuse(source.name, *augment)
        self.augment = augment

    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item after the random changes."""
        return shape_after(self.source.item_shape(), self.augment)

    def fingerprint(self) -> str:
        """The other set and the random changes."""
        return f"{self.source.fingerprint()} {self.augment!r}"

    def _read(self) -> Images:
        images = self.source.load()
        refuse_other_range(self.name, images.value_range, *self.augment)
        return replace(images, augment=(*images.augment, *self.augment))


class Between(Wrapped):
    """A set of which somebody says what black and white are; the pixels stay as they are."""

    def __init__(self, source: Dataset, low: float, high: float) -> None:
        super().__init__(source)
        source.medium.refuse(source.name, "values_between")
        self.value_range = checked_range((low, high), "values_between")

    def fingerprint(self) -> str:
        """The other set and the range."""
        return f"{self.source.fingerprint()} between {self.value_range}"

    def _read(self) -> Images:
        return replace(self.source.load(), value_range=self.value_range)


class Frozen(Wrapped):
    """A set whose random changes are applied once."""

    def __init__(self, source: Dataset, seed: int = 0) -> None:
        super().__init__(source)
        self.seed = int(seed)

    def fingerprint(self) -> str:
        """The other set and the seed of its one draw."""
        return f"{self.source.fingerprint()} frozen {self.seed}"

    def _read(self) -> Images:
        return freeze_images(self.source.load(), self.seed)


class Filtered(Wrapped):
    """The images of a set that a function wants."""

    def __init__(self, source: Dataset, keep: Callable[[Tensor], Any]) -> None:
        super().__init__(source)
        self.keep = keep
        self.key = function_key(keep)

    def verify(self) -> None:
        """As in the other set; and the function knows every name that it uses."""
        super().verify()
        refuse_missing_names(self.name, self.keep)

    def fingerprint(self) -> str:
        """The other set and what the function does."""
        return f"{self.source.fingerprint()} filter {self.key}"

    def reading_seconds(self) -> float | None:
        """As in the other set, and some microseconds for each image."""
        before, count = self.source.reading_seconds(), self.source.count()
        return None if before is None or count is None else before + 3e-5 * count

    def count(self) -> int | None:
        """None: only the pixels tell."""
        return None

    def _read(self) -> Images:
        images = freeze_images(self.source.load())
        rows = [
            row
            for row in track(range(len(images)), f"filtering {self.name}", len(images))
            if call_function(self.keep, self.source.item(images, row), self.name, row)
        ]
        return take_rows(images, torch.tensor(rows, dtype=torch.int64))


class Interleaved(Dataset):
    """One image of each set in turn until each is exhausted.

    Labels are kept where all sets have some; classes of equal names become one.
    Sets with different random changes are frozen first: a batch knows not which image came from
    which set. Repeat a set before, to keep several versions of each of its images.
    """

    def __init__(self, *sources: Dataset) -> None:
        super().__init__()
        if not sources:
            raise DataError("interleave needs at least one data set")
        self.parts = sources
        self.name = "+".join(dict.fromkeys(part.name for part in sources))
        self._medium = common_medium((source.name, source.medium) for source in sources)
        shapes = {part.item_shape() for part in sources}
        if len(shapes) > 1:
            raise ShapeError(
                f"cannot interleave images of shapes {sorted(shapes)}",
                hint="give all of them the same shape first: .resize((C, H, W))",
            )

    @property
    def medium(self) -> Medium:
        """As in each of the sets."""
        return self._medium

    def item_shape(self) -> tuple[int, ...]:
        """As in each of the sets."""
        return self.parts[0].item_shape()

    def count(self) -> int | None:
        """The sum, or None if one of the sets does not know its number."""
        counts = [part.count() for part in self.parts]
        return None if None in counts else sum(count for count in counts if count)

    def verify(self) -> None:
        """Raise DataError if files of any of the sets are missing."""
        for part in self.parts:
            part.verify()

    def reading_seconds(self) -> float | None:
        """The sum, or None if one of them is not known."""
        seconds = [part.reading_seconds() for part in self.parts]
        return None if None in seconds else sum(value for value in seconds if value)

    def is_bytes(self) -> bool:
        """Whether all sets are."""
        return all(part.is_bytes() for part in self.parts)

    def sources(self) -> list[tuple[str, str]]:
        """Those of all sets, each once."""
        return list(dict.fromkeys(source for part in self.parts for source in part.sources()))

    def fingerprint(self) -> str:
        """The fingerprints of the sets, in order."""
        return "interleave(" + ", ".join(part.fingerprint() for part in self.parts) + ")"

    def _read(self) -> Images:
        loaded = [part.load() for part in self.parts]
        first = loaded[0]
        if any((i.augment, i.shape) != (first.augment, first.shape) for i in loaded):
            loaded = [freeze_images(images, seed) for seed, images in enumerate(loaded)]
        ranges = {images.value_range for images in loaded}
        if len(ranges) > 1:
            raise DataError(
                f"{self.name}: cannot interleave images in "
                f"{' and '.join(map(range_words, ranges))}",
                hint="bring all of them to one range first",
            )
        counts = [len(images) for images in loaded]
        order = _turns(counts)
        provenance = [entry for images in loaded for entry in images.provenance]
        facts: dict[str, Any] = {"resized": any(i.facts.get("resized") for i in loaded)}
        labels, names = self._labels(loaded)
        if names:
            facts["label_names"] = names
        if all(i.facts.get("alpha") for i in loaded):
            facts["alpha"] = True
        return make_images(
            join([images.pixels for images in loaded])[order],
            labels=None if labels is None else labels[order],
            augment=loaded[0].augment,
            provenance=provenance,
            facts=facts,
            medium=self.medium,
            value_range=ranges.pop(),
        )

    @staticmethod
    def _labels(sets: Sequence[Images]) -> tuple[Tensor | None, list[str]]:
        """Classes of all sets under one numbering, where all have labels, and all or none names."""
        named = {bool(images.label_names) for images in sets}
        numbers = [class_numbers(images.labels) for images in sets]
        known = [labels for labels in numbers if labels is not None]
        if len(named) > 1 or len(known) < len(sets):
            return None, []
        if named == {False}:  # bare numbers stay as they are
            return torch.cat(known), []
        classes = common_classes(sets)
        return torch.cat([labels for labels in classes.labels if labels is not None]), list(
            classes.names
        )


def refuse_other_range(name: str, value_range: ValueRange, *changes: Any) -> None:
    """Raise if a change that takes images for 0..1 is given others.

    Raises:
        DataError: naming the set, the change, and what the images are.
    """
    for change in changes:
        if value_range != UNIT and getattr(change, "of_unit_images", False):
            raise DataError(
                f"{name}: {type(change).__name__} changes images in 0..1, these are in "
                f"{range_words(value_range)}",
                hint="write it before what changes the range: normalize_between, VT.Normalize",
            )


def limit(source: Dataset, size: int) -> Dataset:
    """The first `size` images."""
    size = _count(size, "limit", 1)
    return Rows(source, f"limit {size}", lambda n: slice(0, size))


def skip(source: Dataset, count: int) -> Dataset:
    """Without the first `count` images."""
    count = _count(count, "skip", 0)
    return Rows(source, f"skip {count}", lambda n: slice(count, None))


def repeat(source: Dataset, count: int) -> Dataset:
    """Each image `count` times."""
    count = _count(count, "repeat", 1)
    if count == 1:
        return source

    def choose(n: int) -> Tensor:
        """All rows (n * count,), each `count` times."""
        refuse_too_large(8 * n * count, f".repeat({count:,}) of {n:,} images")
        return torch.arange(n).repeat_interleave(count)

    return Rows(source, f"repeat {count}", choose)


def shuffle(source: Dataset, seed: int = 0) -> Dataset:
    """All images in an order of that seed."""

    def choose(n: int) -> Tensor:
        """All rows (n,) in the order of the seed."""
        return torch.randperm(n, generator=keyed_generator(seed, "shuffle"))

    return Rows(source, f"shuffle {seed}", choose)


def sample(source: Dataset, count: int, seed: int = 0) -> Dataset:
    """`count` images chosen at random, none twice."""
    count = _count(count, "sample", 1)

    def choose(n: int) -> Tensor:
        """The drawn rows (count,), ascending."""
        return torch.randperm(n, generator=keyed_generator(seed, "sample"))[:count].sort()[0]

    return Rows(source, f"sample {count} {seed}", choose)


def resized(source: Dataset, shape: Sequence[int], interpolation: bool | str = True) -> Dataset:
    """At another (C, H, W), or (H, W) with the channels it has."""
    channels = (source.shape[0],) if len(shape) == 2 else ()
    return Prepared(source, checked_shape((*channels, *shape)), interpolation)


def take_rows(images: Images, rows: slice | Tensor) -> Images:
    """Some rows of a loaded set; a slice of memory-mapped pixels stays on disk."""
    if not isinstance(rows, slice):
        row_bytes = images.pixels[:1].numel() * images.pixels.element_size()
        refuse_too_large(len(rows) * row_bytes, f"a set of {len(rows):,} images")
    pixels = images.pixels[rows]
    labels = images.labels[rows] if images.labels is not None else None
    mapped = bool(images.facts.get("memory_mapped")) and isinstance(rows, slice)
    provenance: Sequence[Provenance] = images.provenance
    if len(provenance) == 1:
        provenance = [provenance[0]._replace(count=len(pixels))]
    return make_images(
        pixels,
        labels=labels,
        augment=images.augment,
        provenance=provenance,
        facts={**images.facts, "memory_mapped": mapped},
        medium=images.medium,
        value_range=images.value_range,
    )


def _turns(counts: Sequence[int]) -> Tensor:
    """Row numbers of concatenated sets, taken in turn."""
    round_number = torch.cat([torch.arange(count) for count in counts])
    part = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)])
    return (round_number * len(counts) + part).argsort()


def _count(value: int, name: str, least: int) -> int:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise DataError(f"{name} takes a whole number from {least} up, got {value!r}")
    return int(value)

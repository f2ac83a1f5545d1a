"""Changes that choose the images of a set and their order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import Tensor

from aelab.data.augment import freeze_images
from aelab.data.base import Change, Description, make_images
from aelab.data.functions import call_on_image, function_key, refuse_missing_names
from aelab.data.memory import refuse_too_large
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.errors import DataError
from aelab.ops.random import keyed_generator
from aelab.preparation import track
from aelab.types import Images, Provenance


class Rows(Change):
    """Takes some rows of a set in some order, chosen by row number alone."""

    @abstractmethod
    def rows(self, count: int) -> slice | Tensor:
        """The rows to take of `count` images: a slice, or row numbers (n,) int64."""

    def count_after(self, before: Description) -> int | None:
        """The number of chosen rows; None if the number before is not known."""
        known = before.count()
        if known is None:
            return None
        rows = self.rows(known)
        return len(range(known)[rows]) if isinstance(rows, slice) else len(rows)

    def apply(self, images: Images, before: Description) -> Images:
        """Takes those rows."""
        return take_rows(images, self.rows(len(images)))


@dataclass(frozen=True)
class Limit(Rows):
    """Keeps the first `size` images."""

    size: int

    def __post_init__(self) -> None:
        _check_whole(self, "limit", "size", 1)

    def rows(self, count: int) -> slice:
        """The first rows."""
        return slice(0, self.size)


@dataclass(frozen=True)
class Skip(Rows):
    """Leaves out the first `count` images."""

    count: int

    def __post_init__(self) -> None:
        _check_whole(self, "skip", "count", 0)

    def rows(self, count: int) -> slice:
        """The remaining rows."""
        return slice(self.count, None)


@dataclass(frozen=True)
class Repeat(Rows):
    """Repeats each image `count` times, copies side by side; useful with random changes."""

    count: int

    def __post_init__(self) -> None:
        _check_whole(self, "repeat", "count", 1)

    def settled(self, before: Description) -> Change | None:
        """The same change; None for a count of 1."""
        return None if self.count == 1 else self

    def rows(self, count: int) -> Tensor:
        """All rows (count * times,)."""
        refuse_too_large(8 * count * self.count, f".repeat({self.count:,}) of {count:,} images")
        return torch.arange(count).repeat_interleave(self.count)


@dataclass(frozen=True)
class Shuffle(Rows):
    """Shuffles the images; the same seed gives the same order."""

    seed: int = 0

    def rows(self, count: int) -> Tensor:
        """All rows (count,) in the order of the seed."""
        # A keyed generator: the order depends only on the seed and the size of the set.
        return torch.randperm(count, generator=keyed_generator(self.seed, "shuffle"))


@dataclass(frozen=True)
class Sample(Rows):
    """Chooses `count` images at random without repetition and keeps their order."""

    count: int
    _: KW_ONLY
    seed: int = 0

    def __post_init__(self) -> None:
        _check_whole(self, "sample", "count", 1)

    def rows(self, count: int) -> Tensor:
        """The drawn rows (n,), ascending."""
        drawn = torch.randperm(count, generator=keyed_generator(self.seed, "sample"))
        return drawn[: self.count].sort()[0]


@dataclass(frozen=True)
class Filter(Change):
    """Keeps images for which `keep(image)` is true; `image` is float32 (C, H, W) in 0..1."""

    keep: Callable[[Tensor], Any]
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Computed once: a function that cannot be compared gets a new key at each call.
        object.__setattr__(self, "text", function_key(self.keep))

    def key(self, before: Description) -> str:
        """A text that identifies the function by its content."""
        return f"filter {self.text}"

    def verify(self, before: Description) -> None:
        """Raise DataError if the function uses a name that is not defined."""
        refuse_missing_names(before.name, self.keep)

    def count_after(self, before: Description) -> int | None:
        """None: the number depends on the pixels."""
        return None

    def seconds_after(self, before: Description) -> float | None:
        """Seconds of the set before, plus 30 microseconds for each image."""
        seconds, count = before.reading_seconds(), before.count()
        return None if seconds is None or count is None else seconds + 3e-5 * count

    def apply(self, images: Images, before: Description) -> Images:
        """Applies random changes once, then calls the function on each image."""
        images = freeze_images(images)
        rows = [
            row
            for row in track(range(len(images)), f"filtering {before.name}", len(images))
            if call_on_image(self.keep, before.item(images, row), before.name, row)
        ]
        return take_rows(images, torch.tensor(rows, dtype=torch.int64))


def take_rows(images: Images, rows: slice | Tensor) -> Images:
    """Takes some rows of a loaded set; a slice of memory-mapped pixels stays on disk."""
    if isinstance(rows, slice):
        pixels, mapped = images.pixels[rows], bool(images.facts.get("memory_mapped"))
    else:
        room = PixelRoom(len(rows), f"a set of {len(rows):,} images")
        for some in parts_of(len(rows), images.pixels[:1].nbytes):
            room.add(images.pixels[rows[some]])
        mapped, pixels = room.mapped, room.done()
    labels = images.labels[rows] if images.labels is not None else None
    provenance: Sequence[Provenance] = images.provenance
    if len(provenance) == 1:
        # Of several sources the numbers of images are not known after a selection.
        provenance = [provenance[0]._replace(count=len(pixels))]
    return make_images(
        pixels,
        labels=labels,
        augment=images.augment,
        provenance=provenance,
        facts={**images.facts, "memory_mapped": mapped},
        medium=images.medium,
        value_range=images.value_range,
        file_names=_names_of(images.file_names, rows),
        factors=images.factors[rows] if images.factors is not None else None,
    )


def _names_of(names: tuple[str, ...], rows: slice | Tensor) -> tuple[str, ...]:
    if not names or isinstance(rows, slice):
        return names[rows] if isinstance(rows, slice) else ()
    return tuple(names[row] for row in rows.tolist())


def _check_whole(change: Rows, method: str, field: str, least: int) -> None:
    value = getattr(change, field)
    if isinstance(value, bool) or int(value) != value or value < least:
        raise DataError(f"{method} takes a whole number from {least} up, got {value!r}")
    object.__setattr__(change, field, int(value))

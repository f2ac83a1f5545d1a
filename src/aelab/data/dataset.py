"""A data set: a source and the changes of its images. Loaded once per process, when needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Change, Description, Source
from aelab.data.operations import OPERATIONS, Operations
from aelab.data.rows import Limit
from aelab.data.shared import shared
from aelab.data.sources.interleaved import Interleaved
from aelab.errors import DataError
from aelab.medium import Medium
from aelab.types import Images

#: Most bytes of loaded sets kept in memory; the least recently used is dropped first.
MEMORY_BYTES = 2 << 30


class Dataset(Operations, Description):
    """One set of images, described; constructing it reads no pixels.

    Its methods (`Operations`) return new sets: `mnist.limit(100).shuffle()`.

    Attributes:
        source: reads or makes the images.
        changes: the changes applied to them, in this order.
        before: the set without its last change; None where there is no change.
    """

    def __init__(self, source: Source, changes: Sequence[Change] = ()) -> None:
        if not isinstance(source, Source):
            raise DataError(
                f"a data set needs a source of images, got {type(source).__name__}",
                hint="wrap a tensor: TensorDataset(tensor)",
            )
        self.source = source
        self.changes: tuple[Change, ...] = ()
        self.before: Dataset | None = None
        # What may be read is decided where the description is written, not where it is loaded.
        self._roots = roots.current()
        if changes:
            made = Dataset(source).changed(*changes)
            self.changes, self.before = made.changes, made.before

    def changed(self, *changes: Change) -> Dataset:
        """Returns the set with further changes.

        Raises:
            AelabError: a change does not suit the set.
        """
        made: Dataset = self
        for change in changes:
            settled = change.settled(made)
            if settled is not None:
                after = Dataset(self.source)
                after.changes, after.before = (*made.changes, settled), made
                made = after
        return made

    def interleave(self, *others: Dataset) -> Dataset:
        """Takes one image of each set in turn; when one is exhausted, the others continue."""
        return Dataset(Interleaved((self, *others)))

    def load(self) -> Images:
        """Loads the images; in one process, equal descriptions return the same `Images` object.

        Raises:
            DataError: files are missing, corrupt or of the wrong kind.
        """
        key = self.fingerprint()
        found = MEMORY.get(key)
        if found is None:
            # A model may be built on the meta device around this; pixels are real.
            with roots.entering(self._roots), torch.device("cpu"):
                found = shared(key, self._read)
            # Only after the reading succeeded: an error is raised again at the next call.
            MEMORY.put(key, found)
        return found

    def _read(self) -> Images:
        """Reads the source, or loads the set before the last change and applies that change.

        Each step is kept separately, so that sets with the same beginning share it.
        """
        if self.before is None:
            return self.source.read()
        return self.changes[-1].apply(self.before.load(), self.before)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the source."""
        return self.source.name

    @property
    def raw(self) -> bool:  # type: ignore[override]
        """Whether per-sample functions get items as they are stored."""
        if self.before is None:
            return self.source.raw
        return self.changes[-1].raw_after(self.before)

    @property
    def medium(self) -> Medium:
        """The medium of the source."""
        return self.source.medium

    def item_dtype(self) -> torch.dtype:
        """The dtype that per-sample functions get: the stored one if the set is raw."""
        return self.source.item_dtype() if self.raw else torch.float32

    def fingerprint(self) -> str:
        """The fingerprint of the source, followed by the key of every change."""
        if self.before is None:
            return self.source.fingerprint()
        return f"{self.before.fingerprint()} {self.changes[-1].key(self.before)}"

    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item after every change, random ones included."""
        if self.before is None:
            return self.source.item_shape()
        return self.changes[-1].item_shape_after(self.before)

    def count(self) -> int | None:
        """The number of images if it is known without reading pixels, else None."""
        if self.before is None:
            return self.source.count()
        return self.changes[-1].count_after(self.before)

    def reading_seconds(self) -> float | None:
        """An estimate of the seconds to read or make the pixels; None if not known."""
        if self.before is None:
            return self.source.reading_seconds()
        return self.changes[-1].seconds_after(self.before)

    def few(self, count: int, seconds: float) -> Dataset | None:
        """A similar set that is quickly read, with the same changes; None if there is none.

        Args:
            count: about how many images.
            seconds: a source that is read in this time needs none in its place: it is cut short
                before the changes, which may take longer.
        """
        source = self.source.few(count)
        if source is not None:
            return Dataset(source, self.changes)
        known = self.source.reading_seconds()
        if known is None or known > seconds:
            return None
        return Dataset(self.source, (Limit(count), *self.changes))

    def is_bytes(self) -> bool:
        """Whether the pixels are known, unread, to be uint8, and therefore finite and in range."""
        if self.before is None:
            return self.source.is_bytes()
        return self.changes[-1].is_bytes_after(self.before)

    @property
    def file_names(self) -> tuple[str, ...]:
        """The file name of each image, () without files; loads the set."""
        return self.load().file_names

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each image's class, () without labels; loads the set."""
        return self.load().class_names

    def verify(self) -> None:
        """Raise DataError if files are missing or a function uses a name that is not defined."""
        if self.before is None:
            return self.source.verify()
        self.before.verify()
        self.changes[-1].verify(self.before)

    def sources(self) -> list[tuple[str, str]]:
        """(name, place it is read from) of each underlying set."""
        return self.source.sources()

    def __len__(self) -> int:
        known = self.count()
        return len(self.load()) if known is None else known

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """(image,) or (image, label), as the old tool returned them; loads the set."""
        images = self.load()
        item = self.item(images, index)
        return (item,) if images.labels is None else (item, images.labels[index].clone())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint()})"


def need_dataset(given: Any, part: str) -> Dataset:
    """Returns `given` if it is a data set.

    Raises:
        DataError: naming the part that needs it and the type it got.
    """
    if isinstance(given, Dataset):
        return given
    raise DataError(
        f"{part} needs a data set, got {type(given).__name__}",
        hint="wrap a tensor: TensorDataset(tensor)",
    )


class Memory:
    """A cache of loaded sets by fingerprint, bounded in bytes (memory-mapped pixels are free)."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._sets: OrderedDict[str, Images] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Images | None:
        """The set with this fingerprint, or None."""
        with self._lock:
            if key in self._sets:
                self._sets.move_to_end(key)
            return self._sets.get(key)

    def put(self, key: str, images: Images) -> None:
        """Keep a set and drop the least recently used ones above the limit; one set always fits."""
        with self._lock:
            self._sets[key] = images
            while len(self._sets) > 1 and sum(map(_bytes, self._sets.values())) > self.limit_bytes:
                self._sets.popitem(last=False)

    def clear(self) -> None:
        """Drop all sets."""
        with self._lock:
            self._sets.clear()


def _bytes(images: Images) -> int:
    mapped = bool(images.facts.get("memory_mapped"))
    return 0 if mapped else images.pixels.numel() * images.pixels.element_size()


#: Methods that a block of an experiment file may call on a data set.
METHODS = (*OPERATIONS, "interleave")

#: The cache of this process.
MEMORY = Memory(MEMORY_BYTES)

"""A data set is a description; pixels are read when somebody needs them, once a process."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aelab.data import roots
from aelab.data.chain import Chain
from aelab.data.shared import shared
from aelab.errors import DataError, ShapeError
from aelab.medium import PIXELS, Medium
from aelab.ops.value_range import UNIT
from aelab.types import Augment, Images, Provenance, ValueRange

#: Loaded sets kept in memory, in bytes; the least recently used leaves first.
MEMORY_BYTES = 2 << 30

Shape = tuple[int, int, int]


class Dataset(Chain, ABC):
    """One set of images, described; constructing it reads no pixels.

    Attributes:
        name: how tables call it.
        raw: items are given to per-sample functions as they are stored (a `TensorDataset`);
            otherwise as float32 (C, H, W) in 0..1.
    """

    name: str = "dataset"
    raw: bool = False

    def __init__(self) -> None:
        # What may be read is decided where the description is written, not where it is loaded.
        self._roots = roots.current()

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image as training sees it, found without reading pixels."""
        shape = self.item_shape()
        if len(shape) != 3:
            raise ShapeError(
                f"{self.name}: an image is (channels, height, width), got items of {shape}",
                hint="add transforms=[lambda x: x.unsqueeze(0)] for grey images",
            )
        return shape[0], shape[1], shape[2]

    @property
    def medium(self) -> Medium:
        """What the images are made of. Cheap."""
        return PIXELS

    @abstractmethod
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item after every change, random ones included."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A cheap text; equal texts mean equal pixels. Files enter by path, size and time."""

    @abstractmethod
    def _read(self) -> Images:
        """Read or make the pixels; called once, then remembered."""

    def verify(self) -> None:
        """Raise DataError if files are missing; cheap."""

    def count(self) -> int | None:
        """The number of images if it is known without reading pixels, else None."""
        return None

    def reading_seconds(self) -> float | None:
        """About how long reading or making the pixels takes; None if that is not known. Cheap."""
        return None

    def is_bytes(self) -> bool:
        """Whether the pixels are known to be bytes without reading them, so finite and in range."""
        return not self.medium.is_brightness  # numbers of elements are bytes always

    def sources(self) -> list[tuple[str, str]]:
        """(name, where it would be read from) of each underlying set; cheap."""
        return [(self.name, "generated")]

    def load(self) -> Images:
        """The images. The same description gives the same `Images` again in one process.

        Raises:
            DataError: if files are missing, corrupt or not what they should be.
        """
        key = self.fingerprint()
        found = MEMORY.get(key)
        if found is None:
            # A model may be built on the meta device around this; pixels are real.
            with roots.entering(self._roots), torch.device("cpu"):
                found = shared(key, self._read)
            MEMORY.put(key, found)
        return found

    def __len__(self) -> int:
        known = self.count()
        return len(self.load()) if known is None else known

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """(image,) or (image, label) as the old systems gave it; loads the set."""
        images = self.load()
        item = self.item(images, index)
        return (item,) if images.labels is None else (item, images.labels[index].clone())

    def item(self, images: Images, index: int) -> Tensor:
        """One item as a per-sample function sees it; a copy, which it may change in place."""
        pixels = images.pixels[index]
        if self.raw or pixels.is_floating_point():
            return pixels.clone()
        return pixels.float() / 255.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint()})"


class Memory:
    """Loaded sets by fingerprint; a bounded number of bytes, memory-mapped pixels not counted."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._sets: OrderedDict[str, Images] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Images | None:
        """The set of that fingerprint, or None."""
        with self._lock:
            if key in self._sets:
                self._sets.move_to_end(key)
            return self._sets.get(key)

    def put(self, key: str, images: Images) -> None:
        """Remember a set; the oldest leave if there is too much. One set always fits."""
        with self._lock:
            self._sets[key] = images
            while len(self._sets) > 1 and sum(map(_bytes, self._sets.values())) > self.limit_bytes:
                self._sets.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._sets.clear()


def _bytes(images: Images) -> int:
    mapped = bool(images.facts.get("memory_mapped"))
    return 0 if mapped else images.pixels.numel() * images.pixels.element_size()


#: The one memory of the process.
MEMORY = Memory(MEMORY_BYTES)


def make_images(
    pixels: Tensor,
    *,
    labels: Tensor | None = None,
    augment: Sequence[Augment] = (),
    provenance: Sequence[Provenance] = (),
    facts: Mapping[str, Any] | None = None,
    sha256: str | None = None,
    medium: Medium = PIXELS,
    value_range: ValueRange = UNIT,
) -> Images:
    """`Images` with the hash of their content; `sha256` spares computing a known one.

    `medium`: what the pixels number. `value_range`: what black and white are, see `Images`.

    Raises:
        DataError: if there are no images.
    """
    if pixels.ndim < 2 or pixels.shape[0] == 0:
        names = ", ".join(entry.name for entry in provenance) or "the data set"
        raise DataError(
            f"{names} holds no images",
            hint="check limit, skip and filter: no image is left",
        )
    return Images(
        pixels=pixels,
        labels=labels,
        augment=tuple(augment),
        provenance=tuple(p._replace(source=roots.shown_path(p.source)) for p in provenance),
        content_sha256=sha256 or content_sha256(pixels),
        facts=dict(facts or {}),
        medium=medium,
        value_range=value_range,
    )


def content_sha256(pixels: Tensor) -> str:
    """SHA-256 of type, shape and bytes of a tensor, hexadecimal."""
    digest = hashlib.sha256(f"{pixels.dtype} {tuple(pixels.shape)}".encode())
    row_bytes = max(1, pixels[:1].numel() * pixels.element_size())
    for part in torch.split(pixels, max(1, (16 << 20) // row_bytes)):
        digest.update(part.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_stamp(path: Path | None) -> str:
    """Path, size and time of a file, for a fingerprint."""
    if path is None or not path.exists():
        return f"{path} missing"
    state = path.stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"

"""The parts of a data set: a source, which reads or makes images, and changes of them.

All of them are descriptions; pixels are read only when they are needed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor

from aelab import roots
from aelab.errors import DataError, ShapeError
from aelab.medium import PIXELS, Medium
from aelab.ops.value_range import UNIT, range_words
from aelab.types import Augment, Images, Provenance, ValueRange

if TYPE_CHECKING:
    from aelab.data.dataset import Dataset

Shape = tuple[int, int, int]


class Description(ABC):
    """The properties of a set that are known before any pixel is read; all are cheap.

    Attributes:
        name: its name in tables.
        raw: per-sample functions get items as they are stored (a `TensorDataset`); otherwise they
            get float32 (C, H, W) in 0..1.
    """

    name: str = "dataset"
    raw: bool = False

    @property
    def medium(self) -> Medium:
        """The medium of the images: pixels, or elements such as characters."""
        return PIXELS

    @abstractmethod
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item after every change, random ones included."""

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image as training sees it, found without reading pixels.

        Raises:
            ShapeError: items have other axes.
        """
        shape = self.item_shape()
        if len(shape) != 3:
            raise ShapeError(
                f"{self.name}: an image is (channels, height, width), got items of {shape}",
                hint="add transforms=[lambda x: x.unsqueeze(0)] for grey images",
            )
        return shape[0], shape[1], shape[2]

    @abstractmethod
    def fingerprint(self) -> str:
        """Equal texts mean equal pixels. Files enter by path, size and time."""

    def item_dtype(self) -> torch.dtype:
        """The dtype of the item that per-sample functions get."""
        return torch.float32

    def verify(self) -> None:  # noqa: B027  # what has no files has nothing to verify
        """Raise DataError if files are missing."""

    def count(self) -> int | None:
        """The number of images if it is known without reading pixels, else None."""
        return None

    def reading_seconds(self) -> float | None:
        """An estimate of the seconds to read or make the pixels; None if not known."""
        return None

    def is_bytes(self) -> bool:
        """Whether the pixels are known, unread, to be uint8, and therefore finite and in range."""
        return not self.medium.is_brightness  # numbers of elements are bytes always

    def sources(self) -> list[tuple[str, str]]:
        """(name, place it is read from) of each underlying set."""
        return [(self.name, "generated")]

    def item(self, images: Images, index: int) -> Tensor:
        """A copy of one item as per-sample functions get it; they may change it in place."""
        pixels = images.pixels[index]
        if self.raw or pixels.is_floating_point():
            return pixels.clone()
        return pixels.float() / 255.0


class Source(Description):
    """A source of images: files, a formula, or other sets.

    To write your own set, subclass it with `item_shape`, `fingerprint` and `read`, and add a
    function that returns `Dataset(Own(...))`. The constructor calls `super().__init__()` and reads
    nothing.

    Attributes:
        parts: the sets it combines; empty for files and formulas.
    """

    parts: tuple[Dataset, ...] = ()

    def __init__(self) -> None:
        # What may be read is decided where the description is written, not where it is loaded.
        self._roots = roots.current()

    def stored_shapes(self) -> Iterable[tuple[int, ...]]:
        """Shapes of the images as stored, where they differ from the shape of the set."""
        return ()

    def few(self, count: int) -> Source | None:
        """Similar images that can be read in about a second or two, for checks.

        Args:
            count: about how many; more where all are read as quickly.

        Returns:
            A source of the same kind, or itself; None if there is none.
        """
        return None

    @abstractmethod
    def read(self) -> Images:
        """Read or make the images; `Dataset.load` calls this once and keeps the result.

        Raises:
            DataError: files are missing, corrupt or of the wrong kind.
        """


class Change(ABC):
    """One change of a set, as plain data: `Limit(100)`, `RandomShift(4)`, `ToShape((1, 8, 8))`.

    A frozen dataclass. Its methods return the changed images and the changed properties of the
    set (shape, count, seconds). By default a property is that of the set `before` the change.
    """

    def settled(self, before: Description) -> Change | None:
        """Returns the change as it is applied to this set, or None where it changes nothing.

        Raises:
            AelabError: the change does not suit the set.
        """
        return self

    @abstractmethod
    def apply(self, images: Images, before: Description) -> Images:
        """Returns changed images; the given ones are shared and must not be modified."""

    def key(self, before: Description) -> str:
        """The part of the set's fingerprint that describes this change."""
        return repr(self)

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """The shape of one item afterwards."""
        return before.item_shape()

    def count_after(self, before: Description) -> int | None:
        """The number of images afterwards; None if only the pixels decide it."""
        return before.count()

    def seconds_after(self, before: Description) -> float | None:
        """Estimated seconds to read the set and apply this change."""
        return before.reading_seconds()

    def is_bytes_after(self, before: Description) -> bool:
        """Whether the pixels are known to be bytes."""
        return before.is_bytes()

    def raw_after(self, before: Description) -> bool:
        """Whether per-sample functions get items as they are stored."""
        return before.raw

    def verify(self, before: Description) -> None:  # noqa: B027  # plain numbers always work
        """Raise DataError if a function inside the change cannot work."""


class RandomChange(Change):
    """A change that training draws anew for each batch: (images, generator) -> images.

    Attributes:
        of_unit_images: it expects images in 0..1 and returns images in 0..1.
        moves_only: it only moves pixels, so it also works on uint8.
        any_medium: it moves whole elements, so it works for images of any medium.
    """

    of_unit_images: ClassVar[bool] = False
    moves_only: ClassVar[bool] = False
    any_medium: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same layout, each image with its own draw."""

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H, W) of an image of `shape` after the change."""
        return shape

    def settled(self, before: Description) -> Change | None:
        """The same change, after checking that the medium allows it.

        Raises:
            ConfigError: the medium of the set does not allow it.
        """
        before.medium.refuse(before.name, self)
        return self

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """The shape of one item afterwards."""
        return self.shape_after(before.item_shape())

    def apply(self, images: Images, before: Description) -> Images:
        """The same pixels; training draws the change with each batch.

        Raises:
            DataError: it expects images in 0..1, and they are in another range.
        """
        refuse_other_range(before.name, images.value_range, self)
        return replace(images, augment=(*images.augment, self))


def refuse_other_range(name: str, value_range: ValueRange, *changes: Any) -> None:
    """Raise if a change that expects images in 0..1 gets images in another range.

    Raises:
        DataError: naming the set, the change and the range of the images.
    """
    for change in changes:
        if value_range != UNIT and getattr(change, "of_unit_images", False):
            raise DataError(
                f"{name}: {type(change).__name__} changes images in 0..1, these are in "
                f"{range_words(value_range)}",
                hint="write it before what changes the range: normalize_between, VT.Normalize",
            )


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
    file_names: Sequence[str] = (),
    factors: Tensor | None = None,
) -> Images:
    """Makes `Images` and hashes their content, unless the hash is given as `sha256`.

    `medium`: what the pixel values mean. `value_range`: values of black and white, see `Images`.
    `file_names`: one for each image. `factors`: (N, F) int64, values of known factors.

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
        file_names=tuple(file_names),
        factors=factors,
    )


def content_sha256(pixels: Tensor) -> str:
    """SHA-256 of type, shape and bytes of a tensor, hexadecimal."""
    digest = hashlib.sha256(f"{pixels.dtype} {tuple(pixels.shape)}".encode())
    row_bytes = max(1, pixels[:1].numel() * pixels.element_size())
    # About 16 MB at a time: a memory-mapped set would otherwise be copied into memory as a whole.
    for part in torch.split(pixels, max(1, (16 << 20) // row_bytes)):
        digest.update(part.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_stamp(path: Path | None) -> str:
    """Path, size and modification time of a file, as text for a fingerprint."""
    if path is None or not path.exists():
        return f"{path} missing"
    # Hashing the content would read the whole file each time a set is described.
    state = path.stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"

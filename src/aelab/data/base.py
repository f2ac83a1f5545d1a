"""What a data set is made of: a source, which reads or makes images, and changes of them.

All of it is a description; pixels are read when somebody needs them.
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
    """What can be asked of a set before a pixel is read; every answer is cheap.

    Attributes:
        name: how tables call it.
        raw: items are given to per-sample functions as they are stored (a `TensorDataset`);
            otherwise as float32 (C, H, W) in 0..1.
    """

    name: str = "dataset"
    raw: bool = False

    @property
    def medium(self) -> Medium:
        """What the images are made of."""
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
        """The type of the item that per-sample functions are given."""
        return torch.float32

    def verify(self) -> None:  # noqa: B027  # what has no files has nothing to verify
        """Raise DataError if files are missing."""

    def count(self) -> int | None:
        """The number of images if it is known without reading pixels, else None."""
        return None

    def reading_seconds(self) -> float | None:
        """About how long reading or making the pixels takes; None if that is not known."""
        return None

    def is_bytes(self) -> bool:
        """Whether the pixels are known to be bytes without reading them, so finite and in range."""
        return not self.medium.is_brightness  # numbers of elements are bytes always

    def sources(self) -> list[tuple[str, str]]:
        """(name, where it would be read from) of each underlying set."""
        return [(self.name, "generated")]

    def item(self, images: Images, index: int) -> Tensor:
        """One item as a per-sample function sees it; a copy, which it may change in place."""
        pixels = images.pixels[index]
        if self.raw or pixels.is_floating_point():
            return pixels.clone()
        return pixels.float() / 255.0


class Source(Description):
    """Where images come from: files, a formula, other sets.

    For a set of one's own: a subclass with `item_shape`, `fingerprint` and `read`, and a function
    that returns `Dataset(Own(...))`. The constructor calls `super().__init__()` and reads nothing.

    Attributes:
        parts: the sets that it is made of; none for files and formulas.
    """

    parts: tuple[Dataset, ...] = ()

    def __init__(self) -> None:
        # What may be read is decided where the description is written, not where it is loaded.
        self._roots = roots.current()

    def stored_shapes(self) -> Iterable[tuple[int, ...]]:
        """Shapes of the images as they are stored, where they differ from those of the set."""
        return ()

    @abstractmethod
    def read(self) -> Images:
        """Read or make the images; `Dataset.load` calls it once and remembers them.

        Raises:
            DataError: files are missing, corrupt or not what they should be.
        """


class Change(ABC):
    """One change of a set, as plain data: `Limit(100)`, `RandomShift(4)`, `ToShape((1, 8, 8))`.

    A frozen dataclass. It says what it does to the images and to what is known before they are
    read; what it does not say is as `before` it.
    """

    def settled(self, before: Description) -> Change | None:
        """The change as it will be applied to a set, or None where it changes nothing.

        Raises:
            AelabError: the set cannot be changed so.
        """
        return self

    @abstractmethod
    def apply(self, images: Images, before: Description) -> Images:
        """The images changed; those given are shared with others and stay as they are."""

    def key(self, before: Description) -> str:
        """Its part of the fingerprint."""
        return repr(self)

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """The shape of one item afterwards."""
        return before.item_shape()

    def count_after(self, before: Description) -> int | None:
        """The number of images afterwards, None if it is not known without reading pixels."""
        return before.count()

    def seconds_after(self, before: Description) -> float | None:
        """Seconds of reading the set and of this change."""
        return before.reading_seconds()

    def is_bytes_after(self, before: Description) -> bool:
        """Whether the pixels are known to be bytes."""
        return before.is_bytes()

    def raw_after(self, before: Description) -> bool:
        """Whether per-sample functions are given items as they are stored."""
        return before.raw

    def verify(self, before: Description) -> None:  # noqa: B027  # plain numbers always work
        """Raise DataError if a function that it holds cannot work."""


class RandomChange(Change):
    """A change that training draws anew for each batch: (images, generator) -> images.

    Attributes:
        of_unit_images: it takes images for 0..1, and what it gives is 0..1.
        moves_only: it moves pixels and computes nothing, so that it works on bytes as well.
        any_medium: it moves whole elements, so that images of any medium stay such.
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
        """Itself.

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
            DataError: it takes images for 0..1, and they are not.
        """
        refuse_other_range(before.name, images.value_range, self)
        return replace(images, augment=(*images.augment, self))


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
) -> Images:
    """`Images` with the hash of their content; `sha256` spares computing a known one.

    `medium`: what the pixels number. `value_range`: what black and white are, see `Images`.
    `file_names`: one an image.

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

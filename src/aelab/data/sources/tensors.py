"""Tensors as a data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.errors import DataError
from aelab.medium import PIXELS, Medium
from aelab.ops.value_range import guessed_range
from aelab.types import Images, Provenance


class Tensors(Source):
    """Images as a tensor, see `TensorDataset`."""

    raw = True

    def __init__(self, tensors: tuple[Any, ...]) -> None:
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
        self.parts = tuple(part for part in tensors if isinstance(part, Dataset))
        first = tensors[0]
        self.name = first.name if isinstance(first, Dataset) else "tensor"
        self._key = ""

    @property
    def medium(self) -> Medium:
        """The medium of a set given in place of a tensor, else pixels."""
        first = self.tensors[0]
        return first.medium if isinstance(first, Dataset) else PIXELS

    def item_shape(self) -> tuple[int, ...]:
        """The shape of one row of the first tensor."""
        first = self.tensors[0]
        return first.item_shape() if isinstance(first, Dataset) else tuple(first.shape[1:])

    def item_dtype(self) -> torch.dtype:
        """The dtype that per-sample functions get."""
        first = self.tensors[0]
        return torch.uint8 if isinstance(first, Dataset) else first.dtype

    def count(self) -> int | None:
        """The number of rows of the first tensor."""
        first = self.tensors[0]
        return first.count() if isinstance(first, Dataset) else len(first)

    def reading_seconds(self) -> float | None:
        """Seconds of copying and hashing the tensor."""
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return first.reading_seconds()
        return None if first.is_meta else first.nbytes / 2e8

    def is_bytes(self) -> bool:
        """Whether the first tensor is uint8."""
        first = self.tensors[0]
        return first.is_bytes() if isinstance(first, Dataset) else first.dtype == torch.uint8

    def verify(self) -> None:
        """Raise DataError if files of a set given as a tensor are missing."""
        for tensor in self.tensors:
            if isinstance(tensor, Dataset):
                tensor.verify()

    def sources(self) -> list[tuple[str, str]]:
        """The sources of the given set, or a note that a tensor was given."""
        first = self.tensors[0]
        return first.sources() if isinstance(first, Dataset) else [(self.name, "given")]

    def fingerprint(self) -> str:
        """The content of the tensors, hashed once."""
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return f"tensors of {first.fingerprint()}"
        # Hashed once: the fingerprint is asked for many times.
        self._key = self._key or " ".join(map(_tensor_key, self.tensors))
        return f"tensor {self._key}"

    def read(self) -> Images:
        """A copy of the tensors, or the images of the given set."""
        first = self.tensors[0]
        if isinstance(first, Dataset):
            return first.load()
        pixels = first.detach().cpu().clone()  # a copy: the caller may still change its tensor
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


def TensorDataset(*tensors: Any) -> Dataset:
    """Makes a set of tensors: images, and labels if there are two.

    Per-sample functions get items as they are stored, uint8 or float, with or without a channel
    axis, as old experiment files expect.

    Args:
        tensors: images (N, ...) first, then labels (N,); or the `.data` and `.targets` of a
            described set.

    Raises:
        DataError: no tensors, or tensors of different lengths.
    """
    return Dataset(Tensors(tensors))


def _tensor_key(tensor: Tensor | Dataset) -> str:
    if isinstance(tensor, Dataset):
        return tensor.fingerprint()
    if tensor.is_meta:  # a global evaluated by `check` on the meta device: it has no content
        return f"{tuple(tensor.shape)} {tensor.dtype} {id(tensor)}"
    return content_sha256(tensor.detach().cpu())

"""Arrays of files that are not NumPy's: `torch.save`, HDF5, MATLAB. Nothing in them is executed."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aelab.data.memory import refuse_too_large
from aelab.data.sources.matlab import mat_array, mat_arrays
from aelab.errors import DataError, MissingExtra
from aelab.files import open_file

#: Groups inside of groups that are looked into.
_DEEPEST = 8
#: Sizes of an axis that may be channels.
_CHANNELS = (1, 3, 4)


class Header(NamedTuple):
    """The header of an array in a file.

    Attributes:
        shape: of the array.
        dtype: of its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class OtherArrays(ABC):
    """The arrays of one file, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def headers(self) -> Mapping[str, Header]:
        """Shape and dtype of every array of numbers, without reading the values."""

    @abstractmethod
    def values(self, name: str) -> np.ndarray[Any, Any]:
        """One array; (N, ...) with the images along the first axis."""


def other_arrays(path: Path) -> OtherArrays | None:
    """The reader of a file by its first bytes; None for NumPy's own files and unknown ones.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    with open_file(path) as file:
        head = file.read(16)
        if head[:2] == b"PK":
            return TorchArrays(path) if _is_torch(file) else None
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return HdfArrays(path)
    if head[:10] == b"MATLAB 5.0":
        return MatlabArrays(path)
    # A pickle, as torch.save wrote it before 2020.
    return TorchArrays(path) if head[:1] == b"\x80" else None


def _is_torch(file: Any) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


class TorchArrays(OtherArrays):
    """Tensors of `torch.save`: one tensor, (images, labels), or a dictionary of tensors."""

    _read: dict[str, Tensor] | None = None

    def _tensors(self) -> dict[str, Tensor]:
        if self._read is None:
            self._refuse_bomb()
            try:
                # Mapped into memory, only what is used is read; old files cannot be mapped.
                new = zipfile.is_zipfile(self.path)
                with open_file(self.path) as file, warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of protocols and types, which fail below
                    loaded = torch.load(
                        self.path if new else file,
                        map_location="cpu", weights_only=True, mmap=new or None,
                    )  # fmt: skip
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError,
                    KeyError, AttributeError, TypeError) as error:  # fmt: skip
                # torch's own words advise to run the code of the file.
                unsafe = isinstance(error, pickle.UnpicklingError)
                words = "it holds other objects" if unsafe else " ".join(str(error).split())
                raise DataError(
                    f"cannot read tensors from {self.path}: {words[:160] or type(error).__name__}",
                    hint="only tensors are read, no code: write torch.save(images, path), or "
                    "torch.save({'images': images, 'labels': labels}, path)",
                ) from None
            self._read = _named_tensors(loaded)
            if not self._read:
                raise DataError(
                    f"{self.path} holds a {type(loaded).__name__} without tensors",
                    hint="weights of a model are no images; write torch.save(images, path)",
                )
        return self._read

    def _refuse_bomb(self) -> None:
        """Raise if the parts of the archive unpack to more than this machine's memory."""
        if zipfile.is_zipfile(self.path):
            with open_file(self.path) as file, zipfile.ZipFile(file) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > 2 * self.path.stat().st_size + (1 << 20):
                refuse_too_large(unpacked, f"{self.path}")

    def headers(self) -> Mapping[str, Header]:
        return {
            name: Header(tuple(t.shape), _numpy_dtype(t)) for name, t in self._tensors().items()
        }

    def values(self, name: str) -> np.ndarray[Any, Any]:
        tensor = self._tensors()[name]
        # A tensor may repeat few stored values any number of times (expand).
        refuse_too_large(tensor.numel() * tensor.element_size(), f"{name} of {self.path}")
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        return tensor.detach().contiguous().numpy()


def _named_tensors(loaded: Any) -> dict[str, Tensor]:
    if isinstance(loaded, Tensor):
        loaded = {"images": loaded}
    elif isinstance(loaded, list | tuple):
        loaded = dict(zip(("images", "labels"), loaded, strict=False))
    if not isinstance(loaded, Mapping):
        return {}
    return {
        str(name): value
        for name, value in loaded.items()
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    }


def _numpy_dtype(tensor: Tensor) -> np.dtype[Any]:
    if tensor.dtype == torch.bfloat16:
        return np.dtype("f4")
    return torch.empty(0, dtype=tensor.dtype).numpy().dtype


class HdfArrays(OtherArrays):
    """Data sets of an HDF5 file; those that lie in other files are left out."""

    def headers(self) -> Mapping[str, Header]:
        with self.opened() as file:
            return {
                name: Header(tuple(data.shape), data.dtype) for name, data in _datasets(file, "", 0)
            }

    def values(self, name: str) -> np.ndarray[Any, Any]:
        header = self.headers()[name]
        with self.opened() as file:
            refuse_too_large(
                math.prod(header.shape) * header.dtype.itemsize, f"{name} of {self.path}"
            )
            return np.asarray(file[name][...])

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Context manager: the file, opened by h5py.

        Raises:
            MissingExtra: h5py is not installed.
            DataError: the file is damaged.
        """
        try:
            import h5py
        except ImportError:
            raise MissingExtra("HDF5 files", "h5py", "files") from None
        try:
            with open_file(self.path) as raw, h5py.File(raw, "r") as file:
                yield file
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(f"cannot read the HDF5 file {self.path}: {str(error)[:120]}",
                            hint="copy it again") from None  # fmt: skip


def _datasets(group: Any, prefix: str, depth: int) -> Any:
    """(name, data set) of every array of numbers inside of this very file."""
    import h5py

    for name in group:
        # Soft and external links may lead out of the file.
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        found = group[name]
        if isinstance(found, h5py.Group) and depth < _DEEPEST:
            yield from _datasets(found, f"{prefix}{name}/", depth + 1)
        elif (isinstance(found, h5py.Dataset) and not found.external and not found.is_virtual
              and found.dtype.kind in "biuf"):  # fmt: skip
            yield f"{prefix}{name}", found


#: MATLAB's kinds of numbers as NumPy's.
_MATLAB_DTYPES = {"single": "f4", "double": "f8", "logical": "?"}


class MatlabArrays(OtherArrays):
    """Arrays of a MATLAB file, whose last axis counts the images: (H, W, N) or (H, W, C, N)."""

    def headers(self) -> Mapping[str, Header]:
        return {
            name: Header(_images_first(shape), np.dtype(_MATLAB_DTYPES.get(kind, kind)))
            for name, (shape, kind) in mat_arrays(self.path).items()
        }

    def values(self, name: str) -> np.ndarray[Any, Any]:
        found = mat_array(self.path, name)
        if found.ndim == 2 and 1 in found.shape:  # a row or column of labels
            return found.ravel()
        if found.ndim == 4 and found.shape[2] in _CHANNELS and found.shape[3] not in _CHANNELS:
            return found.transpose(3, 2, 0, 1)
        return found.transpose(2, 0, 1) if found.ndim == 3 else found


def _images_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 2 and 1 in shape:
        return (math.prod(shape),)
    if len(shape) == 4 and shape[2] in _CHANNELS and shape[3] not in _CHANNELS:
        return shape[3], shape[2], shape[0], shape[1]
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape

"""Files of arrays: NumPy's `.npy` and `.npz`, tensors of `torch.save`, HDF5, MATLAB.

Pickles are not read, and nothing in a file is executed.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.memory import mapped_above, refuse_too_large
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.data.prepare import ToShape
from aelab.data.sources.other_arrays import Header, other_arrays
from aelab.errors import DataError, did_you_mean, one_of
from aelab.files import open_file
from aelab.types import Images, Provenance

#: Names under which images and labels are searched in an `.npz` file, in this order.
IMAGES = ("images", "x", "x_train", "train_images", "data", "imgs", "X", "arr_0")
LABELS = ("labels", "y", "y_train", "train_labels", "targets", "arr_1")
#: Sizes of the last axis that may be channels.
_CHANNELS = (1, 3, 4)


class ArrayFile(Source):
    """The images of a file of arrays, see `array_dataset`."""

    name = "array"

    def __init__(self, path: str | Path, labels_path: str | Path | None, key: str | None) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self.labels_path = roots.resolve(labels_path) if labels_path is not None else None
        self.key = key

    def _header(self) -> Header:
        other = other_arrays(self.path)
        if other is not None:
            headers = other.headers()
            return _checked(headers[_chosen(self.path, list(headers), self.key, IMAGES)], self.path)
        with _opened(self.path, self.key, IMAGES) as (file, _):
            return _checked(_header(file), self.path)

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) from the header of the file."""
        return _item_shape(self._header().shape)

    def count(self) -> int | None:
        """The number of images from the header of the file."""
        return self._header().shape[0]

    def reading_seconds(self) -> float | None:
        """Ten nanoseconds for each byte of the array: reading, converting and hashing."""
        header = self._header()
        return 1e-8 * math.prod(header.shape) * header.dtype.itemsize

    def is_bytes(self) -> bool:
        """Whether the values are whole numbers; floats stay floats."""
        return self._header().dtype.kind != "f"

    def verify(self) -> None:
        """Raise DataError if a file is missing or holds no images."""
        self._header()

    def fingerprint(self) -> str:
        """Path, size and time of the files, and the name of the array."""
        return f"array {file_stamp(self.path)} {file_stamp(self.labels_path)} {self.key}"

    def sources(self) -> list[tuple[str, str]]:
        """The path of the images."""
        return [(self.name, str(self.path))]

    def read(self) -> Images:
        values = _values(self.path, self.key, IMAGES, images=True)
        pixels, mapped = _pixels(values, self.path)
        labels = self._labels(len(pixels))
        source = Provenance(self.name, str(self.path), len(pixels), content_sha256(pixels))
        facts = {"memory_mapped": mapped} if mapped else {}
        return make_images(pixels, labels=labels, provenance=[source], facts=facts)

    def _labels(self, count: int) -> Tensor | None:
        path = self.labels_path
        if path is None:
            if not set(_names(self.path)) & set(LABELS):
                return None
            path = self.path
        values = _values(path, None, LABELS, images=False)
        if values.shape != (count,) or values.dtype.kind not in "iu":
            raise DataError(
                f"{path}: labels are {values.dtype} {values.shape}, "
                f"expected {count:,} whole numbers"
            )
        return torch.from_numpy(values.astype(np.int64))


def _names(path: Path) -> list[str]:
    """Names of the arrays of a file; empty for `.npy`, which holds one."""
    other = other_arrays(path)
    if other is not None:
        return list(other.headers())
    with open_file(path) as file:
        if file.read(2) != b"PK":
            return []
    try:
        with open_file(path) as raw, zipfile.ZipFile(raw) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="copy it again") from None


@contextmanager
def _opened(
    path: Path, key: str | None, usual: tuple[str, ...]
) -> Iterator[tuple[IO[bytes], int | None]]:
    """Opens one array of a file; also returns the size in bytes, None if it is in an archive."""
    try:
        with open_file(path) as raw:
            # Decided by the first bytes (PK: a ZIP archive, as `.npz` is), not by the name of the
            # file.
            if raw.read(2) != b"PK":
                raw.seek(0)
                yield raw, path.stat().st_size
                return
            with (
                zipfile.ZipFile(raw) as archive,
                archive.open(f"{_key(path, key, usual)}.npy") as member,
            ):
                yield member, None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read an array from {path}: {error}", hint="write it with numpy.save or savez"
        ) from None


def _key(path: Path, key: str | None, usual: tuple[str, ...]) -> str:
    return _chosen(path, _names(path), key, usual)


def _chosen(path: Path, names: list[str], key: str | None, usual: tuple[str, ...]) -> str:
    """The name of the array that is meant.

    Raises:
        DataError: there is no such array, or several could be meant.
    """
    if key is not None:
        if key not in names:
            raise DataError(
                f"{path} holds no array {key!r}{did_you_mean(key, names)}",
                hint=f"possible: {one_of(names)}",
            )
        return key
    found = [name for name in usual if name in names] or (names if len(names) == 1 else [])
    if not found:
        raise DataError(
            f"{path} holds {'several' if names else 'no'} arrays"
            + (f", none of them called {' or '.join(usual[:2])}" if names else " of numbers"),
            hint=f"give key=..., one of: {one_of(names)}" if names else "is it another file?",
        )
    return found[0]


def _header(file: IO[bytes]) -> Header:
    shape, _, dtype = _header_of(file)
    return Header(shape, dtype)


def _header_of(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is stored by columns, and dtype; the file then stands at the values."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    return tuple(shape), bool(by_columns), dtype


def _checked(header: Header, path: Path) -> Header:
    """Returns the header if the array holds images of a dtype with a fixed black and white.

    Raises:
        DataError: otherwise, with what is expected.
    """
    shape, dtype = header
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            f"{path} holds an array of {shape}, expected images (N, H, W), (N, C, H, W) or "
            "(N, H, W, C)",
            hint="a single picture needs one more axis: array[None]",
        )
    # Both byte orders of uint16: for NumPy these are different dtypes.
    if not (dtype.kind == "f" or dtype == np.bool_ or dtype in (np.dtype("u1"), np.dtype("<u2"),
                                                               np.dtype(">u2"))):  # fmt: skip
        raise DataError(
            f"{path} holds values of {dtype}, which have no fixed black and white",
            hint="save it as uint8 (array.astype('uint8') if its values are 0..255), uint16, or "
            "floats of 0..1",
        )
    return header


def _values(
    path: Path, key: str | None, usual: tuple[str, ...], *, images: bool
) -> np.ndarray[Any, Any]:
    other = other_arrays(path)
    if other is not None:
        headers = other.headers()
        name = _chosen(path, list(headers), key, usual)
        if images:
            _checked(headers[name], path)
        return other.values(name)
    with _opened(path, key, usual) as (file, size):
        header = _header(file)
        if images:
            _checked(header, path)
        promised = math.prod(header.shape) * header.dtype.itemsize
        there = None if size is None else size - file.tell()
        if there is not None and there < promised:
            raise DataError(
                f"{path} is cut off: {there:,} bytes of data, its header promises {promised:,}",
                hint="copy it again",
            )
    with _opened(path, key, usual) as (file, size):
        if images and size is not None and promised > mapped_above():
            mapped = _mapped(path, file)
            if mapped is not None:
                return mapped
        refuse_too_large(promised, f"the array in {path}")
        return npy.read_array(file, allow_pickle=False)


def _mapped(path: Path, file: IO[bytes]) -> np.ndarray[Any, Any] | None:
    """A plain array of bytes mapped into memory; None if its values must be converted."""
    shape, by_columns, dtype = _header_of(file)
    if by_columns or dtype.hasobject:
        return None
    # Mode "c": changes stay in memory and never reach the file.
    return np.memmap(path, dtype, "c", offset=file.tell(), shape=shape)


def _item_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of an array of images; channels last if only the last axis can be channels."""
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    _, second, third, last = shape
    if last in _CHANNELS and second not in _CHANNELS:
        return last, second, third
    return second, third, last


def _pixels(values: np.ndarray[Any, Any], path: Path) -> tuple[Tensor, bool]:
    """Converts an array to (N, C, H, W) uint8, or float32 in 0..1; and whether it is mapped."""
    channels, height, width = _item_shape(values.shape)
    if values.ndim == 3:
        # (N, H, W) -> (N, 1, H, W)
        values = values[:, None]
    elif values.shape[1:] != (channels, height, width):
        # (N, H, W, C) -> (N, C, H, W)
        values = values.transpose(0, 3, 1, 2)
    if values.dtype.kind == "f":
        parts = [values[part] for part in parts_of(len(values), values[:1].nbytes)]
        wrong = sum(int((~np.isfinite(part)).sum()) for part in parts)
        if wrong:
            raise DataError(f"{path}: {wrong:,} of its values are NaN or infinite")
        low = min(float(part.min()) for part in parts)
        high = max(float(part.max()) for part in parts)
        if low < -1e-3 or high > 1 + 1e-3:
            raise DataError(
                f"{path}: floats are read as 0..1, and its values go from {low:g} to {high:g}",
                hint="divide by the value of white (255 for bytes) and save it again",
            )
    wanted = np.float32 if values.dtype.kind == "f" else np.uint8
    if values.dtype == wanted and values.flags.c_contiguous:
        return torch.from_numpy(values), isinstance(values, np.memmap)
    room = PixelRoom(len(values), f"the array in {path}")
    for part in parts_of(len(values), values[:1].nbytes):
        some = values[part]
        if some.dtype == np.bool_:
            some = some.astype(np.uint8) * 255
        elif some.dtype.kind != "f" and some.dtype.itemsize == 2:
            # The upper 8 bits of 16
            some = some >> 8
        room.add(torch.from_numpy(some.astype(wanted, order="C")))
    mapped = room.mapped
    return room.done(), mapped


def array_dataset(
    path: str,
    labels_path: str | None = None,
    shape: tuple[int, int, int] | None = None,
    interpolation: bool | str = True,
    *,
    key: str | None = None,
) -> Dataset:
    """The images of a file of arrays: NumPy, PyTorch, HDF5 or MATLAB.

    Values of uint8 and bool are taken as they are, of uint16 the upper 8 bits, floats as 0..1.
    Other dtypes, and floats outside 0..1, are refused.

    Args:
        path: `.npy`, `.npz`, `.pt` (tensors only), and with the extra `files` `.h5` and `.mat`:
            (N, H, W), (N, C, H, W), or (N, H, W, C) with 1, 3 or 4 channels; in `.mat` (H, W, N) or
            (H, W, C, N).
        labels_path: a file of N whole numbers; by default the array `labels` or `y` beside.
        shape: (C, H, W) wanted; as stored if left out.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        key: which array of several; `images`, `x`, `data` or the only one if left out.
    """
    return Dataset(ArrayFile(path, labels_path, key), [ToShape(shape, interpolation)])


def tensor_of_file(f: str, map_location: str | None = None, weights_only: bool = True) -> Dataset:
    """`torch.load` of blocks: the images of a file of tensors, for `TensorDataset`.

    No pickled code is run, and there is no tensor: the file is read when the set is needed.

    Args:
        f: as `path` of `array_dataset`; a file of the same name is also found beside the experiment
            file, in `AELAB_DATA` and in the cache, for paths of another machine.
        map_location, weights_only: without effect.

    Raises:
        DataError: there is no such file, or it holds no images.
    """
    found = roots.find_elsewhere(f)
    if found is None:
        raise roots.missing_file(f, "a file of tensors")
    return array_dataset(str(found))


tensor_of_file.reads_files = True  # type: ignore[attr-defined]

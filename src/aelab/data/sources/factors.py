"""dSprites and 3D Shapes: published sets with known factors, larger than memory may be."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.data.prepare import ToShape
from aelab.data.sources.download import Remote
from aelab.data.sources.other_arrays import HdfArrays
from aelab.data.sources.published import PublishedSet, damaged
from aelab.errors import DataError
from aelab.files import open_file
from aelab.preparation import track
from aelab.types import Images

_STEM = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"
_DSPRITES = Remote(
    f"{_STEM}.hdf5",
    (f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{_STEM}.hdf5",),
    "sha256:729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
    28_024_106,
    "dsprites",
)
_SHAPES = Remote(
    "3dshapes.h5",
    ("https://storage.googleapis.com/3d-shapes/",),
    "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
    267_573_662,
    "3dshapes",
)


class FactorSet(PublishedSet):
    """A set in one file of arrays, whose labels (N, F) are the numbers of its factors' values."""

    #: Names of the arrays: images, and the factors.
    arrays: tuple[str, str]
    factors: tuple[str, ...]
    sizes: tuple[int, ...]
    #: By what stored pixels are multiplied to be 0..255.
    scale: int
    kinds = ("a file of NumPy arrays", "an HDF5 file", "a ZIP archive")

    def count(self) -> int | None:
        """The product of the factors' sizes: every combination occurs once."""
        return int(np.prod(self.sizes))

    def read_from(self, found: Path) -> Images:
        """Reads the images part by part; larger ones stay in a mapped file of the cache."""
        count = self.count()
        assert count is not None
        # (N, H, W) or (N, H, W, C) as stored
        sides = self.stored[1:] if self.stored[0] == 1 else (*self.stored[1:], self.stored[0])
        room = PixelRoom(count, self.name)
        shape, values = self._images(found)
        if shape != (count, *sides):
            raise damaged(found, f"is not {self.name}: images {shape}", self.remote)
        step = next(parts_of(count, int(np.prod(sides))))
        for part in track(values(step.stop), f"reading {self.name}", count, weight=step.stop):
            made = part[:, None] if self.stored[0] == 1 else part.transpose(0, 3, 1, 2)
            room.add(torch.from_numpy(np.ascontiguousarray(made) * np.uint8(self.scale)))
        mapped = room.mapped
        # The order of the published files: the last factor changes first.
        grids = np.unravel_index(np.arange(count), self.sizes)
        labels = torch.from_numpy(np.stack(grids, axis=1).astype(np.int64))
        made = self.images(
            found,
            room.done(),
            labels,
            memory_mapped=mapped,
            factor_names=list(self.factors),
            factor_sizes=list(self.sizes),
        )
        return replace(made, factors=labels)

    def _images(self, found: Path) -> tuple[tuple[int, ...], Any]:
        """Shape of the images, and a function: rows at once -> their parts, uint8."""
        if found.suffix == ".npz":
            return _npz_shape(found, self.arrays[0]), lambda rows: _npz_parts(
                found, self.arrays[0], rows
            )
        store = HdfArrays(found)
        header = store.headers().get(self.arrays[0])
        if header is None:
            raise damaged(found, f"is not {self.name}: it has no {self.arrays[0]}", self.remote)

        def parts(rows: int) -> Iterator[np.ndarray[Any, Any]]:
            """Slices of the array, read one after the other."""
            with store.opened() as file:
                for start in range(0, header.shape[0], rows):
                    yield np.asarray(file[self.arrays[0]][start : start + rows], np.uint8)

        return tuple(header.shape), parts


def _npz_shape(path: Path, name: str) -> tuple[int, ...]:
    with _npz(path, name) as (shape, _):
        return shape


class _npz:
    """One array of bytes in an `.npz` file, opened behind its header."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def __enter__(self) -> tuple[tuple[int, ...], Any]:
        self.raw = open_file(self.path)
        try:
            self.archive = zipfile.ZipFile(self.raw)
            self.member = self.archive.open(f"{self.name}.npy")
            version = npy.read_magic(self.member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, by_columns, dtype = read(self.member)
            if by_columns or dtype != np.uint8:
                raise ValueError(f"{self.name} holds {dtype}")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            self.raw.close()
            raise DataError(f"cannot read {self.name} of {self.path}: {error}",
                            hint="copy it again from its source") from None  # fmt: skip
        return tuple(shape), self.member

    def __exit__(self, *_: object) -> None:
        self.member.close()
        self.archive.close()
        self.raw.close()


def _npz_parts(path: Path, name: str, rows: int) -> Iterator[np.ndarray[Any, Any]]:
    with _npz(path, name) as (shape, member):
        each = int(np.prod(shape[1:]))
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            content = member.read(count * each)
            if len(content) != count * each:
                raise damaged(path, "is cut off")
            yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])


class DSprites(FactorSet):
    """dSprites, see `dsprites_dataset`."""

    name = "dsprites"
    folders = ("dsprites", "dSprites", "dsprites-dataset")
    stored = (1, 64, 64)
    arrays, scale = ("imgs", "latents/classes"), 255
    factors = ("colour", "shape", "scale", "orientation", "x", "y")
    sizes = (1, 3, 6, 40, 32, 32)

    @property
    def candidates(self) -> Sequence[str]:
        """The NumPy file, then the HDF5 file."""
        return [f"{_STEM}.npz", _DSPRITES.name, "dsprites.npz"]

    @property
    def remote(self) -> Remote:
        """The HDF5 file, whose digest is published."""
        return _DSPRITES


class Shapes3D(FactorSet):
    """3D Shapes, see `shapes3d_dataset`."""

    name = "shapes3d"
    folders = ("3dshapes", "shapes3d", "3d-shapes")
    stored = (3, 64, 64)
    arrays, scale = ("images", "labels"), 1
    factors = ("floor hue", "wall hue", "object hue", "scale", "shape", "orientation")
    sizes = (10, 10, 10, 8, 4, 15)

    @property
    def candidates(self) -> Sequence[str]:
        """The HDF5 file."""
        return [_SHAPES.name]

    @property
    def remote(self) -> Remote:
        """The same file."""
        return _SHAPES


@listed("dsprites")
def dsprites_dataset(
    shape: tuple[int, int, int] = (1, 64, 64),
    interpolation: bool | str = True,
    path: str | None = None,
) -> Dataset:
    """dSprites: 737,280 white shapes on black, every combination of five factors, 64 x 64.

    Labels are (N, 6): the numbers of colour (1), shape (3), scale (6), orientation (40), x (32) and
    y (32). All images take 3 GB, which lie in a file of the cache; `.sample(n)` chooses some.

    Args:
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        path: the `.npz` or `.hdf5` file, or its folder; otherwise `AELAB_DATA`, the cache, then a
            checked download of 28 MB (HDF5: extra `files`).

    Source: Matthey et al. 2017, dSprites: disentanglement testing sprites dataset, Apache-2.0.
    """
    return Dataset(DSprites(path), [ToShape(shape, interpolation)])


@listed("shapes3d")
def shapes3d_dataset(
    shape: tuple[int, int, int] = (3, 64, 64),
    interpolation: bool | str = True,
    path: str | None = None,
) -> Dataset:
    """3D Shapes: 480,000 objects in a room, every combination of six factors, 64 x 64 in colour.

    Labels are (N, 6): the numbers of floor hue (10), wall hue (10), object hue (10), scale (8),
    shape (4) and orientation (15). All images take 5.9 GB, which lie in a file of the cache.

    Args:
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        path: `3dshapes.h5`, or its folder; otherwise `AELAB_DATA`, the cache, then a checked
            download of 268 MB. Needs the extra `files`.

    Source: Burgess and Kim 2018, 3D Shapes dataset, Apache-2.0.
    """
    return Dataset(Shapes3D(path), [ToShape(shape, interpolation)])

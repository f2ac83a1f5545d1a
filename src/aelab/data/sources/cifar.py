"""CIFAR-10 as published: the binary version, and the Python one without running its pickles."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import ToShape
from aelab.data.sources.download import fetch
from aelab.errors import DataError
from aelab.files import open_file, read_file
from aelab.types import Images, Provenance

#: Images of each of the six files.
IMAGES_A_FILE = 10_000
#: Bytes of one image: red, green, blue, each 32 rows of 32.
_PIXELS = 3 * 32 * 32
#: An upper bound of the size of each file.
_MOST_BYTES = 64 << 20

LABELS = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

_FOLDER = "cifar-10"
_ARCHIVE = "cifar-10-binary.tar.gz"
_ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
#: Folder inside the archives, and how its files end, in order of preference.
_VERSIONS = (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", ""))
_ARCHIVES = (_ARCHIVE, "cifar-10-python.tar.gz")


class Cifar10(Source):
    """One half of CIFAR-10, 3 x 32 x 32, as stored; see `cifar10_dataset`."""

    name = "cifar10"

    def __init__(self, train: bool, path: str | None = None) -> None:
        super().__init__()
        self.train = train
        self.stems = tuple(f"data_batch_{n}" for n in range(1, 6)) if train else ("test_batch",)
        self.path = str(roots.resolve(path)) if path is not None else None

    def item_shape(self) -> tuple[int, ...]:
        """(3, 32, 32)."""
        return (3, 32, 32)

    def count(self) -> int | None:
        """50,000 training images, or 10,000 test images."""
        return len(self.stems) * IMAGES_A_FILE

    def fingerprint(self) -> str:
        """The name of the half, and path, size and time of its first file."""
        return f"{self.name} {self.stems[0]} {file_stamp(self._find()[0])}"

    def verify(self) -> None:
        """Raise DataError if the half is incomplete; without any file it can be downloaded."""
        found, places = self._find()
        if found is None:
            if self.path is not None:
                raise self._missing(places)
            return
        for file in self._files(found):
            if not file.is_file():
                raise DataError(
                    f"{file} is missing beside {found.name}",
                    hint=f"unpack {_ARCHIVE} again: it has six files",
                )
            wanted = IMAGES_A_FILE * (1 + _PIXELS)
            if file.suffix == ".bin" and file.stat().st_size != wanted:
                raise DataError(
                    f"{file} has {file.stat().st_size:,} bytes; {wanted:,} are {IMAGES_A_FILE:,} "
                    "images with a label each",
                    hint=f"unpack {_ARCHIVE} again",
                )

    def sources(self) -> list[tuple[str, str]]:
        """The folder of the files, or the address they are downloaded from."""
        found, _ = self._find()
        return [(self.name, str(found.parent) if found else f"not here; fetched: {_MIRRORS[0]}")]

    def _find(self) -> tuple[Path | None, list[Path]]:
        """The first file of the half, or an archive; and every place that was searched."""
        names = [f"{folder}/{self.stems[0]}{end}" for folder, end in _VERSIONS]
        names += _ARCHIVES
        inside = [
            f"{folder}/{name}" for folder in (_FOLDER, "cifar10", "CIFAR10") for name in names
        ]
        with roots.entering(self._roots):
            return roots.find([*inside, *names], self.path)

    def _files(self, found: Path) -> list[Path]:
        """The files of the half beside its first one; empty for an archive."""
        if found.name.endswith((".gz", ".tgz", ".tar")):
            return []
        return [found.with_name(f"{stem}{found.suffix}") for stem in self.stems]

    def _missing(self, places: list[Path]) -> DataError:
        looked = "\n    ".join(map(str, places))
        return DataError(
            f"{self.name}: {self.stems[0]} is not where `path` points; looked at\n    {looked}",
            hint=roots.way_out(
                "leave `path` out to use AELAB_DATA, the cache or a download", self._roots
            ),
        )

    def read(self) -> Images:
        self.verify()
        found, places = self._find()
        if found is None:
            found = fetch(
                [mirror + _ARCHIVE for mirror in _MIRRORS],
                roots.cache_folder() / _FOLDER / _ARCHIVE,
                sha256=_ARCHIVE_SHA256,
                looked_at=places,
                packed=True,
            )
        files = self._files(found)
        contents: Iterator[tuple[str, bytes]]
        if files:
            contents = ((str(file), read_file(file)) for file in files)
        else:
            contents = _members(found, self.stems)
        room, numbers = PixelRoom(len(self.stems) * IMAGES_A_FILE, self.name), []
        for name, content in contents:
            some, some_labels = _read_batch(name, content)
            room.add(some)
            numbers.append(some_labels)
        pixels, labels = room.done(), torch.cat(numbers)
        source = Provenance(self.name, str(found), len(pixels), content_sha256(pixels))
        facts = {"label_names": list(LABELS)}
        return make_images(pixels, labels=labels.long(), provenance=[source], facts=facts)


def _members(archive: Path, stems: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files of an archive, read into memory, not unpacked to the disk."""
    wanted = {f"{folder}/{stem}{end}" for folder, end in _VERSIONS for stem in stems}
    found: dict[str, bytes] = {}
    try:
        with open_file(archive) as file, tarfile.open(fileobj=file, mode="r:*") as tar:
            for member in tar:
                if member.name in wanted and member.isreg() and member.size <= _MOST_BYTES:
                    content = tar.extractfile(member)
                    found[member.name] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"{archive} is not an archive of CIFAR-10, or cut off: {error}",
            hint="remove it; it is downloaded again",
        ) from None
    for folder, end in _VERSIONS:
        names = [f"{folder}/{stem}{end}" for stem in stems]
        if all(name in found for name in names):
            yield from ((f"{archive}: {name}", found.pop(name)) for name in names)
            return
    raise DataError(
        f"{archive} lacks {', '.join(sorted(wanted - found.keys()))}",
        hint=f"the published archives are {' and '.join(_ARCHIVES)}",
    )


def _read_batch(name: str, content: bytes) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) and (N,) uint8 of one file.

    Raises:
        DataError: a wrong length, an impossible label, or a pickle of anything but arrays.
    """
    if name.endswith(".bin"):
        rows = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if len(rows) != IMAGES_A_FILE * (1 + _PIXELS):
            raise _damaged(name, f"{len(rows):,} bytes")
        # Each row: one byte of label, then the pixels.
        rows = rows.view(IMAGES_A_FILE, 1 + _PIXELS)
        labels, pixels = rows[:, 0], rows[:, 1:]
    else:
        labels, pixels = _read_pickle(name, content)
    if int(labels.max()) >= len(LABELS):
        raise _damaged(name, f"a label {int(labels.max())}; possible: 0 to {len(LABELS) - 1}")
    # (N, 3072) -> (N, 3, 32, 32): stored channel by channel, row by row.
    return pixels.reshape(-1, 3, 32, 32).contiguous(), labels


def _damaged(name: str, what: str) -> DataError:
    return DataError(
        f"{name} is not a file of CIFAR-10: {what}", hint=f"unpack one of {' and '.join(_ARCHIVES)}"
    )


class _Array:
    """A stand-in for a pickled numpy array: only shape, dtype and bytes."""

    shape: tuple[int, ...] = ()
    kind: str = ""
    content: bytes = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes) or by_columns:
            raise pickle.UnpicklingError("an array without bytes")
        self.shape, self.kind, self.content = tuple(shape), kind.name, content


class _Kind:
    """A stand-in for a pickled numpy dtype: only its name."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: Any) -> None:
        """Ignores byte order and alignment, which do not matter for bytes."""


class _NothingButArrays(pickle.Unpickler):
    """Unpickles arrays as plain records. It imports no name from the file, so no code can run."""

    _KNOWN = {  # noqa: RUF012  (a table)
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Kind,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a known name; raises for any other."""
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _read_pickle(name: str, content: bytes) -> tuple[Tensor, Tensor]:
    """(N,) labels and (N, 3072) pixels of a file of the Python version."""
    try:
        batch = _NothingButArrays(io.BytesIO(content), encoding="bytes").load()
        array = batch.get(b"data", batch.get("data"))
        numbers = batch.get(b"labels", batch.get("labels"))
        labels = torch.tensor([int(number) for number in numbers], dtype=torch.int64)
        pixels = torch.frombuffer(bytearray(array.content), dtype=torch.uint8)
        pixels = pixels.view(IMAGES_A_FILE, _PIXELS)
    except Exception as error:
        raise _damaged(name, f"{type(error).__name__}: {str(error)[:80]}") from None
    if array.kind not in ("u1", "|u1", "uint8") or len(labels) != IMAGES_A_FILE:
        raise _damaged(name, f"{len(labels):,} labels, pixels of type {array.kind}")
    if int(labels.min()) < 0:
        raise _damaged(name, "a negative label")
    return labels, pixels


@listed("cifar10", validation={"train": False})
def cifar10_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (3, 32, 32),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 small photographs of ten classes, 32 x 32 in colour.

    Args:
        train: the training half if true, else the test half.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        normalize_between: (low, high), to which each image's own minimum and maximum are mapped.
        path: folder with the files of the binary or the Python version, or one of the archives. If
            left out: `AELAB_DATA`, then the cache, then a checked download of 170 MB. Pickles are
            read without running code.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Cifar10(bool(train), path), [resize])

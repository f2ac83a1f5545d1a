"""SVHN, STL-10 and USPS in their published files."""

from __future__ import annotations

import bz2
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import torch

from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.data.prepare import ToShape
from aelab.data.sources.download import Remote
from aelab.data.sources.matlab import mat_array, mat_arrays
from aelab.data.sources.published import PublishedSet, damaged, part_of
from aelab.files import open_file
from aelab.types import Images

_DIGITS = tuple("0123456789")

SvhnPart = Literal["train", "test", "extra"]
_SVHN = {
    part: Remote(
        f"{part}_32x32.mat",
        ("http://ufldl.stanford.edu/housenumbers/",),
        f"sha256:{sha256}",
        size_bytes,
        "svhn",
    )
    for part, sha256, size_bytes in (
        ("train", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182_040_794),
        ("test", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64_275_384),
        (
            "extra",
            "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
            1_329_278_602,
        ),
    )
}


class Svhn(PublishedSet):
    """One part of SVHN's cropped digits, see `svhn_dataset`."""

    name = "svhn"
    folders = ("svhn", "SVHN", "svhn_cropped")
    stored = (3, 32, 32)

    kinds = ("a MATLAB file", "an HDF5 file")

    def __init__(self, part: str, path: str | None = None) -> None:
        super().__init__(path)
        self._part = part_of(part, get_args(SvhnPart), "SVHN")

    @property
    def part(self) -> str:
        """The part."""
        return self._part

    @property
    def candidates(self) -> Sequence[str]:
        """The MATLAB file of the part."""
        return [self.remote.name]

    @property
    def remote(self) -> Remote:
        """The same file."""
        return _SVHN[self._part]

    def read_from(self, found: Path) -> Images:
        """Reads `X` (32, 32, 3, N) and `y`, whose 10 is the digit 0."""
        shape, _ = mat_arrays(found).get("X", ((), ""))
        if len(shape) != 4 or shape[:3] != (32, 32, 3):
            raise damaged(found, f"is not a file of SVHN: its X is {shape}", self.remote)
        values, labels = mat_array(found, "X"), mat_array(found, "y").ravel().astype(np.int64)
        if len(labels) != shape[3] or labels.min() < 0 or labels.max() > 10:
            raise damaged(found, "has not one digit for each image", self.remote)
        room = PixelRoom(shape[3], self.name)
        for some in parts_of(shape[3], 3072):
            # (H, W, C, n) -> (n, C, H, W)
            room.add(
                torch.from_numpy(np.ascontiguousarray(values[..., some].transpose(3, 2, 0, 1)))
            )
        return self.images(found, room.done(), torch.from_numpy(labels % 10), _DIGITS)


StlPart = Literal["train", "test", "unlabeled"]
_STL = Remote(
    "stl10_binary.tar.gz",
    ("http://ai.stanford.edu/~acoates/stl10/",),
    "sha256:f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    2_640_397_119,
    "stl10",
)
_STL_CLASSES = tuple("airplane bird car cat deer dog horse monkey ship truck".split())
_STL_COUNTS = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
_STL_BYTES = 3 * 96 * 96


class Stl10(PublishedSet):
    """One part of STL-10, see `stl10_dataset`."""

    name = "stl10"
    folders = ("stl10", "STL10", "stl10_binary", "stl10/stl10_binary")
    stored = (3, 96, 96)

    kinds = ("packed with", "a tar archive")

    def __init__(self, part: str, path: str | None = None) -> None:
        super().__init__(path)
        self._part = part_of(part, get_args(StlPart), "STL-10")

    @property
    def part(self) -> str:
        """The part."""
        return self._part

    def count(self) -> int | None:
        """The number of images of the part."""
        return _STL_COUNTS[self._part]

    @property
    def candidates(self) -> Sequence[str]:
        """The unpacked file of images, then the archive."""
        return [f"stl10_binary/{self._part}_X.bin", f"{self._part}_X.bin", _STL.name]

    @property
    def remote(self) -> Remote:
        """The archive."""
        return _STL

    def read_from(self, found: Path) -> Images:
        """Reads images, which are stored by columns, and labels, which count from 1."""
        count = _STL_COUNTS[self._part]
        labels = None
        if self._part != "unlabeled":
            with _member(found, f"{self._part}_y.bin") as file:
                numbers = np.frombuffer(file.read(count + 1), np.uint8)
            if len(numbers) != count or numbers.min() < 1 or numbers.max() > 10:
                raise damaged(found, f"has not a label of 1 to 10 for {count:,} images", _STL)
            labels = torch.from_numpy(numbers.astype(np.int64) - 1)
        room = PixelRoom(count, self.name)
        with _member(found, f"{self._part}_X.bin") as file:
            for some in parts_of(count, _STL_BYTES):
                wanted = (some.stop - some.start) * _STL_BYTES
                content = file.read(wanted)
                if len(content) != wanted:
                    raise damaged(found, f"is cut off: it has not {count:,} images", _STL)
                # (n, C, W, H) as stored -> (n, C, H, W)
                part = torch.frombuffer(bytearray(content), dtype=torch.uint8)
                room.add(part.view(-1, 3, 96, 96).transpose(2, 3))
            if file.read(1):
                raise damaged(found, f"has more than {count:,} images", _STL)
        return self.images(found, room.done(), labels, _STL_CLASSES if labels is not None else ())


@contextmanager
def _member(found: Path, name: str) -> Iterator[IO[bytes]]:
    """A file beside `found`, or inside it if it is an archive."""
    if found.suffix == ".bin":
        with open_file(found.with_name(name)) as file:
            yield file
        return
    try:
        with open_file(found) as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                if Path(member.name).name == name and member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None  # a regular file
                    yield content
                    return
    except (tarfile.TarError, EOFError, OSError) as error:
        why = str(error).partition("\n")[0].rstrip(":")  # then a line for each packing
        raise damaged(found, f"is not the archive of STL-10, or cut off: {why}", _STL) from None
    raise damaged(found, f"holds no {name}", _STL)


_USPS = {
    "train": ("usps.bz2", "ec16c51db3855ca6c91edd34d0e9b197", 7_291),
    "test": ("usps.t.bz2", "8ea070ee2aca1ac39742fdd1ef5ed118", 2_007),
}
#: Bytes of one line of USPS at most: 256 entries `index:value`.
_USPS_LINE = 8_192


class Usps(PublishedSet):
    """One half of USPS, see `usps_dataset`."""

    name = "usps"
    folders = ("usps", "USPS")
    stored = (1, 16, 16)

    kinds = ("packed with", "a text")

    def __init__(self, train: bool, path: str | None = None) -> None:
        super().__init__(path)
        self.train = train

    @property
    def part(self) -> str:
        """The half."""
        return "train" if self.train else "test"

    def count(self) -> int | None:
        """7,291 training images, or 2,007 test images."""
        return _USPS[self.part][2]

    @property
    def candidates(self) -> Sequence[str]:
        """The file of the half, packed or not."""
        name = _USPS[self.part][0]
        return [name, name.removesuffix(".bz2")]

    @property
    def remote(self) -> Remote:
        """The packed file."""
        name, md5, _ = _USPS[self.part]
        folder = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
        return Remote(name, (folder,), f"md5:{md5}", None, "usps")

    def read_from(self, found: Path) -> Images:
        """Reads lines of `label index:value ...`, values of -1 to 1, labels of 1 to 10."""
        count = self.count()
        assert count is not None
        pixels, labels = np.zeros((count, 256), np.uint8), np.zeros(count, np.int64)
        with open_file(found) as raw:
            file = bz2.open(raw) if found.suffix == ".bz2" else raw
            try:
                for row in range(count):
                    labels[row], pixels[row] = _usps_line(file.readline(_USPS_LINE))
                if file.read(1):
                    raise ValueError(f"more than {count:,} lines")
            except (OSError, EOFError, ValueError) as error:
                raise damaged(found, f"is not the file of USPS: {error}", self.remote) from None
        made = torch.from_numpy(pixels).view(-1, 1, 16, 16)
        return self.images(found, made, torch.from_numpy(labels), _DIGITS)


def _usps_line(line: bytes) -> tuple[int, np.ndarray]:
    """(digit, 256 values of 0 to 255) of one line.

    Raises:
        ValueError: it is not such a line.
    """
    label, *entries = line.split()  # ValueError for an empty line: the file is cut off
    values = np.zeros(256)
    try:
        digit = int(float(label)) - 1
        pairs = [entry.partition(b":")[::2] for entry in entries]
        numbers = [(int(index), float(value)) for index, value in pairs]
    except ValueError:  # its text would show the bytes of the file
        raise ValueError("a line that is not `label 1:value 2:value ...`") from None
    for index, value in numbers:
        if not 1 <= index <= 256:
            raise ValueError(f"an index {index}; possible: 1 to 256")
        values[index - 1] = value
    if len(entries) != 256 or not 0 <= digit < 10 or not np.abs(values).max() <= 1:
        raise ValueError("a line without a label of 1 to 10 and 256 values of -1 to 1")
    return digit, np.rint((values + 1) / 2 * 255).astype(np.uint8)


@listed("svhn", validation={"part": "test"})
def svhn_dataset(
    part: SvhnPart = "train",
    shape: tuple[int, int, int] = (3, 32, 32),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """SVHN, cropped: digits of house numbers in photographs, 32 x 32 in colour.

    Args:
        part: `train` (73,257), `test` (26,032) or `extra` (531,131 easier ones).
        shape, interpolation, normalize_between: as for `cifar10_dataset`.
        path: the MATLAB file, or its folder; otherwise `AELAB_DATA`, the cache, then a checked
            download (182, 64 or 1,329 MB). Needs the extra `files`.

    Source: Netzer et al. 2011, Reading digits in natural images; for research only.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Svhn(part, path), [resize])


@listed("stl10", validation={"part": "test"})
def stl10_dataset(
    part: StlPart = "train",
    shape: tuple[int, int, int] = (3, 96, 96),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """STL-10: photographs of ten classes and similar ones without labels, 96 x 96 in colour.

    Args:
        part: `train` (5,000), `test` (8,000) or `unlabeled` (100,000).
        shape, interpolation, normalize_between: as for `cifar10_dataset`.
        path: the archive, or a folder with its files; otherwise `AELAB_DATA`, the cache, then a
            checked download of 2,640 MB.

    Source: Coates, Lee, Ng 2011, An analysis of single-layer networks.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Stl10(part, path), [resize])


@listed("usps", validation={"train": False})
def usps_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 16, 16),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """USPS: 7,291 + 2,007 handwritten digits of envelopes, 16 x 16 grey.

    Args:
        train, shape, interpolation, normalize_between: as for `mnist_dataset`.
        path: the file in the LIBSVM format, or its folder; otherwise `AELAB_DATA`, the cache, then
            a checked download.

    Source: Hull 1994, A database for handwritten text recognition research.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Usps(bool(train), path), [resize])

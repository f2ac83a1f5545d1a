"""EMNIST and QMNIST: handwritten characters in IDX files, gzipped, inside a ZIP archive, or plain.

EMNIST stores its images transposed; they are turned upright here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.prepare import ToShape
from aelab.data.sources.download import Remote
from aelab.data.sources.idx import idx_of
from aelab.data.sources.published import PublishedSet, damaged, part_of
from aelab.errors import DataError, did_you_mean, one_of
from aelab.files import open_file
from aelab.types import Images

EmnistSplit = Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"]

_DIGITS = "0123456789"
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Small letters that `balanced` and `bymerge` keep apart from their capitals.
_APART = "abdefghnqrt"
#: The class of each label; `letters` counts from 1.
_CLASSES = {
    "byclass": _DIGITS + _CAPITALS + _CAPITALS.lower(),
    "bymerge": _DIGITS + _CAPITALS + _APART,
    "balanced": _DIGITS + _CAPITALS + _APART,
    "letters": _CAPITALS,
    "digits": _DIGITS,
    "mnist": _DIGITS,
}
EMNIST_ZIP = Remote(
    "gzip.zip",
    (
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
    ),
    "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    561_753_746,
    "emnist",
)


class Emnist(PublishedSet):
    """One half of one split of EMNIST, see `emnist_dataset`."""

    name = "emnist"
    folders = ("emnist", "EMNIST", "EMNIST/raw", "emnist/gzip")
    stored = (1, 28, 28)

    kinds = ("packed with", "a ZIP archive", "an IDX file")

    def __init__(self, split: str, train: bool, path: str | None = None) -> None:
        super().__init__(path)
        if split not in _CLASSES:
            raise DataError(
                f"EMNIST has no split {split!r}{did_you_mean(split, _CLASSES)}",
                hint=f"possible: {one_of(get_args(EmnistSplit))}",
            )
        self.split, self.train = split, train

    @property
    def part(self) -> str:
        """The split and the half."""
        return f"{self.split} {'train' if self.train else 'test'}"

    def _names(self, what: str) -> list[str]:
        file = f"emnist-{self.split}-{'train' if self.train else 'test'}-{what}"
        return [f"{file}.gz", file]

    @property
    def candidates(self) -> Sequence[str]:
        """The file of images, gzipped or not, then the archive of all splits."""
        return [*self._names("images-idx3-ubyte"), EMNIST_ZIP.name]

    @property
    def remote(self) -> Remote:
        """The archive of all splits."""
        return EMNIST_ZIP

    def read_from(self, found: Path) -> Images:
        """Reads images and labels and turns the images upright."""
        images = self._tensor(found, "images-idx3-ubyte")
        labels = self._tensor(found, "labels-idx1-ubyte").long()
        if images.ndim != 3 or tuple(images.shape[1:]) != (28, 28) or len(labels) != len(images):
            raise damaged(found, "does not hold images of 28x28 with a label each", EMNIST_ZIP)
        labels = labels - 1 if self.split == "letters" else labels
        classes = _CLASSES[self.split]
        if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
            raise damaged(found, f"has labels other than the {len(classes)} of {self.split}")
        # (N, W, H) as stored -> (N, 1, H, W)
        upright = images.transpose(1, 2)[:, None].contiguous()
        return self.images(found, upright, labels, tuple(classes))

    def _tensor(self, found: Path, what: str) -> Tensor:
        names = self._names(what)
        if found.suffix != ".zip":
            beside = [found.with_name(name) for name in names]
            there = next((path for path in beside if path.is_file()), None)
            if there is None:
                raise self.missing([names[0]], beside)
            with open_file(there) as file:
                return idx_of(there, file)
        try:
            with open_file(found) as raw, zipfile.ZipFile(raw) as archive:
                inside = {Path(name).name: name for name in archive.namelist()}
                if names[0] not in inside:
                    raise damaged(found, f"holds no {names[0]}", EMNIST_ZIP)
                with archive.open(inside[names[0]]) as member:
                    return idx_of(f"{found}: {names[0]}", member)
        except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
            raise damaged(found, f"is not the archive of EMNIST: {error}", EMNIST_ZIP) from None


_QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master/"
#: MD5 of the files of QMNIST, as published by torchvision.
_QMNIST_MD5 = {
    "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
    "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
    "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
    "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    "xnist-images-idx3-ubyte.xz": "7f124b3b8ab81486c9d8c2749c17f834",
    "xnist-labels-idx2-int.xz": "5ed0e788978e45d4a8bd4b7caec3d79d",
}
QmnistPart = Literal["train", "test", "test10k", "test50k", "nist"]


class Qmnist(PublishedSet):
    """One part of QMNIST, see `qmnist_dataset`."""

    name = "qmnist"
    folders = ("qmnist", "QMNIST", "QMNIST/raw")
    stored = (1, 28, 28)

    kinds = ("packed with", "an IDX file")

    def __init__(self, part: str, path: str | None = None) -> None:
        super().__init__(path)
        self._part = part_of(part, get_args(QmnistPart), "QMNIST")

    @property
    def part(self) -> str:
        """The part."""
        return self._part

    def _name(self, what: str) -> str:
        if self._part == "nist":
            return f"xnist-{what}.xz"
        return f"qmnist-{'train' if self._part == 'train' else 'test'}-{what}.gz"

    def _packed_or_not(self, what: str) -> list[str]:
        name = self._name(what)
        return [name, name.rpartition(".")[0]]

    @property
    def candidates(self) -> Sequence[str]:
        """The file of images, packed or not."""
        return self._packed_or_not("images-idx3-ubyte")

    @property
    def remote(self) -> Remote:
        """The packed file of images."""
        return self._remote("images-idx3-ubyte")

    def _remote(self, what: str) -> Remote:
        name = self._name(what)
        return Remote(name, (_QMNIST,), f"md5:{_QMNIST_MD5[name]}", None, "qmnist")

    def read_from(self, found: Path) -> Images:
        """Reads images, and labels from the file beside or a download."""
        beside = self.located(
            self._packed_or_not("labels-idx2-int"), self._remote("labels-idx2-int")
        )
        with open_file(found) as file:
            images = idx_of(found, file)
        with open_file(beside) as file:
            # (N, 8): the class, then writer and digit of the NIST collection.
            labels = idx_of(beside, file, kind="int32")
        if images.ndim != 3 or labels.ndim != 2 or len(labels) != len(images):
            raise damaged(found, "has not one row of labels for each image", self.remote)
        rows = {"test10k": slice(0, 10_000), "test50k": slice(10_000, None)}.get(
            self._part, slice(None)
        )
        chosen = images[rows][:, None].contiguous()
        return self.images(found, chosen, labels[rows, 0].long().contiguous(), tuple(_DIGITS))


@listed("emnist", validation={"train": False})
def emnist_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
    *,
    split: EmnistSplit = "balanced",
) -> Dataset:
    """EMNIST: handwritten letters and digits, 28 x 28 grey, turned upright.

    Args:
        train: the training half if true, else the test half.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        normalize_between: (low, high), to which each image's own minimum and maximum are mapped.
        path: a folder with the IDX files, or the archive `gzip.zip`; otherwise `AELAB_DATA`, the
            cache, then a checked download of 562 MB.
        split: `balanced` (112,800 + 18,800 of 47 classes), `byclass` (697,932 + 116,323 of 62),
            `bymerge` (the same of 47), `letters` (124,800 + 20,800 of 26), `digits`
            (240,000 + 40,000), or `mnist` (60,000 + 10,000).

    Source: Cohen et al. 2017, arXiv:1702.05373.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Emnist(split, bool(train), path), [resize])


@listed("qmnist", validation={"part": "test"})
def qmnist_dataset(
    part: QmnistPart = "train",
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """QMNIST: MNIST with its full test set of 60,000 digits, 28 x 28 grey.

    Args:
        part: `train`, `test`, `test10k` (the test half of MNIST), `test50k` (the others), or
            `nist` (all 402,953 digits of the collection).
        shape, interpolation, normalize_between: as for `mnist_dataset`.
        path: a folder with its IDX files; otherwise `AELAB_DATA`, the cache, a checked download.

    Source: Yadav and Bottou 2019, arXiv:1905.10498, BSD-3.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Qmnist(part, path), [resize])

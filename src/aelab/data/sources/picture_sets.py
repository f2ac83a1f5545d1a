"""Published sets of picture files: Omniglot, notMNIST, CelebA; as archives or unpacked folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from aelab import roots
from aelab.data.base import Shape
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.prepare import ToShape, checked_shape
from aelab.data.sources.download import Remote
from aelab.data.sources.folder import Folder
from aelab.data.sources.packed import TarPictures, ZipPictures
from aelab.data.sources.published import PublishedSet, damaged, part_of
from aelab.errors import DataError, one_of
from aelab.files import read_file
from aelab.types import Images


class PictureSet(PublishedSet):
    """A published set that is a folder of pictures, or an archive of it."""

    #: Folder of the unpacked pictures, and the archives of it, in order of preference.
    folder: str
    archives: tuple[str, ...]
    #: Corrupt files that were published with the set are left out.
    skip_corrupt = False
    kinds = ("packed with", "a tar archive", "a ZIP archive")

    @property
    def candidates(self) -> Sequence[str]:
        """The archives."""
        return self.archives

    def find(self, names: Sequence[str]) -> tuple[Path | None, list[Path]]:
        """The unpacked folder, else the first archive; and every place that was searched."""
        if list(names) == list(self.archives):
            unpacked, looked = self._unpacked()
            if unpacked is not None:
                return unpacked, looked
            found, places = super().find(names)
            return found, [*looked, *places]
        return super().find(names)

    def _unpacked(self) -> tuple[Path | None, list[Path]]:
        with roots.entering(self._roots):
            if self.path is not None:
                above = Path(self.path)
                places = [above / self.folder, above] if above.is_dir() else []
                # The given folder itself, if it holds pictures and not the archives.
                places = [place for place in places if place.name == self.folder]
            else:
                folders = (*roots.data_folders(), roots.cache_folder())
                places = [folder / name / self.folder for folder in folders
                          for name in ("", *self.folders)]  # fmt: skip
            found = next((place for place in places if place.is_dir()), None)
            return (None if found is None else roots.allowed_path(found)), places

    def pictures(self, found: Path) -> Folder:
        """The source of the pictures of a folder or an archive."""
        kind = Folder if found.is_dir() else TarPictures if ".tar" in found.name else ZipPictures
        return kind(found, self.stored, "bilinear", skip_corrupt=self.skip_corrupt)

    def read_from(self, found: Path) -> Images:
        """Reads all pictures; labels are their first folders."""
        images = self.pictures(found).read()
        (source,) = images.provenance
        return replace(images, provenance=(source._replace(name=self.name),))


_OMNIGLOT = {
    True: ("images_background", 9_464_212,
           "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    False: ("images_evaluation", 6_462_886,
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
}  # fmt: skip


class _Characters(Folder):
    """Drawings whose class is the whole path of folders: alphabet and character."""

    def _classes(self, folders: dict[int, tuple[str, ...]]) -> dict[int, str]:
        return {number: "/".join(parts[-2:]) for number, parts in folders.items()}


class _PackedCharacters(_Characters, ZipPictures):
    """The same in a ZIP archive."""


class Omniglot(PictureSet):
    """One half of Omniglot, see `omniglot_dataset`."""

    name = "omniglot"
    folders = ("omniglot", "omniglot-py", "Omniglot")
    stored = (1, 105, 105)

    def __init__(self, train: bool, path: str | None = None) -> None:
        super().__init__(path)
        self.folder, self._bytes, self._sha256 = _OMNIGLOT[train]
        self.archives = (f"{self.folder}.zip",)

    @property
    def part(self) -> str:
        """The half."""
        return self.folder

    @property
    def remote(self) -> Remote:
        """The archive of the half."""
        home = "https://github.com/brendenlake/omniglot/raw/master/python/"
        digest = f"sha256:{self._sha256}"
        return Remote(self.archives[0], (home,), digest, self._bytes, "omniglot")

    def pictures(self, found: Path) -> Folder:
        """The drawings, with alphabet and character as class."""
        kind = _Characters if found.is_dir() else _PackedCharacters
        return kind(found, self.stored, "bilinear")


class NotMnist(PictureSet):
    """notMNIST, see `notmnist_dataset`."""

    name = "notmnist"
    folders = ("notmnist", "notMNIST")
    stored = (1, 28, 28)
    skip_corrupt = True  # a few of the published files are damaged

    def __init__(self, large: bool, path: str | None = None) -> None:
        super().__init__(path)
        self.folder = "notMNIST_large" if large else "notMNIST_small"
        self.archives = (f"{self.folder}.tar.gz", f"{self.folder}.tar")
        self._bytes = 247_336_696 if large else 8_458_043

    @property
    def part(self) -> str:
        """`notMNIST_small` or `notMNIST_large`."""
        return self.folder

    @property
    def remote(self) -> Remote:
        """The packed archive. No digest is published, only its size."""
        homes = (
            "http://yaroslavvb.com/upload/notMNIST/",
            "https://commondatastorage.googleapis.com/books1000/",
        )
        return Remote(self.archives[0], homes, "", self._bytes, "notmnist")


CelebaPart = Literal["train", "validation", "test", "all"]
_PARTS = ("train", "validation", "test")


class CelebA(PictureSet):
    """One part of CelebA's aligned faces, see `celeba_dataset`."""

    name = "celeba"
    folders = ("celeba", "CelebA", "celeba/Img", "CelebA/Img")
    by_hand = (
        "CelebA is given for research on its page, "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: put "
        "img_align_celeba.zip (1,443,490,838 bytes) and list_eval_partition.txt into a folder "
        "celeba below AELAB_DATA, or give path=..."
    )
    folder, archives = "img_align_celeba", ("img_align_celeba.zip",)

    def __init__(self, part: str, size: Shape, attribute: str | None, path: str | None) -> None:
        super().__init__(path)
        self._part = part_of(part, get_args(CelebaPart), "CelebA")
        self.stored, self.attribute = size, attribute

    @property
    def part(self) -> str:
        """The part, the size and the attribute."""
        return f"{self._part} {self.stored} {self.attribute}"

    def pictures(self, found: Path) -> Folder:
        """The faces of the part at the wanted size: the middle, scaled."""
        kind = Folder if found.is_dir() else ZipPictures
        source = kind(found, self.stored, "bilinear")
        if self._part != "all":
            # `0`, `1`, `2` in the list: training, validation, test.
            wanted = str(_PARTS.index(self._part))
            rows = self._list_of(found, "list_eval_partition.txt")
            names = {row[0] for row in rows if len(row) > 1 and row[1] == wanted}
            source._files = [file for file in source.files() if file.name in names]
            if not source._files:
                raise damaged(found, f"holds no face of the part {self._part!r}")
        return source

    def _list_of(self, found: Path, name: str) -> list[list[str]]:
        """The rows of one of the set's lists, beside the pictures or one folder above."""
        places = [above / part / name for above in (found.parent, found.parent.parent)
                  for part in ("", "Eval", "Anno")]  # fmt: skip
        there = next((place for place in places if place.is_file()), None)
        if there is None:
            raise self.missing([name], places)
        with roots.entering(self._roots):
            text = read_file(roots.allowed_path(there)).decode("ascii", "replace")
        return [line.split() for line in text.splitlines()]

    def read_from(self, found: Path) -> Images:
        """Reads the faces, with an attribute as label if one is wanted."""
        images = super().read_from(found)
        if self.attribute is None:
            return replace(images, labels=None)
        rows = self._list_of(found, "list_attr_celeba.txt")
        # The first row is a count, the second the 40 names, then file and -1 or 1 for each.
        names = rows[1] if len(rows) > 1 else []
        if self.attribute not in names:
            raise DataError(
                f"CelebA has no attribute {self.attribute!r}", hint=f"possible: {one_of(names)}"
            )
        column = 1 + names.index(self.attribute)
        known = {row[0]: row[column] == "1" for row in rows[2:] if len(row) == len(names) + 1}
        files = [Path(name).name for name in images.file_names]
        unknown = [name for name in files if name not in known]
        if unknown:
            raise damaged(found, f"has faces without attributes: {', '.join(unknown[:3])}")
        labels = torch.tensor([int(known[name]) for name in files])
        facts: dict[str, Any] = {
            **images.facts,
            "label_names": [f"not {self.attribute}", self.attribute],
        }
        return replace(images, labels=labels.long(), facts=facts)


@listed("omniglot", validation={"train": False})
def omniglot_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    path: str | None = None,
) -> Dataset:
    """Omniglot: handwritten characters of 50 alphabets, black on white, 105 x 105.

    Args:
        train: 19,280 drawings of 964 characters if true, else 13,180 of 659 others.
        shape: (C, H, W) wanted; models usually use 28 x 28.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        path: the ZIP archive, or the folder above it or above the unpacked pictures; otherwise
            `AELAB_DATA`, the cache, then a checked download of 9 or 6 MB.

    Source: Lake, Salakhutdinov, Tenenbaum 2015, Human-level concept learning, MIT.
    """
    return Dataset(Omniglot(bool(train), path), [ToShape(shape, interpolation)])


@listed("notmnist")
def notmnist_dataset(
    large: bool = False,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    path: str | None = None,
) -> Dataset:
    """notMNIST: letters A to J of many fonts, 28 x 28 grey.

    A few published files are damaged; they are left out and named in the provenance.

    Args:
        large: 529,119 letters, partly wrong ones, instead of 18,726 checked by hand.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        path: the archive, or the folder above it or above the unpacked pictures; otherwise
            `AELAB_DATA`, the cache, then a download of 8 or 247 MB whose size is checked.

    Source: Bulatov 2011, notMNIST dataset.
    """
    return Dataset(NotMnist(bool(large), path), [ToShape(shape, interpolation)])


@listed("celeba", validation={"part": "validation"})
def celeba_dataset(
    part: CelebaPart = "train",
    shape: tuple[int, int, int] = (3, 64, 64),
    path: str | None = None,
    *,
    attribute: str | None = None,
) -> Dataset:
    """CelebA: 202,599 aligned faces, 178 x 218 in colour, scaled and cut to the middle.

    It cannot be downloaded without a person: the message says from where.

    Args:
        part: `train` (162,770), `validation` (19,867), `test` (19,962), or `all`.
        shape: (C, H, W) wanted; each face is scaled and its sides or top and bottom are cut.
        path: `img_align_celeba.zip`, or the folder that holds it or the unpacked
            `img_align_celeba`; otherwise `AELAB_DATA` or the cache. The lists of the set
            (`list_eval_partition.txt`) lie beside it.
        attribute: label the faces with one of the 40 attributes of `list_attr_celeba.txt`, for
            instance `Smiling`.

    Source: Liu et al. 2015, arXiv:1411.7766; for research only.
    """
    return Dataset(CelebA(part, checked_shape(shape), attribute, path))

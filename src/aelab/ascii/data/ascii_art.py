"""ASCII pictures from files: folders of `.txt`, and collections separated by `%`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from aelab import roots
from aelab.ascii.data.ascii_text import (
    Picture,
    Rules,
    Sieve,
    content_key,
    first_of_each_text,
    in_validation,
    split_collection,
    squared,
)
from aelab.ascii.medium import Characters
from aelab.data.base import content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.overview import PathReader
from aelab.data.sources.files_below import FilesBelow, LeftOut, files_below
from aelab.errors import ConfigError, DataError
from aelab.files import read_file
from aelab.medium import Medium
from aelab.types import Images, Provenance

#: Endings of texts; files without an ending count, too.
ENDINGS = (".txt", ".asc", ".art", "")

SplitBy = Literal["content", "alphabet"]
_SPLITS = ("content", "alphabet")


class AsciiArtFiles(FilesBelow):
    """The ASCII pictures of a folder or a collection, see `ascii_art_dataset`."""

    name = "ascii-art"

    def __init__(
        self,
        path: str | Path,
        rules: Rules,
        *,
        max_samples: int | None,
        validation_prop: float | None,
        validation: bool,
        split: SplitBy,
        legacy: bool,
    ) -> None:
        super().__init__(path)
        self.rules, self.split, self.legacy = rules, split, legacy
        self.max_samples, self.validation_prop = max_samples, validation_prop
        self.validation = validation
        self.files_left_out = LeftOut()

    @property
    def medium(self) -> Medium:
        """The 95 printable characters of ASCII."""
        return Characters()

    def _list(self) -> list[Path]:
        found, self.files_left_out = list_texts(self.path)
        return found

    def item_shape(self) -> tuple[int, ...]:
        """(1, H, W), H lines of W characters."""
        return 1, self.rules.height, self.rules.width

    def fingerprint(self) -> str:
        """Path, size and time of every file, and the arguments of reading."""
        how = (self.rules, self.max_samples, self.validation_prop, self.validation)
        return f"ascii {self.path} {self._files_digest()} {how} {self.split} {self.legacy}"

    def read(self) -> Images:
        sieve = Sieve(self.rules)
        everything = self._all(sieve)
        pictures = list(self._wanted(everything))
        if not pictures:
            side = {True: "validation ", False: ""}[self.validation]
            raise DataError(
                f"{self.path} gives no {side}pictures: {len(self.files())} files, "
                f"{sieve.told() or 'nothing left out'}",
                hint="give a larger res, or another validation_prop",
            )
        labels = [picture.label for picture in everything]
        images = grids_as_images(self.name, str(self.path), pictures, self.rules, sieve, labels)
        return _with_left_out(images, self.files_left_out)

    def _all(self, sieve: Sieve) -> list[Picture]:
        """The pictures of both sides."""
        found = self._texts(sieve)
        pictures = list(found if self.legacy else first_of_each_text(found, sieve))
        if self.legacy and self.max_samples is not None:
            pictures = pictures[: self.max_samples + 1]  # the original kept one more
        return pictures

    def _wanted(self, pictures: list[Picture]) -> Sequence[Picture]:
        """The pictures of the chosen side, at most `max_samples`."""
        if self.validation_prop is not None:
            pictures = self._side(pictures, self.validation_prop)
        return pictures if self.legacy else pictures[: self.max_samples]

    def _side(self, pictures: list[Picture], share: float) -> list[Picture]:
        if self.split == "alphabet":
            border = len(pictures) - int(len(pictures) * share)
            return pictures[border:] if self.validation else pictures[:border]
        return [
            picture
            for picture in pictures
            if in_validation(content_key(picture.lines), share) == self.validation
        ]

    def _texts(self, sieve: Sieve) -> Iterator[Picture]:
        """The pictures kept by the rules, in file order; `legacy` knows no collections."""
        root = self.path if self.path.is_dir() else self.path.parent
        for file in self.files():
            text = read_text(file)
            parts = [text] if self.legacy else split_collection(text)
            folder = file.parent.relative_to(root).as_posix()
            inner = file.stem if len(parts) > 1 else ""
            label = "/".join(part for part in (folder, inner) if part not in ("", "."))
            name = file.relative_to(root).as_posix()
            for number, part in enumerate(parts):
                lines = sieve.lines(part)
                if lines is not None:
                    own = name if len(parts) == 1 else f"{name}#{number}"
                    yield Picture(lines, label or root.name, own)


def read_text(file: Path) -> str:
    """Reads a text file with one character for each byte, so that no byte is an error.

    Raises:
        DataError: it cannot be read.
    """
    return read_file(file).decode("latin-1")


def _with_left_out(images: Images, left_out: LeftOut) -> Images:
    """The same images with the files left out recorded in their provenance."""
    entries = [
        entry._replace(
            note="; ".join(filter(None, (entry.note, left_out.note()))), left_out=left_out.record()
        )
        for entry in images.provenance
    ]
    return replace(images, provenance=tuple(entries))


def list_texts(path: Path) -> tuple[list[Path], LeftOut]:
    """A file itself, or the `.txt` files below a folder, sorted by path, and the files left out.

    Raises:
        DataError: see `AsciiArt.files`.
    """
    if path.is_file():
        return [path], LeftOut()
    if not path.is_dir():
        raise DataError(
            f"there is no folder or file {path}",
            hint=roots.way_out(
                "give path=... relative to the experiment file, to AELAB_DATA, or absolute"
            ),
        )
    found, left_out = files_below(path, (".txt",))
    if not found:
        raise DataError(f"{path} holds no text", hint="files ending with .txt count")
    return sorted(found), left_out


def grids_as_images(
    name: str,
    source: str,
    pictures: Sequence[Picture],
    rules: Rules,
    sieve: Sieve,
    known: Sequence[str] = (),
) -> Images:
    """Images of pictures centred in grids, (N, 1, H, W) uint8, labelled if there are two labels.

    `known`: the labels of the whole source, of which the pictures may be only one side.
    """
    grids = torch.stack([squared(p.lines, (rules.height, rules.width)) for p in pictures])
    pixels = grids[:, None]
    labels, facts = labelled([picture.label for picture in pictures], known)
    if sieve.left_out:
        facts["left_out"] = dict(sieve.left_out)
    sha256 = content_sha256(pixels)
    entry = Provenance(name, source, len(pixels), sha256, sieve.told())
    return make_images(
        pixels,
        labels=labels,
        provenance=[entry],
        facts=facts,
        sha256=sha256,
        medium=Characters(),
        file_names=[picture.file for picture in pictures],
    )


def labelled(
    texts: Sequence[str], known: Sequence[str] = ()
) -> tuple[torch.Tensor | None, dict[str, object]]:
    """Label numbers (N,) int64 and their names as facts; (None, {}) if all are equal.

    `known`: further labels to number, those of the other side.
    """
    names = sorted({*texts, *known})
    if len(names) < 2:
        return None, {}
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[text] for text in texts]), {"label_names": names}


def grid_size(res: int | Sequence[int], part: str) -> tuple[int, int]:
    """(H, W) in characters from one number or two.

    Raises:
        ConfigError: not one or two whole numbers from 1 up.
    """
    sizes = (res, res) if isinstance(res, int) else tuple(res)
    if len(sizes) != 2 or any(isinstance(s, bool) or int(s) != s or s < 1 for s in sizes):
        raise ConfigError(
            f"{part}: a grid is (lines, columns), whole numbers from 1 up, got {res!r}",
            hint="for instance 64, or (24, 48)",
        )
    return int(sizes[0]), int(sizes[1])


def ascii_art_dataset(
    path: str,
    res: int | tuple[int, int] = 64,
    max_samples: int | None = None,
    validation_prop: float | None = None,
    validation: bool = False,
    *,
    min_lines: int = 3,
    min_ink: int = 12,
    tabs: Literal["expand", "refuse"] = "expand",
    split: SplitBy | None = None,
    legacy: bool = False,
) -> Dataset:
    """ASCII pictures: the `.txt` files below a folder, or a collection separated by `%` lines.

    Keeps pictures of printable ASCII with at most H lines and at most W characters in *every* line
    (the original checked only the first line). Blank borders are trimmed, exact copies dropped,
    and each picture is centred in an H x W grid. The provenance counts the pictures left out.
    Labels are the folders, or names of collections, if there are at least two.

    Args:
        path: a folder or a file, relative to the experiment file, to `AELAB_DATA`, or absolute.
        res: (H, W) in characters, or one number for both.
        max_samples: greatest number of pictures, the first in the order of the files.
        validation_prop: the share of pictures, 0..1, for validation; None for all pictures.
        validation: the validation share instead of the training share.
        min_lines: least number of lines of a picture.
        min_ink: least number of characters that are no spaces.
        tabs: `expand` to multiples of 8 columns, or `refuse` the picture.
        split: `content`, by a hash of the trimmed text; or `alphabet`, the last share of the paths,
            which takes whole categories.
        legacy: as in the original: nothing trimmed, no least size, tabs refused, copies kept, one
            picture for each file, split by alphabet, and one picture more than `max_samples`.

    Raises:
        ConfigError: an argument out of its range.

    Source: the document's `AsciiArtDataset` (commit b5b2320).
    """
    height, width = grid_size(res, "ascii_art_dataset")
    split = split or ("alphabet" if legacy else "content")
    _check(max_samples, validation_prop, validation, split, tabs)
    rules = Rules(height, width, min_lines, min_ink, True, tabs == "expand")
    if legacy:
        rules = Rules(height, width, 0, 0, trim=False, expand_tabs=False)
    source = AsciiArtFiles(
        path,
        rules,
        max_samples=max_samples,
        validation_prop=validation_prop,
        validation=bool(validation),
        split=split,
        legacy=bool(legacy),
    )
    return Dataset(source)


def _check(
    max_samples: int | None, share: float | None, validation: bool, split: str, tabs: str
) -> None:
    where = "ascii_art_dataset"
    if max_samples is not None and max_samples < 1:
        raise ConfigError(f"{where}: max_samples is a whole number from 1 up, got {max_samples!r}")
    if share is not None and not 0 < share < 1:
        raise ConfigError(
            f"{where}: validation_prop is a share between 0 and 1, got {share!r}",
            hint="for instance 0.05; leave it out for all pictures",
        )
    if validation and share is None:
        raise ConfigError(
            f"{where}: validation=True needs the share of validation pictures",
            hint="add validation_prop=0.05, here and in the training set",
        )
    if split not in _SPLITS:
        raise ConfigError(f"{where}: split is 'content' or 'alphabet', got {split!r}")
    if tabs not in ("expand", "refuse"):
        raise ConfigError(f"{where}: tabs is 'expand' or 'refuse', got {tabs!r}")


def is_text(path: Path) -> bool:
    """Whether a path is ASCII art: a file with such an ending, or a folder with only texts."""
    if path.is_file():
        return path.suffix.lower() in ENDINGS
    endings = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    return ".txt" in endings and endings <= set(ENDINGS)


TEXTS = PathReader(is_text, ascii_art_dataset, "a folder of .txt files with ASCII art")

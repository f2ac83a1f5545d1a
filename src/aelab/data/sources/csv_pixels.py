"""CSV files of pixels: one image in a row, as Kaggle publishes MNIST and others."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.memory import refuse_too_large
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import ToShape, checked_shape
from aelab.errors import DataError, did_you_mean, one_of
from aelab.files import open_file
from aelab.types import Images, Provenance

#: Names of a column of labels, and of a column that holds all pixels of an image in one cell.
_LABELS = ("label", "labels", "class", "target", "emotion", "y", "digit", "character")
_PIXELS = ("pixels", "image", "pixel_values")
#: Characters of one row, and rows that are converted at once.
_MOST_CHARACTERS = 16 << 20
_ROWS = 1_000


class CsvLayout(NamedTuple):
    """Where the numbers of an image are in a row.

    Attributes:
        shape: (C, H, W).
        pixels: numbers of the columns of pixels; one column holds all of them in one cell.
        label: number of the column of labels, or None.
        header: whether the first row names the columns.
        columns: in each row.
    """

    shape: tuple[int, int, int]
    pixels: tuple[int, ...]
    label: int | None
    header: bool
    columns: int


class CsvPixels(Source):
    """The images of a CSV file, see `csv_dataset`."""

    name = "csv"

    def __init__(
        self, path: str, stored: tuple[int, int, int] | None, label: str | int | None
    ) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self.stored = None if stored is None else checked_shape(stored)
        self.label = label
        self._known: CsvLayout | None = None

    def layout(self) -> CsvLayout:
        """The layout of the rows, from the first two.

        Raises:
            DataError: they are no rows of pixels.
        """
        if self._known is None:
            with _rows(self.path) as rows:
                first = next(rows, [])
                second = next(rows, [])
            self._known = _layout(self.path, first, second, self.stored, self.label)
        return self._known

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as given, or by the number of columns."""
        return self.layout().shape

    def verify(self) -> None:
        """Raise DataError if the file is missing or its first rows are no pixels."""
        self.layout()

    def is_bytes(self) -> bool:
        """True: values become bytes."""
        return True

    def fingerprint(self) -> str:
        """Path, size and time of the file, and the arguments."""
        return f"csv {file_stamp(self.path)} {self.stored} {self.label}"

    def sources(self) -> list[tuple[str, str]]:
        """The path."""
        return [(self.name, str(self.path))]

    def read(self) -> Images:
        layout = self.layout()
        room = PixelRoom(None, str(self.path))
        labels: list[str] = []
        white = 0.0
        with _rows(self.path) as rows:
            if layout.header:
                next(rows, None)
            number = 1 + layout.header
            while some := list(itertools.islice(rows, _ROWS)):
                values = _numbers(self.path, layout, some, number)
                number += len(some)
                # The first thousand rows decide: no real picture set is black in all of them.
                white = white or (255.0 if values.max() > 1 else 1.0)
                low, high = float(values.min()), float(values.max())
                if low < 0 or high > white or (white > 1 and (values % 1).any()):
                    raise DataError(
                        f"{self.path}: its pixels are neither whole numbers of 0 to 255 nor "
                        f"fractions of 0 to 1: rows {number - len(some):,} to {number - 1:,} go "
                        f"from {low:g} to {high:g}",
                        hint="give label=... if a column of labels is taken for pixels",
                    )
                part = np.rint(values * (255 / white)).astype(np.uint8)
                room.add(torch.from_numpy(part.reshape(-1, *layout.shape)))
                if layout.label is not None:
                    labels += [row[layout.label].strip() for row in some]
        pixels = room.done()
        source = Provenance(self.name, str(self.path), len(pixels), content_sha256(pixels))
        numbers, names = _classes(labels)
        facts = {"label_names": names} if names else {}
        return make_images(pixels, labels=numbers, provenance=[source], facts=facts)


@contextmanager
def _rows(path: Path) -> Iterator[Iterator[list[str]]]:
    """The rows of a file, packed with gzip or not; commas, semicolons or tabs."""
    try:
        with open_file(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            text = io.TextIOWrapper(gzip.open(raw) if packed else raw, "utf-8-sig", newline="")
            head = text.readline(_MOST_CHARACTERS)
            if len(head) >= _MOST_CHARACTERS:
                raise DataError(f"{path} has a row of more than {_MOST_CHARACTERS:,} characters")
            separator = max(",;\t", key=head.count)
            # A row of pixels is long; its length is bounded above.
            csv.field_size_limit(_MOST_CHARACTERS)
            yield csv.reader(itertools.chain([head], text), delimiter=separator)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} as CSV: {error}", hint="copy it again") from None


def _layout(
    path: Path,
    first: list[str],
    second: list[str],
    stored: tuple[int, int, int] | None,
    label: str | int | None,
) -> CsvLayout:
    header = not all(_is_number(cell) for cell in first if " " not in cell.strip()) or not first
    row = second if header else first
    if not row:
        raise DataError(f"{path} holds no rows of pixels", hint="is it another file?")
    names = [cell.strip() for cell in first] if header else []
    column = _label_column(path, names, len(row), label)
    others = [n for n in range(len(row)) if n != column]
    cells = [n for n in others if len(row[n].split()) > 1]
    named = [n for n in others if names and names[n].lower() in _PIXELS]
    if cells:  # all pixels in one cell, with spaces between them
        chosen = [n for n in cells if n in named] or cells
        pixels: tuple[int, ...] = (chosen[0],)
        count = len(row[pixels[0]].split())
    else:
        if column is None and label is None and not _side(len(row), stored) and not names:
            # MNIST as CSV without a header: the label is first.
            column = 0
            others = others[1:]
        pixels = tuple(n for n in others if _is_number(row[n]))
        count = len(pixels)
    shape = _side(count, stored)
    if shape is None:
        wanted = f"{'x'.join(map(str, stored))} are {math.prod(stored)}" if stored else (
            "neither a square nor three squares")  # fmt: skip
        raise DataError(
            f"{path} has {count:,} numbers in a row: {wanted}",
            hint="give stored=(channels, height, width), and label= with the name or the number of "
            "the column of labels" + (f"; columns: {one_of(names[:6])}" if names else ""),
        )
    refuse_too_large(math.prod(shape) * _ROWS * 8, f"{_ROWS:,} rows of {path}")
    return CsvLayout(shape, pixels, column, header, len(row))


def _side(count: int, stored: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """The shape of so many numbers: as given, a square, or three; None if it is neither."""
    if stored is not None:
        return stored if math.prod(stored) == count else None
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side > 1 and channels * side * side == count:
            return channels, side, side
    return None


def _label_column(
    path: Path, names: list[str], columns: int, label: str | int | None
) -> int | None:
    if isinstance(label, int):
        if not -columns <= label < columns:
            raise DataError(f"{path} has {columns:,} columns, and no column {label}")
        return label % columns
    if label is not None:
        if label not in names:
            raise DataError(
                f"{path} has no column {label!r}{did_you_mean(label, names)}",
                hint=f"its columns: {one_of(names[:12])}" if names else "it has no header",
            )
        return names.index(label)
    return next((n for n, name in enumerate(names) if name.lower() in _LABELS), None)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _numbers(
    path: Path, layout: CsvLayout, rows: list[list[str]], first: int
) -> np.ndarray[Any, Any]:
    """(n, pixels) float32 of some rows."""
    wanted = math.prod(layout.shape)
    made = np.empty((len(rows), wanted), np.float32)
    one_cell = len(layout.pixels) == 1 and wanted > 1
    for place, row in enumerate(rows):
        try:
            if len(row) != layout.columns:
                raise ValueError(f"{len(row):,} columns instead of {layout.columns:,}")
            cells = row[layout.pixels[0]].split() if one_cell else [row[n] for n in layout.pixels]
            made[place] = np.array(cells, np.float32)
        except ValueError as error:
            raise DataError(
                f"{path}: row {first + place:,}: {str(error)[:100]}",
                hint=f"each row needs {wanted:,} numbers",
            ) from None
    if not np.isfinite(made).all():
        raise DataError(f"{path}: a pixel is NaN or infinite in the rows from {first:,} on")
    return made


def _classes(labels: list[str]) -> tuple[torch.Tensor | None, list[str]]:
    """Labels as numbers, and their names where they are words."""
    if not labels:
        return None, []
    try:
        return torch.tensor([int(float(label)) for label in labels]), []
    except ValueError:
        names = sorted(set(labels))
        number_of = {name: n for n, name in enumerate(names)}
        return torch.tensor([number_of[label] for label in labels]), names


def csv_dataset(
    path: str,
    shape: tuple[int, int, int] | None = None,
    interpolation: bool | str = True,
    *,
    stored: tuple[int, int, int] | None = None,
    label: str | int | None = None,
) -> Dataset:
    """The images of a CSV file with one image in a row, gzipped or not.

    Pixels are whole numbers of 0 to 255 or fractions of 0 to 1, each in its own column, or all in
    one column with spaces between them.

    Args:
        path: the file.
        shape: (C, H, W) wanted; as stored if left out.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        stored: (C, H, W) of a row; a grey square or three of them if left out.
        label: name or number of the column of labels; if left out a column named `label`, `class`
            or similar; without a header the first column, if the others make a square.
    """
    return Dataset(CsvPixels(path, stored, label), [ToShape(shape, interpolation)])

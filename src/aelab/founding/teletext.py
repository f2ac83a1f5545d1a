"""Pages of teletext under their old name, one channel for each character."""

from __future__ import annotations

import gzip
import json
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.memory import mapped_above, refuse_too_large
from aelab.data.pixel_room import PixelRoom
from aelab.errors import DataError
from aelab.files import open_file
from aelab.medium import PIXELS, Medium, Pixels
from aelab.types import Images, Provenance

#: Lines and columns of a page; what is beyond them is cut off.
LINES, COLUMNS = 20, 40
#: The characters in the order of the channels: those that occur in the original's pages.
CHARACTERS = "".join(
    sorted(
        set(string.printable[:95]) - set("{|}")
        | set("\x80\x81\x82\x84\x87\x89\x93\x96\x98\x99\x9c\x9f\xa0¡£¥¦§¨©ª«\xad®¯°±²³·¸º»¼½¾")
        | set("ÀÁÂÄÅÇÉËÓÖØÙÚÜßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýÿćĈČčēěğıłńňřŚśŝŞşŠšž–‘’“”€█▌▐")
        | {chr(code) for code in range(0x1FB00, 0x1FB35)}  # blocks of 2 x 3 squares
    )
)
#: Code point of the first block of squares; side of a square in stored pictures; brightness of
#: squares and of the field of other characters.
FIRST_BLOCK, SQUARE, INK, GREY = 0x1FB00, 2, 255, 96
#: Bytes of a line that is longer than any page, in a damaged file.
_LONGEST = 1 << 20
#: Pages that are made at once.
_TOGETHER = 64


class Pages(Pixels):
    """One-hot pages, which any model of numbers can learn; drawn as blocks of 2 x 3 squares.

    Characters that are no such blocks are drawn as a grey field. `texts` has them all.
    """

    sets_hold: ClassVar[str] = "pages of teletext"
    images_are: ClassVar[str] = "pages of teletext"

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width in pixels of one character in stored pictures."""
        return (3 * SQUARE, 2 * SQUARE)

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """(B, 256, H, W) -> (B, 1, 6 H, 4 W) uint8."""
        fields = _glyphs().to(images.device)[numbers_of(images)]  # (B, H, W, 3, 2)
        squares = fields.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)  # (B, 3 H, 2 W)
        large = squares.repeat_interleave(SQUARE, 1).repeat_interleave(SQUARE, 2)
        return large[:, None]

    def drawn(self, stored: Tensor) -> Tensor:
        """(n, 256, H, W) uint8 -> (n, 1, 6 H, 4 W) uint8."""
        return self.picture(stored.float() / 255)

    def texts(self, images: Tensor) -> list[str]:
        """The most likely character of each place, as lines."""
        pages = numbers_of(images).tolist()
        return ["\n".join("".join(CHARACTERS[n] for n in line) for line in page) for page in pages]

    def beside(self, originals: Tensor, made: Tensor) -> list[str]:
        """Lines `original   |   reconstruction`."""
        pairs = zip(self.texts(originals), self.texts(made), strict=True)
        return [
            "\n".join(
                f"{left}   |   {right}"
                for left, right in zip(first.split("\n"), second.split("\n"), strict=True)
            )
            for first, second in pairs
        ]

    def record(self) -> Mapping[str, Any]:
        """The size of a character in the run's pictures."""
        return {"cell": list(self.cell)}

    def refuse_model(self, model: Medium) -> None:
        """Raises unless the model is one of ordinary images."""
        if model != PIXELS:
            super().refuse_model(model)


def numbers_of(images: Tensor) -> Tensor:
    """The most likely character of each place, or a space: (B, 256, H, W) -> (B, H, W)."""
    return images.argmax(1)


@cache
def _glyphs() -> Tensor:
    """A field of each character, (256, 3, 2) uint8: which of its 2 x 3 squares are ink."""
    fields = torch.full((len(CHARACTERS), 3, 2), GREY, dtype=torch.uint8)
    fields[_NUMBERS[" "]], fields[_NUMBERS["\xa0"]] = 0, 0
    fields[_NUMBERS["█"]] = INK
    fields[_NUMBERS["▌"]] = torch.tensor([INK, 0], dtype=torch.uint8)
    fields[_NUMBERS["▐"]] = torch.tensor([0, INK], dtype=torch.uint8)
    # U+1FB00 on count from 1 in binary, the upper left square first, without the two half blocks.
    codes = [code for code in range(1, 63) if code not in (0b010101, 0b101010)]
    for number, code in enumerate(codes):
        character = chr(FIRST_BLOCK + number)
        if character in _NUMBERS:
            bits = torch.tensor([code >> place & 1 for place in range(6)], dtype=torch.uint8)
            fields[_NUMBERS[character]] = bits.reshape(3, 2) * INK
    return fields


class TeletextPages(Source):
    """The pages of a file, see `TeletextMatrixIterableDataset`."""

    name = "teletext"

    @property
    def medium(self) -> Medium:
        """One-hot pages."""
        return PAGES

    def __init__(self, filename: str | Path, total: int | None) -> None:
        super().__init__()
        self.wanted, self.total = filename, total
        self.path = roots.find_elsewhere(filename)

    def item_shape(self) -> tuple[int, ...]:
        """(characters, lines, columns)."""
        return (len(CHARACTERS), LINES, COLUMNS)

    def verify(self) -> None:
        """Raise DataError if the file is missing."""
        self._file()

    def _file(self) -> Path:
        if self.path is None:
            what = 'a file with a page a line, {"text": "..."},'
            raise roots.missing_file(self.wanted, what, self._roots)
        return self.path

    def fingerprint(self) -> str:
        """The file, and how many pages of it."""
        return f"teletext {file_stamp(self.path)} {self.total}"

    def sources(self) -> list[tuple[str, str]]:
        """The path of the file."""
        return [(self.name, str(self._file()))]

    def read(self) -> Images:
        """Reads the pages as one-hot images, uint8.

        Raises:
            DataError: the file is missing or damaged, or its pages are too many for this machine.
        """
        path = self._file()
        count = sum(1 for _ in self._texts(path))
        size = count * len(CHARACTERS) * LINES * COLUMNS
        what = f"{count:,} pages of teletext"
        refuse_too_large(size, what, hint="take fewer: TeletextMatrixIterableDataset(total=10_000)")
        room = PixelRoom(count, what, mapped=mapped_above())
        waiting: list[Tensor] = []
        for text in self._texts(path):
            waiting.append(page_of(text))
            if len(waiting) == _TOGETHER:
                room.add(torch.stack(waiting))
                waiting = []
        if waiting:
            room.add(torch.stack(waiting))
        pixels = room.done() if count else torch.zeros(0, 1, 1, 1)
        source = Provenance(self.name, str(path), count, content_sha256(pixels))
        return make_images(pixels, provenance=[source], sha256=source.sha256, medium=PAGES)

    def _texts(self, path: Path) -> Iterator[str]:
        """The texts of the first `total` pages."""
        try:
            with _opened(path) as file:
                for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                    if self.total is not None and number > self.total:
                        return
                    entry = json.loads(line)
                    yield str(entry["text"])
        except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
            raise DataError(
                f"{path}: a line is no page of teletext ({type(error).__name__})",
                hint='a line must be like {"text": "first line\\nsecond line"}',
            ) from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Context manager: the file, unpacked if it begins as a gzip file does."""
    with open_file(path) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as file:
            yield file  # type: ignore[misc]  # it has read and readline


def page_of(text: str) -> Tensor:
    """A page as one-hot (256, 20, 40) uint8, 0 or 255.

    Places after the end of a line are 0 in all channels, unknown characters are spaces.
    """
    page = torch.zeros(len(CHARACTERS), LINES, COLUMNS, dtype=torch.uint8)
    for y, line in enumerate(text.splitlines()[:LINES]):
        for x, character in enumerate(line[:COLUMNS]):
            page[_NUMBERS.get(character, 0), y, x] = 255
    return page


_NUMBERS = {character: number for number, character in enumerate(CHARACTERS)}


PAGES = Pages()


class TeletextMatrixIterableDataset(Dataset):
    """Pages of teletext, one-hot: 256 characters in 20 lines of 40 columns.

    A page needs 205 kB. The original's collection of pages is not published; here the file is
    yours.

    Args:
        filename: a page a line, as `{"text": "..."}`; searched beside the experiment file, in
            `AELAB_DATA` and in the cache. It may be compressed by gzip.
        total: greatest number of pages, the first of the file; None: all.
        meta: must be False: what else a line holds is not read.

    Raises:
        DataError: the file is missing or damaged.
    """

    CHARACTERS: ClassVar[str] = CHARACTERS
    DIM: ClassVar[int] = len(CHARACTERS)
    #: Offered in blocks without a call.
    block_names: ClassVar[frozenset[str]] = frozenset({"CHARACTERS", "DIM"})

    def __init__(
        self,
        filename: str = "teletext.ndjson.gz",
        total: int | None = None,
        meta: bool = False,
    ) -> None:
        if meta:
            raise DataError(
                "TeletextMatrixIterableDataset: meta=True is not supported", hint="leave it out"
            )
        super().__init__(TeletextPages(filename, total))

"""FIGlet fonts as arrays: each letter is read once, then numpy sets the words.

pyfiglet needs minutes for 20,000 words, this needs seconds. Letters are *fitted* (FIGlet's
kerning: moved together until they touch, with hardblanks as ink) or keep their full width. FIGlet's
smushing, which merges the columns where letters touch, is not supported: it removes edges of the
letters, and needs the rules of each font.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aelab import roots
from aelab.ascii.glyphs.alphabet import ALPHABET
from aelab.errors import MissingExtra
from aelab.preparation import track

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

#: Characters that words may hold.
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
#: Part of the cache key: raise it when the rules below change, so that old files are not used.
_VERSION = 3
#: Read first, so that copies of these fonts are dropped instead of these.
_WELL_KNOWN = ("standard", "slant", "small", "smslant", "shadow", "smshadow", "script", "block")
_LEAST_LINES = 3
_SHARED_LETTERS = 15
_HARDBLANK = 255


@dataclass(frozen=True, eq=False)
class FigletFont:
    """The letters of one font.

    Attributes:
        name: its name in FIGlet.
        glyphs: (62, h, w) character numbers of `LETTERS`, without common blank rows; cells
            right of a letter's own width are 0, hardblanks 255.
        widths: (62,) columns of each letter.
    """

    name: str
    glyphs: Bytes
    widths: Numbers

    @property
    def height(self) -> int:
        """Height in lines."""
        return int(self.glyphs.shape[1])

    def first_alike(self) -> Numbers:
        """(62,) for each letter the first one drawn the same: capitals, if a font has only them."""
        flat = self.glyphs.reshape(len(LETTERS), -1)
        first: Numbers = (flat[:, None] == flat[None]).all(2).argmax(1)
        return first

    def ink(self) -> list[bytes]:
        """A key for each letter without blanks around it: equal for letters that look the same."""
        inked = np.where(self.glyphs == _HARDBLANK, 0, self.glyphs)
        keys = []
        for glyph in inked:
            rows, columns = glyph.any(1).nonzero()[0], glyph.any(0).nonzero()[0]
            cut = glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            keys.append(bytes(cut.shape) + cut.tobytes())
        return keys

    def overlaps(self) -> Numbers:
        """(62, 62) columns by which the second letter can move towards the first until they touch.

        At most half of either width, so that no letter reaches the letter before its neighbour.
        """
        inked = self.glyphs > 0
        lead = np.where(inked.any(2), inked.argmax(2), self.widths[:, None])
        last = self.glyphs.shape[2] - 1 - inked[:, :, ::-1].argmax(2)
        trail = np.where(inked.any(2), self.widths[:, None] - 1 - last, self.widths[:, None])
        gaps = (trail[:, None] + lead[None]).min(2)
        half = self.widths // 2
        least: Numbers = np.minimum(gaps, np.minimum(half[:, None], half[None]))
        return least


def set_words(
    font: FigletFont, words: Numbers, shape: tuple[int, int], fitted: bool = True
) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Sets words in one font, centred by their ink like lines in `ascii_text.squared`.

    Args:
        font: the font.
        words: (n, L) numbers into `LETTERS`, -1 after a word's end; each word fits, see `extent`.
        shape: (H, W) in characters.
        fitted: letters touch; otherwise each letter keeps its full width.

    Returns:
        (n, H, W) character numbers; and (n,) whether all ink is inside.
    """
    used = words >= 0
    places = _places(font, words, fitted)
    count, longest = words.shape
    cell = font.glyphs.shape[2]
    canvas = np.zeros((count, font.height, int(places.max(initial=0)) + cell), np.uint8)
    rows, columns = np.arange(font.height)[:, None], np.arange(cell)
    for position in range(longest):
        own = used[:, position].nonzero()[0]
        glyphs = font.glyphs[words[own, position]]
        glyphs = np.where(glyphs == _HARDBLANK, 0, glyphs)
        where = own[:, None, None], rows, places[own, position, None, None] + columns
        canvas[where] = np.maximum(canvas[where], glyphs)
    inside = np.ones(count, bool)
    for axis, size in ((1, shape[0]), (2, shape[1])):
        canvas, fits = _centred(canvas, axis, size)
        inside &= fits
    return canvas, inside


def extent(font: FigletFont, words: Numbers, fitted: bool = True) -> Numbers:
    """(n,) width in columns of each word (n, L)."""
    last = (words >= 0).sum(1) - 1
    row = np.arange(len(words))
    columns: Numbers = _places(font, words, fitted)[row, last] + font.widths[words[row, last]]
    return columns


def _places(font: FigletFont, words: Numbers, fitted: bool) -> Numbers:
    """(n, L) the first column of each letter."""
    steps = np.where(words >= 0, font.widths[words], 0)[:, :-1]
    if fitted:
        both = words[:, 1:] >= 0
        steps = steps - np.where(both, font.overlaps()[words[:, :-1], words[:, 1:]], 0)
    return np.concatenate([np.zeros((len(words), 1), np.int64), steps.cumsum(1)], 1)


def _centred(canvas: Bytes, axis: int, size: int) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Cuts or pads the canvas to `size` along an axis, with centred ink; also whether it fits."""
    inked: npt.NDArray[np.bool_] = np.any(canvas > 0, axis=3 - axis)
    length = inked.shape[1]
    first = inked.argmax(1)
    ink = length - inked[:, ::-1].argmax(1) - first
    missing = size - ink
    # Columns as with `str.center`; an extra blank line is below.
    before = missing // 2 + (missing & size & 1 if axis == 2 else 0)
    take = np.arange(size) - before[:, None] + first[:, None]
    valid = (take >= 0) & (take < length)
    index = np.where(valid, take, 0)
    if axis == 1:
        moved = np.take_along_axis(canvas, index[:, :, None], 1) * valid[:, :, None]
    else:
        moved = np.take_along_axis(canvas, index[:, None, :], 2) * valid[:, None, :]
    return moved, missing >= 0


def word_numbers(words: Sequence[str]) -> Numbers:
    """(n, L) numbers into `LETTERS`, -1 after the end of shorter words."""
    longest = max(map(len, words), default=1)
    table = {letter: number for number, letter in enumerate(LETTERS)}
    rows = [[table[c] for c in word] + [-1] * (longest - len(word)) for word in words]
    return np.array(rows, np.int64).reshape(len(words), longest)


def load_fonts() -> Mapping[str, FigletFont]:
    """The usable fonts of pyfiglet by name, sorted; read once, then kept in the cache.

    Usable fonts have only printable ASCII, at least three lines, no blank letters or digits, no two
    equal capitals, small letters or digits, and at most 15 of all 62 drawn as in an earlier font,
    so that a held-out font is really new.

    Raises:
        MissingExtra: pyfiglet is not installed.
    """
    try:
        import pyfiglet
    except ImportError:
        raise MissingExtra("figlet_ascii_dataset", "pyfiglet", "ascii") from None

    names: list[str] = sorted(set(pyfiglet.FigletFont.getFonts()))  # type: ignore[no-untyped-call]
    stamp = f"{_VERSION} {version('pyfiglet')} {names}"
    key = hashlib.sha256(stamp.encode()).hexdigest()[:16]
    kept = roots.cache_folder() / "figlet" / f"fonts-{key}.npz"
    if kept.is_file():
        with contextlib.suppress(OSError, ValueError, KeyError):
            return _opened(kept)
    fonts: dict[str, FigletFont] = {}
    order = dict.fromkeys([*(name for name in _WELL_KNOWN if name in names), *names])
    for name in track(order, "reading FIGlet fonts", len(order)):
        font = _read_font(name)
        if font is not None and not any(_related(font, other) for other in fonts.values()):
            fonts[name] = font
    fonts = dict(sorted(fonts.items()))
    with contextlib.suppress(OSError):  # the cache only saves time
        _keep(kept, fonts)
    return fonts


def _read_font(name: str) -> FigletFont | None:
    """Reads one font; None if it is not usable."""
    import pyfiglet

    font = pyfiglet.FigletFont(font=name)
    blank = str(font.hardBlank)
    letters = [font.chars.get(ord(letter)) for letter in LETTERS]
    if not all(letters):
        return None
    texts = [[line.rstrip("\r\n") for line in lines or ()] for lines in letters]
    inked = [[line.replace(blank, " ") for line in lines] for lines in texts]
    if not set(ALPHABET).issuperset("".join("".join(lines) for lines in inked)):
        return None
    drawn = ["\n".join(line.rstrip() for line in lines) for lines in inked]
    if any(not letter.strip() for letter in drawn):
        return None
    if any(len(set(kind)) < len(kind) for kind in (drawn[:26], drawn[26:52], drawn[52:])):
        return None
    rows = [y for lines in inked for y, line in enumerate(lines) if line.strip()]
    top, bottom = min(rows), max(rows) + 1
    if bottom - top < _LEAST_LINES:
        return None
    widths = np.array([max(map(len, lines)) for lines in texts], np.int64)
    glyphs = np.zeros((len(LETTERS), bottom - top, int(widths.max())), np.uint8)
    for number, lines in enumerate(texts):
        for row, line in enumerate(lines[top:bottom]):
            codes = [_HARDBLANK if c == blank else ord(c) - 32 for c in line]
            glyphs[number, row, : len(codes)] = codes
    return FigletFont(name, glyphs, widths)


def _related(font: FigletFont, other: FigletFont) -> bool:
    """Whether more than a quarter of the letters look the same in both fonts."""
    if font.height != other.height:
        return False
    cell = min(font.glyphs.shape[2], other.glyphs.shape[2])
    same = (font.glyphs[:, :, :cell] == other.glyphs[:, :, :cell]).all((1, 2))
    same &= (font.widths <= cell) & (other.widths <= cell)
    return int(same.sum()) > _SHARED_LETTERS


def _keep(path: Path, fonts: Mapping[str, FigletFont]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    arrays: dict[str, npt.NDArray[Any]] = {}
    arrays |= {f"glyphs/{name}": font.glyphs for name, font in fonts.items()}
    arrays |= {f"widths/{name}": font.widths for name, font in fonts.items()}
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def _opened(path: Path) -> dict[str, FigletFont]:
    with np.load(path, allow_pickle=False) as arrays:
        names = [key.removeprefix("glyphs/") for key in arrays.files if key.startswith("glyphs/")]
        return {
            name: FigletFont(
                name,
                arrays[f"glyphs/{name}"].astype(np.uint8),
                arrays[f"widths/{name}"].astype(np.int64),
            )
            for name in names
        }

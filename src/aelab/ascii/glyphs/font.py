"""Font files: finding them, checking that they suit a grid, and drawing their characters."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from aelab import roots
from aelab.ascii.glyphs.alphabet import ALPHABET
from aelab.errors import ConfigError, DataError, MissingExtra, did_you_mean, one_of

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

DEFAULT_FONT = "DejaVuSansMono"
#: Least height in pixels at which all characters of DejaVu Sans Mono differ.
SMALLEST_RES = 3

_HINT = "leave `font` out for DejaVu Sans Mono, or give the path of a monospaced .ttf or .otf file"
_TEST_SIZE = 64

# The document's glyph pictures are 64x64, their ink in rows 14..55 and columns 19..43. DejaVu Sans
# Mono at 40 px, a cell of 48x24, has exactly this ink with its cell at (8, 19).
_DOCUMENT_SIDE = 64
_DOCUMENT_SIZE = 40


def _shipped() -> dict[str, Path]:
    """The monospaced fonts shipped with matplotlib, by name, without importing matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("the default font", "matplotlib", "")
    folder = Path(spec.submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    return {path.stem: path for path in sorted(folder.glob("DejaVuSansMono*.ttf"))}


def find_font(font: str | Path | None = None) -> Path:
    """Finds the file of a font.

    Args:
        font: the path of a TrueType or OpenType file, or a name: `DejaVuSansMono` (also if left
            out), `DejaVuSansMono-Bold`, `DejaVuSansMono-Oblique`, `DejaVuSansMono-BoldOblique`.

    Raises:
        DataError: the file does not exist, or the experiment may not read it.
    """
    shipped = _shipped()
    name = DEFAULT_FONT if font is None else str(font)
    if name in shipped:
        return shipped[name]
    if Path(name) in shipped.values():  # a path returned by this function
        return Path(name)
    path = roots.resolve(name)
    if not path.is_file():
        near = did_you_mean(name, shipped)
        raise DataError(
            f"font: there is no file {name}, and the available fonts are {one_of(shipped)}{near}",
            hint=_HINT,
        )
    return path


def _load(path: Path, size: int) -> FreeTypeFont:
    """Loads a font at `size` pixels; the basic layout rounds every advance to whole pixels."""
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"font: {path} is not a readable font ({error})", hint=_HINT) from None


def _some(characters: Sequence[str], most: int = 12) -> str:
    """Text such as `'a' 'b' 'c' and 4 more`."""
    rest = len(characters) - most
    return " ".join(map(repr, characters[:most])) + (f" and {rest} more" if rest > 0 else "")


def _pictures(font: FreeTypeFont, shape: tuple[int, int], corner: tuple[int, int]) -> Tensor:
    """Draws every character alone with its cell's upper left `corner` (row, column): white paper,
    black ink, cut at the edges; (95, h, w) uint8."""
    pictures = []
    for character in ALPHABET:
        picture = Image.new("L", (shape[1], shape[0]), 255)
        ImageDraw.Draw(picture).text((corner[1], corner[0]), character, fill=0, font=font)
        pictures.append(np.asarray(picture))
    return torch.from_numpy(np.stack(pictures))


def _cell(font: FreeTypeFont) -> tuple[int, int]:
    """(line height, advance) in pixels."""
    return sum(font.getmetrics()), round(font.getlength(ALPHABET[0]))


@cache
def _check(path: Path) -> None:
    """Raise for a font whose characters differ in width, or that lacks some of them."""
    font = _load(path, _TEST_SIZE)
    widths = {character: font.getlength(character) for character in ALPHABET}
    ((usual, _),) = Counter(widths.values()).most_common(1)
    others = [character for character, width in widths.items() if width != usual]
    if others:
        raise DataError(
            f"font: {path.name} is not monospaced: these differ in width from the others: "
            f"{_some(others)}",
            hint=_HINT,
        )
    seen = Counter(map(bytes, _pictures(font, _cell(font), (0, 0)).flatten(1).numpy()))
    if len(seen) < len(ALPHABET):
        drawn = _pictures(font, _cell(font), (0, 0)).flatten(1).numpy()
        alike = [c for c, picture in zip(ALPHABET, drawn, strict=True) if seen[bytes(picture)] > 1]
        raise DataError(
            f"font: {path.name} lacks characters, for it draws these alike: {_some(alike)}",
            hint=_HINT,
        )


def glyph_atlas(
    font_res: int, font_zoom: int | None = None, font: str | Path | None = None
) -> Tensor:
    """Draws the 95 printable characters of ASCII.

    Args:
        font_res: without `font_zoom`, the font size in pixels; with it, the side of the square
            cell.
        font_zoom: None draws each character in the font's own cell (line height x advance), cut at
            its edges. An integer 0 to 63 selects the document's method: a 64x64 picture of the
            character, cropped from (zoom, zoom) to its lower right corner and resized (bilinear,
            without antialiasing, rounded to bytes) to font_res x font_res.
        font: path or name, see `find_font`.

    Returns:
        (95, h, w) uint8, paper 255, ink 0.

    Raises:
        ConfigError: `font_res` or `font_zoom` out of range.
        DataError: no such font, no font file, or a font that does not suit a grid.

    Source: theAdamColton/python-pytorch-font-renderer, commit 198ddc4, for `font_zoom`.
    """
    if font_res < SMALLEST_RES:
        raise ConfigError(
            f"font_res: {font_res} is too small to tell the characters apart",
            hint=f"at least {SMALLEST_RES}; the document used 7 and 9, and 9 is the default",
        )
    if font_zoom is not None and not 0 <= font_zoom < _DOCUMENT_SIDE:
        raise ConfigError(
            f"font_zoom: {font_zoom} is not possible: 0 to 63, or left out for the font's own cell",
            hint="the document used 21",
        )
    path = find_font(font)
    _check(path)
    if font_zoom is None:
        natural = _load(path, font_res)
        return _pictures(natural, _cell(natural), (0, 0))
    return _document_atlas(path, font_res, font_zoom)


def _document_atlas(path: Path, font_res: int, font_zoom: int) -> Tensor:
    """(95, font_res, font_res) uint8, by the method of `font_zoom` in `glyph_atlas`."""
    font = _load(path, _DOCUMENT_SIZE)
    height, width = _cell(font)
    corner = ((_DOCUMENT_SIDE - height) // 2, (_DOCUMENT_SIDE - 1 - width) // 2)
    large = _pictures(font, (_DOCUMENT_SIDE, _DOCUMENT_SIDE), corner)
    cropped = large[:, None, font_zoom:, font_zoom:].float()
    small = F.interpolate(cropped, (font_res, font_res), mode="bilinear", align_corners=False)
    atlas = small[:, 0].round().to(torch.uint8)
    if bool((atlas == 255).all()):
        raise ConfigError(
            f"font_zoom: {font_zoom} crops all ink away; a smaller one leaves some",
            hint="the document used 21",
        )
    return atlas

"""Converts pictures and texts to ASCII art with a trained run, and makes frames between two.

picture -> glyph matching -> characters -> encode, decode -> text
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from aelab.ascii.data.ascii_text import trimmed
from aelab.ascii.glyphs import font_renderer, match_glyphs, numbers_to_images, side_by_side, to_grid
from aelab.ascii.medium import FONT_RES, Characters, lines_of
from aelab.data.sources.decode import decode
from aelab.errors import AelabError, DataError, UserError, did_you_mean, one_of
from aelab.files import NoPicture, read_file
from aelab.metrics import flat
from aelab.metrics.paths import linear_path, spherical_path
from aelab.outputs import write_output
from aelab.report import texts as shown_texts
from aelab.report.pictures import images_in_rows, png_of
from aelab.study.figures.film import animation
from aelab.tensor_pictures import as_pictures, reproduce

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

#: Most columns and lines of a text made from a picture.
LARGEST = 4096
#: Grids encoded and decoded at once.
BATCH = 32
#: Milliseconds per frame of an animation; the first and last are shown five times as long.
FRAME_MS = 200
#: Ways of matching glyphs.
MATCHES = ("strokes", "areas", "brightness", "edges")
#: Endings of output files; a row of frames is also a picture.
ENDINGS = (".txt", ".png", ".gif", ".webp")

Lines = list[str]
Match = Literal["strokes", "areas", "brightness", "edges"]


class WrittenArt(NamedTuple):
    """A picture or text as ASCII art.

    Attributes:
        matched: lines of the characters most similar to the picture; a text unchanged.
        written: the model's reconstruction of them.
    """

    matched: Lines
    written: Lines

    def beside(self) -> Lines:
        """`matched   |   written`, line by line."""
        return side_by_side(self.matched, self.written)

    def shown(self, beside: bool = False) -> str:
        """For a terminal: `written`, or both, without blank lines at the top and the bottom."""
        return shown_texts.without_blank_edges("\n".join(self.beside() if beside else self.written))


class Matching(NamedTuple):
    """Options for converting a picture to characters.

    Attributes:
        columns: width in characters; None fits the picture into one grid of the run.
        invert: invert the picture.
        match: the way of comparing glyphs: `strokes`, `areas`, `brightness` or `edges`.
    """

    columns: int | None = None
    invert: bool = False
    match: str = "strokes"


def art_of(opened: OpenedRun, source: Path, how: Matching) -> WrittenArt:
    """Encodes and decodes a file's picture or text with a run; see `AsciiWriter.art`."""
    shape = grid_shape(opened)
    grid = _filled(grid_of(source, shape, how), shape)
    tiles = rearrange(grid, "(r h) (c w) -> (r c) h w", h=shape[0], w=shape[1])
    parts = [
        reproduce(opened.parts.model, part).clamp(0, 1)
        for part in torch.split(_batch(tiles), BATCH)
    ]
    rows, cols = grid.shape[0] // shape[0], grid.shape[1] // shape[1]
    written = rearrange(torch.cat(parts), "(r c) k h w -> k (r h) (c w)", r=rows, c=cols)
    return WrittenArt(lines_of(_batch(grid[None]))[0], lines_of(written[None])[0])


@torch.no_grad()
def frames_of(
    opened: OpenedRun, ends: Sequence[Path], how: Matching, *, steps: int, path: str
) -> list[Lines]:
    """Texts on the way from one file to another through the latent; see `AsciiWriter.frames`."""
    paths = {"linear": linear_path, "spherical": spherical_path}
    if path not in paths:
        raise UserError(
            f"unknown path {path!r}{did_you_mean(path, paths)}", hint=f"possible: {one_of(paths)}"
        )
    if steps < 2:
        raise UserError(f"--steps {steps}: at least two, both ends included")
    shape, model = grid_shape(opened), opened.parts.model
    grids = [_filled(grid_of(source, shape, how), shape) for source in ends]
    images = _batch(torch.stack(grids)).to(opened.parts.device)
    latents = model.encode(images)  # type: ignore[operator]
    first, second = flat(latents).cpu()
    way = paths[path](first, second, steps).reshape(steps, *latents.shape[1:])
    decoded = [
        model.decode(part.to(opened.parts.device)).cpu()  # type: ignore[operator]
        for part in torch.split(way, BATCH)
    ]
    return lines_of(torch.cat(decoded))


def grid_shape(opened: OpenedRun) -> tuple[int, int]:
    """(H, W) in characters of the texts that a run writes."""
    height, width = opened.run.record["shape"][-2:]
    return int(height), int(width)


def grid_of(source: Path, shape: tuple[int, int], how: Matching) -> Tensor:
    """Reads a file as character numbers (rows, columns) uint8: a picture by matching, or a text.

    Args:
        source: a picture that Pillow can open, or a text of printable ASCII.
        shape: (H, W) into which a picture is fitted if `columns` is None.
        how: the options; the height follows from `columns` and the picture's aspect ratio.

    Raises:
        UserError: no such file, or neither a picture nor a text.
    """
    columns = how.columns
    if how.match not in MATCHES:
        raise UserError(
            f"unknown match {how.match!r}{did_you_mean(how.match, MATCHES)}",
            hint=f"possible: {one_of(MATCHES)}",
        )
    if columns is not None and not 1 <= columns <= LARGEST:
        raise UserError(f"--columns {columns}: must be 1 to {LARGEST:,} characters")
    picture = _opened(source)
    if picture is None:
        if how.invert or columns is not None:
            given = "--invert" if how.invert else "--columns"
            raise UserError(f"{given} is for pictures, and {source} is a text", hint="leave it out")
        return _text_grid(source)

    renderer = font_renderer(FONT_RES)
    size = _fitted(picture.size, shape, renderer.cell, columns)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    paper = pixels.view(1, 1, picture.height, picture.width).float() / 255
    options = {how.match: True} if how.match in ("brightness", "edges") else {}
    options |= {"strokes": True} if how.match in ("strokes", "edges") else {}
    return match_glyphs(1 - paper if how.invert else paper, size, renderer, **options)[0]


def _opened(source: Path) -> Image.Image | None:
    """The first picture of a file, grey on white; None if the file is no picture."""
    try:
        pixels = next(decode(source, background=(255, 255, 255)))
    except NoPicture:
        return None
    except DataError as error:
        reason = error.message.partition(f"{source}: ")[2] or error.message
        raise UserError(
            f"cannot read {source}: {reason}", hint="give a picture or a text"
        ) from None
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).convert("L")


def _text_grid(source: Path) -> Tensor:
    try:
        text = read_file(source).decode("utf-8")
        lines = trimmed([line.expandtabs(8) for line in text.splitlines()])
        if not lines or len(lines) > LARGEST or max(map(len, lines)) > LARGEST:
            raise UserError(f"{source} has no line, or more than {LARGEST:,} lines or columns")
        return to_grid(lines, (len(lines), max(map(len, lines))))
    except (UnicodeDecodeError, AelabError) as error:
        why = (
            "is no text" if isinstance(error, UnicodeDecodeError) else f"is not ASCII art: {error}"
        )
        raise UserError(
            f"{source} is not a picture that Pillow can open, and {why}",
            hint="give a picture (PNG, JPEG, WebP, ...) or a text of printable ASCII",
        ) from None


def _fitted(
    size: tuple[int, int], shape: tuple[int, int], cell: tuple[int, int], columns: int | None
) -> tuple[int, int]:
    """(rows, columns) for a picture of (width, height) pixels, keeping its aspect ratio."""
    across, down = size[0] / cell[1], size[1] / cell[0]
    scale = columns / across if columns else min(shape[1] / across, shape[0] / down)
    rows, cols = (max(1, round(scale * side)) for side in (down, across))
    if rows > LARGEST:
        raise UserError(
            f"--columns {columns} makes {rows:,} lines of this picture; possible: {LARGEST:,}",
            hint="take fewer columns",
        )
    return rows, columns or min(cols, shape[1])


def _filled(grid: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pads the grid with spaces on all sides, to a multiple of `shape`."""
    sides = zip(grid.shape, shape, strict=True)
    rows, cols = (max(1, -(-given // side)) * side for given, side in sides)
    full = grid.new_zeros(rows, cols)
    missing = cols - grid.shape[1]
    # Centred as in data sets of ASCII art.
    top, left = (rows - grid.shape[0]) // 2, missing // 2 + (missing & cols & 1)
    full[top : top + grid.shape[0], left : left + grid.shape[1]] = grid
    return full


def _batch(numbers: Tensor) -> Tensor:
    return numbers_to_images(numbers)


def save(shown: Sequence[Lines], out: Path) -> Path:
    """Writes one text, or frames, to a file.

    Args:
        shown: texts of any size.
        out: `.txt` (an empty line between frames), `.png` (frames side by side), or `.gif` and
            `.webp` (frames one after the other).

    Raises:
        UserError: another ending, or the system refuses.
    """
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{out}: texts are written as {one_of(ENDINGS)}", hint="choose such an ending"
        )
    if ending == ".txt":
        content = ("\n\n".join("\n".join(lines) for lines in shown) + "\n").encode()
    else:
        content = _drawn(shown, ending)
    return write_output(out, content)


def _drawn(shown: Sequence[Lines], ending: str) -> bytes:
    size = max(map(len, shown)), max(len(line) for lines in shown for line in lines)
    grids = torch.stack([to_grid(lines, size) for lines in shown])
    pictures = as_pictures(_batch(grids), Characters())
    if ending == ".png":
        return png_of(images_in_rows(pictures, len(pictures), gap=FONT_RES))
    held = [5 * FRAME_MS, *[FRAME_MS] * (len(pictures) - 2), 5 * FRAME_MS][: len(pictures)]
    return animation(pictures, ending[1:], held)


class AsciiWriter:
    """Implements `OpenedRun.write` and `OpenedRun.write_between` for models of characters."""

    def art(
        self,
        opened: OpenedRun,
        source: Path,
        *,
        columns: int | None = None,
        invert: bool = False,
        match: Match = "strokes",
    ) -> WrittenArt:
        """Converts a picture or a text to ASCII art by encoding and decoding it.

        Args:
            opened: a run whose model writes characters.
            source: a picture in any format of Pillow, or a text of printable ASCII.
            columns: width in characters; wider than the run's grid, parts are encoded one by one.
                None fits the picture into one grid.
            invert: invert the picture, for drawings on black.
            match: the way of choosing glyphs. `strokes` compares after a slight blur, so that thin
                lines are kept; `areas` compares the pixels; `brightness` first maps black to the
                grey of the darkest glyph (for photographs); `edges` compares the outlines.

        Raises:
            UserError: no such file, or neither picture nor text.
        """
        return art_of(opened, source, Matching(columns, invert, match))

    def frames(
        self,
        opened: OpenedRun,
        ends: tuple[Path, Path],
        *,
        steps: int = 8,
        path: Literal["linear", "spherical"] = "linear",
        invert: bool = False,
        match: Match = "strokes",
    ) -> list[Lines]:
        """Interpolates from one picture or text to another in the latent.

        Args:
            opened, invert, match: as for `art`.
            ends: two files.
            steps: number of frames, including both ends; weights of the ends sum to 1 (`linear`).
            path: straight (`linear`) or along the great circle (`spherical`).

        Raises:
            UserError: as for `art`.
        """
        return frames_of(opened, ends, Matching(None, invert, match), steps=steps, path=path)

    def save(self, shown: Sequence[Lines], out: Path) -> Path:
        """Writes texts to a file: `.txt`, `.png`, `.gif` or `.webp`."""
        return save(shown, out)


WRITER = AsciiWriter()

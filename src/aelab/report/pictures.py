"""Stored reproductions of runs, and grids of them as one PNG.

A run keeps `images/train-originals.png` and `images/train-000060000.png` (16 images in one row, in
original size), the same for `heldout`; the number is that of the images trained on.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from aelab.errors import DataError, UserError, one_of
from aelab.files import open_picture
from aelab.report.moments import SPLITS, stored_moments
from aelab.report.series import labels
from aelab.runs.files import LARGEST_PICTURE, is_regular, read
from aelab.runs.record import Run

#: The checkerboard behind transparent pixels: side of a square, two greys; as `ops.color` has it.
SQUARE, GREYS = 4, (102, 153)
#: In pixels: greatest width of the names, gaps between rows and between images, text height.
LABEL_WIDTH, GAP, IMAGE_GAP, TEXT_SIZE = 190, 6, 2, 12
#: Colour between drawn pictures (runs whose record has a `cell`), whose white backgrounds would
#: otherwise merge.
PAPER_GAP = "#c8ccd2"


@dataclass(frozen=True)
class PictureEncoding:
    """An encoding of pictures in a page: `quality` None is lossless; at most `images` in a row."""

    images: int
    steps: int
    quality: int | None


#: From best to smallest; the page uses the first that fits.
ENCODINGS = (
    PictureEncoding(16, 8, None), PictureEncoding(16, 8, 90), PictureEncoding(12, 8, 85),
    PictureEncoding(10, 6, 80), PictureEncoding(8, 5, 75), PictureEncoding(8, 3, 70),
    PictureEncoding(6, 2, 60), PictureEncoding(6, 1, 50),
)  # fmt: skip


#: Most pixels of a stored row of images; rows of aelab have some ten thousand.
LARGEST_PIXELS = 1 << 26


def originals(run: Run, split: str) -> Path | None:
    """The file of the originals; None if the run has none (yet)."""
    path = run.path / "images" / f"{split}-originals.png"
    return path if is_regular(path, run.path) else None


def inputs(run: Run, split: str) -> Path | None:
    """The file of what a model saw of the originals; None if it saw all of them."""
    path = run.path / "images" / f"{split}-inputs.png"
    return path if is_regular(path, run.path) else None


def steps(run: Run, split: str) -> dict[int, Path]:
    """Images trained on -> file of the reproductions, ascending."""
    return stored_moments(run, "images", split, ".png")


def choose_steps(stored: Iterable[Mapping[int, Path]], limit: int) -> list[int]:
    """At most `limit` moments, evenly spaced, including the first and the last."""
    moments = sorted({moment for each in stored for moment in each})
    if len(moments) <= limit:
        return moments
    if limit == 1:
        return moments[-1:]
    places = {round(i * (len(moments) - 1) / (limit - 1)) for i in range(limit)}
    return [moments[place] for place in sorted(places)]


def image_width(run: Run, size: tuple[int, int]) -> int:
    """Width of one image in a row of `size` (width, height): as recorded, else square.

    For a drawn medium, the recorded width is in elements, and `cell` is their width in pixels.
    """
    shape, cell = (list(run.record.get(key) or []) for key in ("shape", "cell"))
    width = shape[2] * (cell[1] if len(cell) == 2 else 1) if len(shape) == 3 else 0
    if width and size[0] % width == 0:
        return int(width)
    return min(size[1], size[0])


def open_row(path: Path) -> Image.Image:
    """Decodes a stored row of images; transparent parts are shown on a checkerboard.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        with open_picture(path, ("PNG",)) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            if image.mode in ("RGBA", "LA"):
                return _over_checker(image.convert("RGBA"))
            return image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    except DataError as error:
        reason = error.message.partition(f"{path}: ")[2] or error.message
        raise DataError(f"{path} is no readable picture: {reason}") from error


def _over_checker(row: Image.Image) -> Image.Image:

    squares = -(-row.width // SQUARE), -(-row.height // SQUARE)
    behind = Image.new("L", squares)
    behind.putdata(
        [GREYS[(n % squares[0] + n // squares[0]) % 2] for n in range(math.prod(squares))]
    )
    behind = behind.resize((squares[0] * SQUARE, squares[1] * SQUARE), Image.Resampling.NEAREST)
    behind = behind.crop((0, 0, *row.size)).convert("RGBA")
    return Image.alpha_composite(behind, row).convert("RGB")


def encode_row(row: Image.Image, width: int, encoding: PictureEncoding) -> tuple[str, bytes]:
    """Encodes the first images of a row; returns media type and bytes.

    Args:
        row: images side by side.
        width: width of one image.
        encoding: number of images and quality.
    """
    shown = row.crop((0, 0, min(row.width, width * encoding.images), row.height))
    buffer = io.BytesIO()
    if encoding.quality is None:
        shown.save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()
    shown.save(buffer, "WEBP", quality=encoding.quality, method=5)
    return "image/webp", buffer.getvalue()


def reproduction_sheet(
    runs: Sequence[Run], *, split: str = "heldout", scale: int = 3, count: int = 16
) -> bytes:
    """Draws the latest reproductions of several runs under their originals, as one PNG.

    Runs with the same originals are placed together; those without pictures are left out.

    Args:
        runs: any number, finished or not.
        split: `heldout` or `train`.
        scale: side of the square that each pixel becomes.
        count: images in a row, at most.

    Returns:
        The bytes of a PNG file; equal runs, equal bytes.

    Raises:
        UserError: unknown split, or no run has pictures.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; possible: {one_of(SPLITS)}")
    lines = _sheet_lines(runs, split, count)
    if not lines:
        raise UserError(
            f"none of these runs has stored reproductions of {SPLITS[split]} yet",
            hint="they are stored at each validation: wait for the first",
        )
    return sheet(lines, scale=scale)


@dataclass(frozen=True)
class SheetRow:
    """One row of a sheet: its name, its images, whether they are originals, the gap colour."""

    label: str
    images: list[Image.Image]
    original: bool = False
    gap: str = "white"


def sheet(lines: Sequence[SheetRow], *, scale: int = 1, columns: Sequence[str] = ()) -> bytes:
    """Draws named rows of images, each pixel as a square of `scale`; returns a PNG file.

    Args:
        lines: the rows.
        scale: side of the square that each pixel becomes.
        columns: names of the images of every row, drawn above the first; upright if one of them is
            wider than an image.
    """
    rows = [_enlarged(line, scale) for line in lines]
    heights = [max(row.height, TEXT_SIZE + 4) + GAP for row in rows]
    heights = [height + GAP * line.original for height, line in zip(heights, lines, strict=True)]
    font = ImageFont.load_default(TEXT_SIZE)
    left = min(LABEL_WIDTH, max(math.ceil(font.getlength(line.label)) for line in lines) + 3 * GAP)
    if max(len(line.label) for line in lines) == 0:
        left = GAP
    head = _column_names(columns, rows[0].width, len(lines[0].images), font) if columns else None
    above = head.height + GAP if head else 0
    size = (left + max(row.width for row in rows) + GAP, above + sum(heights) + GAP)
    picture = Image.new("RGB", size, "white")
    draw, top = ImageDraw.Draw(picture), above + GAP
    if head:
        picture.paste(head, (left, GAP))
    for line, row, height in zip(lines, rows, heights, strict=True):
        top += GAP if line.original else 0
        colour = "#666666" if line.original else "#111111"
        draw.text(
            (GAP, top + row.height / 2), _shortened(line.label, font), colour, font, anchor="lm"
        )
        picture.paste(row, (left, top))
        top += height - (GAP if line.original else 0)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def images_in_rows(images: Sequence[Image.Image], columns: int, gap: int = 0) -> Image.Image:
    """Places images of one size in a grid, row by row."""
    width, height = images[0].width + gap, images[0].height + gap
    rows = -(-len(images) // columns)
    picture = Image.new(
        images[0].mode, (width * min(columns, len(images)) - gap, height * rows - gap), "white"
    )
    for number, image in enumerate(images):
        picture.paste(image, (number % columns * width, number // columns * height))
    return picture


def png_of(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    """A file as the address of its own content, for pages without further files."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _sheet_lines(runs: Sequence[Run], split: str, count: int) -> list[SheetRow]:
    """Rows of a sheet; runs with the same originals are placed under them."""
    together: dict[bytes, list[SheetRow]] = {}
    for label, run in zip(labels(runs)[1], runs, strict=True):
        original, stored = originals(run, split), steps(run, split)
        if original is None or not stored:
            continue
        gap = PAPER_GAP if run.record.get("cell") else "white"
        first = SheetRow("original", _images(run, original, count), True, gap)
        group = together.setdefault(read(original, run.path, LARGEST_PICTURE), [first])
        if (seen := inputs(run, split)) is not None:
            group.append(SheetRow(f"{label}, masked input", _images(run, seen, count), False, gap))
        group.append(SheetRow(label, _images(run, stored[max(stored)], count), False, gap))
    return [line for group in together.values() for line in group]


def _images(run: Run, path: Path, count: int) -> list[Image.Image]:
    """The first images of a stored row, one by one."""
    row = open_row(path)
    width = image_width(run, row.size)
    lefts = range(0, min(row.width, width * count), width)
    return [row.crop((left, 0, left + width, row.height)) for left in lefts]


def _enlarged(line: SheetRow, scale: int) -> Image.Image:
    """Places images side by side with gaps, each pixel enlarged to a square."""
    images = line.images
    width, height = images[0].width * scale, images[0].height * scale
    row = Image.new("RGB", ((width + IMAGE_GAP) * len(images) - IMAGE_GAP, height), line.gap)
    for number, image in enumerate(images):
        large = image.resize((width, height), Image.Resampling.NEAREST)
        row.paste(large, (number * (width + IMAGE_GAP), 0))
    return row


def _column_names(names: Sequence[str], width: int, images: int, font: Any) -> Image.Image:
    """The names of the images of a row, each in the middle above its image."""
    each = (width + IMAGE_GAP) / images
    upright = max(font.getlength(name) for name in names) > each - IMAGE_GAP
    names = [_shortened(name, font) for name in names]
    height = max(math.ceil(font.getlength(name)) for name in names) if upright else TEXT_SIZE + 4
    head = Image.new("RGB", (width, height), "white")
    for number, name in enumerate(names[:images]):
        long = height if upright else math.floor(each)
        text = Image.new("RGB", (long, TEXT_SIZE + 4), "white")
        place, anchor = ((0, TEXT_SIZE / 2 + 2), "lm") if upright else ((long / 2, 0), "ma")
        ImageDraw.Draw(text).text(place, name, "#111111", font, anchor=anchor)
        text = text.rotate(90, expand=True) if upright else text
        head.paste(text, (math.floor(number * each + (each - text.width) / 2), 0))
    return head


def _shortened(text: str, font: Any) -> str:
    """`text`, shortened in the middle if it is wider than the name column."""
    room = LABEL_WIDTH - 2 * GAP
    if font.getlength(text) <= room:
        return text
    for kept in range(len(text) - 1, 2, -1):
        short = text[: math.ceil(kept / 2)] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(short) <= room:
            return short
    return text[:2]

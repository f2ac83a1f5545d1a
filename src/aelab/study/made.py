"""Writes pictures of a run: samples, reconstructions, and interpolation films."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from aelab.errors import UserError, did_you_mean, one_of
from aelab.medium import Medium
from aelab.metrics.paths import linear_path, spherical_path
from aelab.outputs import refuse_to_replace, write_output
from aelab.report.pictures import images_in_rows, png_of, sheet
from aelab.study.codes import csv_of
from aelab.study.figures.film import FRAME_MS, KINDS, animation
from aelab.study.inputs import names_of, unit_images
from aelab.tensor_pictures import as_pictures, picture_line, png
from aelab.types import Images

#: Paths from one code to another.
PATHS = {"linear": linear_path, "spherical": spherical_path}
#: File endings for frames of an interpolation; without one, a folder of PNG files.
FILM_ENDINGS = (".png", *(f".{kind}" for kind in KINDS))
#: Least height of a film's frames, and of the images of a sheet.
LEAST_FILM, LEAST_SHEET = 256, 48
#: Images on the sheet of the worst, and in one row of it.
WORST, COLUMNS = 40, 10

Paths = Iterable[str | os.PathLike[str]]


def write_pictures(
    out: Path, names: Sequence[str], images: Tensor, medium: Medium, inputs: Paths = ()
) -> list[Path]:
    """Writes a PNG file for each image, with transparency, and a text if the medium has texts.

    Args:
        out: the folder.
        names: N names of files, without their ending.
        images: (N, C, H, W) in 0..1.
        medium: of the images.
        inputs: files that are never replaced.

    Returns:
        The PNG files.

    Raises:
        UserError: one of the files was not made by aelab, or the system refuses.
    """
    texts = medium.texts(images)
    files = [out / f"{name}.png" for name in names]
    beside = [out / f"{name}.txt" for name in names] if texts else []
    for path in (*files, *beside):
        refuse_to_replace(path, inputs=inputs)
    pictures = rearrange(medium.picture(images, checker=False), "b c h w -> b h w c")
    for number, (path, picture) in enumerate(zip(files, pictures, strict=True)):
        own = medium.picture_file(images[number : number + 1])
        write_output(path, own or png(picture), inputs=inputs)
    for path, text in zip(beside, texts, strict=True):
        write_output(path, text, inputs=inputs)
    return files


def numbered(word: str, count: int) -> list[str]:
    """Names `word-0001`, `word-0002`, ... with at least four digits."""
    digits = max(4, len(str(count)))
    return [f"{word}-{number:0{digits}}" for number in range(1, count + 1)]


def write_reconstructions(
    out: Path,
    given: Images,
    made: Tensor,
    *,
    count: int | None = None,
    beside: bool = False,
    inputs: Paths = (),
) -> list[Path]:
    """Writes the reconstructions of some images, the worst first.

    Writes `errors.csv` (rank, file, class, error, picture) of all images, `worst.png` with the
    worst ones under their originals, and one PNG file a reconstruction, named by rank and file.

    Args:
        out: the folder.
        given: the N originals.
        made: (N, C, H, W) in 0..1.
        count: number of worst reconstructions to write as pictures; None for all.
        beside: each file shows the original to the left of the reconstruction.
        inputs: files that are never replaced.

    Returns:
        The files, the table first, then the sheet.
    """
    originals, medium = unit_images(given), given.medium
    unit, error = medium.errors(made, originals)
    order = error.argsort(descending=True, stable=True)
    shown = order[:count].tolist()
    files, classes = names_of(given), list(given.class_names) or [""] * len(given)
    ranks = numbered("", len(order))
    names = [f"{ranks[rank][1:]}-{_plain(files[row])}" for rank, row in enumerate(shown)]
    rows = order.tolist()
    table = csv_of(
        {
            "rank": [str(rank) for rank in range(1, len(rows) + 1)],
            "file": [files[row] for row in rows],
            "class": [classes[row] for row in rows],
            unit: error[order].float().numpy(),
            "picture": [f"{name}.png" for name in names] + [""] * (len(rows) - len(names)),
        }
    )
    for name in ("errors.csv", "worst.png"):
        refuse_to_replace(out / name, inputs=inputs)
    pictures = made[shown]
    if beside:
        pictures = torch.cat([originals[shown], pictures], 3)
    written = write_pictures(out, names, pictures, medium, inputs)
    worst = write_output(
        out / "worst.png",
        pairs_sheet(
            originals[rows[:WORST]], made[rows[:WORST]], ("original", "reconstruction"), medium
        ),
        inputs=inputs,
    )
    return [write_output(out / "errors.csv", table, inputs=inputs), worst, *written]


def pairs_sheet(above: Tensor, below: Tensor, words: tuple[str, str], medium: Medium) -> bytes:
    """A PNG sheet of pairs of images, one above the other, in rows of numbered pairs.

    Args:
        above, below: (N, C, H, W) in 0..1.
        words: captions of both.
        medium: of both.
    """
    lines = []
    for start in range(0, len(above), COLUMNS):
        some = slice(start, start + COLUMNS)
        last = min(start + COLUMNS, len(above))
        label = f"{start + 1}-{last}: {words[0]}"
        lines.append(picture_line(label, above[some], medium, original=True))
        lines.append(picture_line(words[1], below[some], medium))
    height = above.shape[-2] * medium.cell[0]
    return sheet(lines, scale=max(1, -(-LEAST_SHEET // height)))


def path_between(first: Tensor, second: Tensor, steps: int, path: str) -> Tensor:
    """(steps, D) codes from one (D,) to another, both included.

    Raises:
        UserError: an unknown path, or fewer than two steps.
    """
    if path not in PATHS:
        raise UserError(
            f"unknown path {path!r}{did_you_mean(path, PATHS)}", hint=f"possible: {one_of(PATHS)}"
        )
    if steps < 2:
        raise UserError(f"--steps {steps}: at least two, both ends included")
    return PATHS[path](first, second, steps)


def refuse_frames(out: Path, steps: int, inputs: Paths) -> None:
    """Raises the errors of `write_frames` before long work."""
    files = [out] if out.suffix else [out / f"{name}.png" for name in numbered("frame", steps)]
    if out.suffix and out.suffix.lower() not in FILM_ENDINGS:
        raise UserError(
            f"{out}: frames are written as {one_of(FILM_ENDINGS)}, or into a folder",
            hint="choose such an ending, or a name without one",
        )
    for path in files:
        refuse_to_replace(path, inputs=inputs)


def write_frames(
    out: Path, images: Tensor, medium: Medium, milliseconds: int = FRAME_MS // 2, inputs: Paths = ()
) -> Path:
    """Writes frames as a film (`.gif`, `.webp`, `.mp4`), a row (`.png`), or a folder of PNG files.

    Frames of a film are enlarged to at least 256 pixels, with square pixels; the first and the last
    are shown five times as long. Files of a folder keep size and transparency.

    Args:
        out: the output; its ending decides the format.
        images: (N, C, H, W) in 0..1.
        medium: of the images.
        milliseconds: duration of a frame of a film.
        inputs: files that are never replaced.
    """
    ending = out.suffix.lower()
    if not ending:
        write_pictures(out, numbered("frame", len(images)), images, medium, inputs)
        return out
    pictures = as_pictures(images, medium)
    if ending == ".png":
        return write_output(out, png_of(images_in_rows(pictures, len(pictures))), inputs=inputs)
    scale = max(1, -(-LEAST_FILM // pictures[0].height))
    size = pictures[0].width * scale, pictures[0].height * scale
    frames = [picture.resize(size, 0) for picture in pictures]  # 0: nearest
    held = [milliseconds] * len(frames)
    held[0] = held[-1] = 5 * milliseconds
    return write_output(out, animation(frames, ending[1:], held), inputs=inputs)


def _plain(name: Any) -> str:
    """A file's name as part of another name, legal on every file system."""
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", str(name))
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")[-80:] or "image"

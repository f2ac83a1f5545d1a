"""Stored reproductions for the page: rows, differences from the originals, errors, films.

A stored row holds up to sixteen images side by side; everything here is made of those PNG files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aelab.errors import DataError, UserError
from aelab.report.pictures import (
    image_width,
    images_in_rows,
    inputs,
    open_row,
    originals,
    png_of,
    steps,
)
from aelab.runs.record import Run

#: Splits of pictures, and what a picture may show.
SPLITS = ("heldout", "train")
KINDS = ("reproductions", "differences")
#: Most moments of a film.
MOST_MOMENTS = 24

#: Colours of a difference from 0 to 1, dark to light, so that they are told apart without hue too;
#: after the map "inferno" of Smith and van der Walt (2015, CC0).
_RAMP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


def moments(run: Run) -> dict[str, dict[str, Any]]:
    """Split -> `images` seen of each stored row, a key of the `originals`, `count` and `names`.

    Rows of one key are of the same images. `hides`: whether the model saw only a part of each.
    """
    found = {}
    for split in SPLITS:
        if originals(run, split) is None:
            continue
        try:
            first = _cut(run, split, None)
        except (DataError, UserError):
            continue
        content = run.read_picture(f"images/{split}-originals.png")
        found[split] = {
            "images": list(steps(run, split)),
            "originals": hashlib.sha256(content).hexdigest()[:12],
            "count": len(first),
            "hides": inputs(run, split) is not None,
            "size": list(first[0].size),
            "names": _names(run, split, len(first)),
        }
    return found


def picture(
    run: Run,
    split: str,
    images: int | None,
    kind: str = "reproductions",
    order: Sequence[int] = (),
) -> bytes:
    """A stored row of images as PNG.

    Args:
        run: the run.
        split: `heldout` or `train`.
        images: of which moment; None for the originals.
        kind: `reproductions`; `differences` from the originals, see `difference_map`; or `inputs`,
            what a model that hides a part of each image saw of them.
        order: positions of the images to show; empty for all, as they are stored.

    Raises:
        UserError: there is no such picture.
    """
    if kind not in (*KINDS, "inputs"):
        raise UserError(f"a picture shows {', '.join(KINDS)} or inputs")
    cut = _cut(run, split, "inputs" if kind == "inputs" else images)
    if kind == "differences":
        firsts = _cut(run, split, None)
        cut = [difference_map(a, b) for a, b in _paired(firsts, cut)]
    chosen = [cut[place] for place in order if 0 <= place < len(cut)] if order else cut
    if not chosen:
        raise UserError(f"run {run.folder} has no such picture")
    return png_of(images_in_rows(chosen, len(chosen)))


def film(run: Run, split: str, image: int, at: Sequence[int], kind: str = KINDS[0]) -> bytes:
    """One image at several moments side by side, the original first, as PNG.

    Args:
        image: its position in the stored row.
        at: images seen of each moment.

    Raises:
        UserError: there is no such picture, or there are too many moments.
    """
    if len(at) > MOST_MOMENTS:
        raise UserError(f"a film of the page has at most {MOST_MOMENTS} moments")
    if kind not in KINDS:
        raise UserError(f"a picture shows {' or '.join(KINDS)}")
    firsts = _cut(run, split, None)
    if not 0 <= image < len(firsts):
        raise UserError(f"run {run.folder} has no such picture")
    shown = [firsts[image].convert("RGB")]
    for moment in at:
        made = _paired(firsts, _cut(run, split, moment))[image][1]
        shown.append(
            difference_map(firsts[image], made) if kind == "differences" else made.convert("RGB")
        )
    return png_of(images_in_rows(shown, len(shown)))


def error_of_each(run: Run, split: str, images: int) -> list[float]:
    """The mean squared error of each stored image at a moment, with pixels in 0..1.

    Raises:
        UserError: there is no such picture.
    """
    pairs = _paired(_cut(run, split, None), _cut(run, split, images))
    return [float(np.square(_floats(a) - _floats(b)).mean()) for a, b in pairs]


def difference_map(first: Image.Image, second: Image.Image) -> Image.Image:
    """Where two images differ: the largest absolute difference of the channels, as a colour.

    The scale is the same for every image: black is 0, pale yellow 1, and the root of the
    difference is drawn, so that 0.05 is already seen.
    """
    apart = np.sqrt(np.abs(_floats(first) - _floats(second)).max(axis=2))
    stops = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(apart, stops, [colour[i] for colour in _RAMP]) for i in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().astype(np.uint8), "RGB")


def _floats(image: Image.Image) -> NDArray[np.float32]:
    """(H, W, 3) in 0..1."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def _cut(run: Run, split: str, images: int | str | None) -> list[Image.Image]:
    """The images of a stored row, one by one: the originals, the `inputs`, or those of a moment."""
    if images == "inputs":
        found = inputs(run, split)
    elif images is None:
        found = originals(run, split)
    else:
        found = steps(run, split).get(int(images))
    if split not in SPLITS or found is None:
        raise UserError(f"run {run.folder} has no such picture")
    row = open_row(found)
    width = image_width(run, row.size)
    return [
        row.crop((left, 0, left + width, row.height))
        for left in range(0, row.width - width + 1, width)
    ]


def _paired(
    firsts: Sequence[Image.Image], made: Sequence[Image.Image]
) -> list[tuple[Image.Image, Image.Image]]:
    if len(firsts) != len(made) or any(a.size != b.size for a, b in zip(firsts, made, strict=True)):
        raise UserError("originals and reproductions of this run differ in size")
    return list(zip(firsts, made, strict=True))


def _names(run: Run, split: str, count: int) -> list[str]:
    """What each image is called: its file, else its row in the set, else its position."""
    files = (run.record.get("shown_files") or {}).get(split)
    if isinstance(files, list) and len(files) == count and all(isinstance(f, str) for f in files):
        return [name or f"image {place + 1}" for place, name in enumerate(files)]
    rows = (run.record.get("shown") or {}).get(split)
    if isinstance(rows, list) and len(rows) == count:
        return [f"no. {row}" for row in rows]
    return [f"image {place + 1}" for place in range(count)]

"""A latent space for a web page: codes of held-out images on a map, and a decoder or a grid.

The page contains the decoder itself if its steps are plain and few enough; otherwise a grid of
decoded images, between which the page interpolates.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from aelab.assembly.parts import functions_of
from aelab.errors import UserError
from aelab.medium import Medium
from aelab.metrics import flat
from aelab.report.pictures import data_url, images_in_rows, png_of
from aelab.study.decoder_program import NotPlainError, Program, program_of
from aelab.study.evaluation import subject_of
from aelab.study.latent_map import LatentMap, map_of
from aelab.tensor_pictures import as_image

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

#: Number of held-out images on the map.
IMAGES = 240
#: Limits for a decoder in the page: numbers (2 bytes each), and multiply-adds for an image, about
#: 50 ms of plain JavaScript.
MOST_NUMBERS, MOST_MULTIPLY_ADDS = 1_000_000, 40_000_000
#: Images of the grid on a side, and the quality of its WebP picture.
GRID, QUALITY = 24, 88
#: Greatest side of images that are shown, and of their thumbnails where they are drawn texts.
LARGEST, LARGEST_TEXT = 128, 64


def explorer_of(
    opened: OpenedRun, *, decoder: bool | None = None, images: int = IMAGES
) -> dict[str, Any]:
    """The data of one run for the page, as plain values.

    Args:
        opened: the run.
        decoder: True: the decoder itself; False: the grid; None: the decoder if possible. Models of
            other media than pixels always have a grid.
        images: number of held-out images on the map.

    Returns:
        `codes` (N, D) as float16 in base64, `mean` and `axes` (K, D) of their principal
        directions with the standard deviations `std`, `map` positions (N, 2) in these
        directions, `spacing` between neighbours on the map, thumbnails as one picture, names and
        classes, and either `program` or `grid`, which has a picture or, of a model that writes
        texts, `texts`.

    Raises:
        UserError: the images are too large, or there is only one code.
        DataError: the run has no images.
        NotPlainError: with `decoder=True`, the decoder has unsupported steps.
    """
    with functions_of(opened.spec):
        subject = subject_of(opened, limit=images, train_limit=0, every_class=True, or_train=True)
        latents, medium = subject.latents, subject.medium
    writes = bool(medium.texts(subject.images[:1]))
    height, width = subject.images.shape[-2:]
    if max(height, width) > LARGEST:
        raise UserError(f"its images of {width}x{height} are larger than {LARGEST}x{LARGEST}")
    codes = flat(latents)
    made = map_of(codes)
    atlas = thumbnails_of(subject.images, medium, LARGEST_TEXT if writes else LARGEST)
    labels = subject.labels
    found: dict[str, Any] = {
        "run": opened.run.folder,
        "images_seen": opened.images,
        "shape": list(subject.images.shape[1:]),
        "latent_shape": list(latents.shape[1:]),
        "range": [_bounds(bound) for bound in opened.value_range],
        "count": len(codes),
        "codes": _halves(codes),
        "mean": _rounded(made.mean),
        "axes": [_rounded(axis) for axis in made.axes],
        "std": _rounded(made.std),
        "map": [_rounded(place) for place in made.places],
        "spacing": round(made.spacing, 6),
        "labels": None if labels is None else labels.tolist(),
        "classes": [] if labels is None else list(subject.classes),
        "names": list(subject.file_names),
        "columns": atlas.columns,
        "tile": list(atlas.tile),
        "thumbnails": data_url(png_of(atlas.picture), "image/png"),
        "program": None,
        "grid": None,
    }
    if decoder is not False and medium.is_brightness:  # the page draws brightness, nothing else
        try:
            found["program"] = _program(opened, latents[:1], force=bool(decoder)).data()
        except NotPlainError:
            if decoder:
                raise
    if found["program"] is None:
        found["grid"] = _grid(subject.decode, made, medium)
    return found


def _program(opened: OpenedRun, latent: Tensor, *, force: bool) -> Program:
    """The decoder's steps.

    Raises:
        NotPlainError: it has unsupported steps, or too many.
    """
    decode: Any = opened.model.decode
    place = next(opened.model.parameters()).device
    with functions_of(opened.spec):
        opened.model.to("cpu")
        try:
            made = program_of(decode, latent.clone())
        finally:
            opened.model.to(place)
    if not force and (made.count > MOST_NUMBERS or made.multiply_adds > MOST_MULTIPLY_ADDS):
        raise NotPlainError(
            f"{made.count:,} numbers and {made.multiply_adds:,} multiply-adds are too many"
        )
    return made


def _grid(decode: Callable[[Tensor], Tensor], made: LatentMap, medium: Medium) -> dict[str, Any]:
    """Decodes images at the points of a grid over the map: one picture, or texts."""
    low, high = made.places.min(0).values, made.places.max(0).values
    margin = 0.04 * (high - low).clamp(min=1e-6)
    low, high = low - margin, high + margin
    x, y = (torch.linspace(float(low[i]), float(high[i]), GRID) for i in (0, 1))
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    images = decode(made.latent_at(place))
    found: dict[str, Any] = {"side": GRID, "low": _rounded(low), "high": _rounded(high)}
    texts = medium.texts(images)
    if texts:
        return {**found, "texts": texts}
    sheet = images_in_rows(_pictures(images, medium), GRID)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=QUALITY, method=4)
    picture = data_url(buffer.getvalue(), "image/webp")
    return {**found, "picture": picture, "fades": medium.is_brightness}


class Thumbnails(NamedTuple):
    """Thumbnails in one picture.

    Attributes:
        picture: all of them, row by row.
        columns: number of them in a row.
        tile: width and height of one.
    """

    picture: Image.Image
    columns: int
    tile: tuple[int, int]


def thumbnails_of(images: Tensor, medium: Medium, largest: int) -> Thumbnails:
    """Images (N, C, H, W) in 0..1 as thumbnails of at most `largest` pixels on a side."""
    pictures = _pictures(images, medium)
    scale = min(1.0, largest / max(pictures[0].size))
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in pictures[0].size)
        pictures = [picture.resize((width, height), Image.Resampling.BOX) for picture in pictures]
    columns = math.ceil(math.sqrt(len(pictures)))
    return Thumbnails(images_in_rows(pictures, columns), columns, pictures[0].size)


def _pictures(images: Tensor, medium: Medium) -> list[Image.Image]:
    """Pictures for a browser, which shows transparency itself."""
    drawn = medium.picture(images.clamp(0, 1), checker=False)
    return [as_image(rearrange(image, "c h w -> h w c")) for image in drawn]


def _halves(values: Tensor) -> str:
    return base64.b64encode(values.half().numpy().tobytes()).decode("ascii")


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _bounds(bound: Any) -> list[float]:
    return list(bound) if isinstance(bound, tuple) else [bound]

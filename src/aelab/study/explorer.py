"""A latent space for a web page: codes of held-out images on a map, and a decoder or a grid.

The page contains the decoder itself if its steps are plain and few enough; otherwise a grid of
decoded images, between which the page interpolates.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from aelab.assembly.parts import functions_of
from aelab.errors import UserError
from aelab.metrics import flat
from aelab.report.pictures import images_in_rows, png_of
from aelab.study.decoder_program import NotPlainError, Program, program_of
from aelab.study.evaluation import subject_of
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
#: Number of directions with a slider, including the two of the map.
DIRECTIONS = 10
#: Greatest side of images that are shown.
LARGEST = 128


def explorer_of(
    opened: OpenedRun, *, decoder: bool | None = None, images: int = IMAGES
) -> dict[str, Any]:
    """The data of one run for the page, as plain values.

    Args:
        opened: the run.
        decoder: True: the decoder itself; False: the grid; None: the decoder if possible.
        images: number of held-out images on the map.

    Returns:
        `codes` (N, D) as float16 in base64, `mean` and `axes` (K, D) of their principal
        directions with the standard deviations `std`, `map` positions (N, 2) in these
        directions, `spacing` between neighbours on the map, thumbnails as one picture, names and
        classes, and either `program` or `grid`.

    Raises:
        UserError: the run does not output pictures, they are too large, or there is only one code.
        DataError: the run has no validation set.
        NotPlainError: with `decoder=True`, the decoder has unsupported steps.
    """
    with functions_of(opened.spec):
        subject = subject_of(opened, limit=images, train_limit=0, every_class=True)
        latents, medium = subject.latents, subject.medium
    if not medium.is_brightness:
        raise UserError(f"run {opened.run.folder} outputs {medium.images_are}, not pictures")
    height, width = subject.images.shape[-2:]
    if max(height, width) > LARGEST:
        raise UserError(f"its images of {width}x{height} are larger than {LARGEST}x{LARGEST}")
    codes = flat(latents)
    axes, std = _directions(codes)
    mean = codes.mean(0)
    places = (codes - mean) @ axes[:2].T
    spacing = _spacing(places)
    labels = subject.labels
    found: dict[str, Any] = {
        "run": opened.run.folder,
        "images_seen": opened.images,
        "shape": list(subject.images.shape[1:]),
        "latent_shape": list(latents.shape[1:]),
        "range": [_bounds(bound) for bound in opened.value_range],
        "count": len(codes),
        "codes": _halves(codes),
        "mean": _rounded(mean),
        "axes": [_rounded(axis) for axis in axes],
        "std": _rounded(std),
        "map": [_rounded(place) for place in places],
        "spacing": round(spacing, 6),
        "labels": None if labels is None else labels.tolist(),
        "classes": [] if labels is None else list(subject.classes),
        "names": list(subject.file_names),
        "columns": math.ceil(math.sqrt(len(codes))),
        "thumbnails": _thumbnails(subject.images),
        "program": None,
        "grid": None,
    }
    if decoder is not False:
        try:
            found["program"] = _program(opened, latents[:1], force=bool(decoder)).data()
        except NotPlainError:
            if decoder:
                raise
    if found["program"] is None:
        found["grid"] = _grid(subject.decode, codes, axes[:2], places, spacing)
    return found


def latent_at(place: Tensor, codes: Tensor, axes: Tensor, places: Tensor, spacing: float) -> Tensor:
    """(M, D) latents for places (M, 2) on the map, as the page computes them.

    Near an image it is nearly the image's code; between images it changes smoothly.

    Args:
        place: (M, 2) positions.
        codes: (N, D) codes of the images.
        axes: (2, D), orthonormal.
        places: (N, 2), positions of the codes.
        spacing: distance over which weights fall.
    """
    far = torch.cdist(place, places).square() / spacing**2
    weights = 1 / (far + 1e-3).square()
    weights = weights / weights.sum(1, keepdim=True)
    return weights @ codes + (place - weights @ places) @ axes


def _directions(codes: Tensor) -> tuple[Tensor, Tensor]:
    """(K, D) principal directions of the codes, largest first, and (K,) standard deviations."""
    if len(codes) < 2 or float(codes.std(0).max()) < 1e-9:
        raise UserError("all held-out images have the same code: there is no map to show")
    centred = (codes - codes.mean(0)).double()
    _, values, vectors = torch.linalg.svd(centred, full_matrices=codes.shape[1] < 2)
    count = min(DIRECTIONS, codes.shape[1], len(values))
    axes, std = vectors[:count].float(), (values[:count] / math.sqrt(len(codes))).float()
    if count == 1:  # a map needs two directions; the second is 0
        axes, std = torch.cat([axes, torch.zeros_like(axes)]), torch.cat([std, torch.zeros(1)])
    # A fixed sign, so that equal runs give equal maps.
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes * torch.where(signs == 0, 1.0, signs), std


def _spacing(places: Tensor) -> float:
    """The median distance on the map from an image to its nearest neighbour."""
    apart = torch.cdist(places, places).fill_diagonal_(math.inf).min(1).values
    return max(float(apart.median()), 1e-6)


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


def _grid(
    decode: Callable[[Tensor], Tensor], codes: Tensor, axes: Tensor, places: Tensor, spacing: float
) -> dict[str, Any]:
    """Decodes images at the points of a grid over the map; returns one picture."""
    low, high = places.min(0).values, places.max(0).values
    margin = 0.04 * (high - low).clamp(min=1e-6)
    low, high = low - margin, high + margin
    x, y = (torch.linspace(float(low[i]), float(high[i]), GRID) for i in (0, 1))
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    images = decode(latent_at(place, codes, axes, places, spacing))
    sheet = images_in_rows(_pictures(images), GRID)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=QUALITY, method=4)
    return {
        "side": GRID,
        "low": _rounded(low),
        "high": _rounded(high),
        "picture": _address(buffer.getvalue(), "image/webp"),
    }


def _thumbnails(images: Tensor) -> str:
    pictures = _pictures(images)
    columns = math.ceil(math.sqrt(len(pictures)))
    return _address(png_of(images_in_rows(pictures, columns)), "image/png")


def _pictures(images: Tensor) -> list[Image.Image]:
    """Pictures for a browser: one, three or four channels; otherwise the first or first three."""
    channels = images.shape[1]
    if channels not in (1, 3, 4):
        images = images[:, : 3 if channels > 3 else 1]
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return [as_image(rearrange(image, "c h w -> h w c")) for image in pixels]


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _halves(values: Tensor) -> str:
    return base64.b64encode(values.half().numpy().tobytes()).decode("ascii")


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _bounds(bound: Any) -> list[float]:
    return list(bound) if isinstance(bound, tuple) else [bound]

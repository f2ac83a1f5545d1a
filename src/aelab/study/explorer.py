"""A latent space for a web page: codes of held-out images on a map, and what decodes them there.

The decoder itself goes into the page where its steps are plain and few enough; else a grid of
images that are decoded now, between which the page fades.
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

#: Held-out images on the map.
IMAGES = 240
#: A decoder goes into the page up to so many numbers (2 bytes each) and multiply-adds an image,
#: about 50 ms of plain JavaScript.
MOST_NUMBERS, MOST_MULTIPLY_ADDS = 1_000_000, 40_000_000
#: Images of the grid on a side, and the quality of its WebP picture.
GRID, QUALITY = 24, 88
#: Directions that have a slider, the two of the map among them.
DIRECTIONS = 10
#: Larger images are not shown.
LARGEST = 128


def explorer_of(
    opened: OpenedRun, *, decoder: bool | None = None, images: int = IMAGES
) -> dict[str, Any]:
    """What the page needs of one run, as plain data.

    Args:
        opened: the run.
        decoder: True: the decoder itself, False: the grid; None: the decoder where it can be.
        images: held-out images on the map.

    Returns:
        `codes` (N, D) as float16 in base64, `mean` and `axes` (K, D) of their principal
        directions with the standard deviations `std`, `map` positions (N, 2) in these
        directions, `spacing` between neighbours on the map, thumbnails as one picture, names and
        classes, and either `program` or `grid`.

    Raises:
        UserError: the run does not paint pictures, they are too large, or have one code only.
        DataError: the run has no validation set.
        NotPlainError: with `decoder=True`, the decoder has other steps.
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

    Near an image it is nearly the image's code; between images it goes from one to the other.

    Args:
        place: (M, 2).
        codes: (N, D).
        axes: (2, D), orthonormal.
        places: (N, 2), of the codes.
        spacing: distance at which weights fall.
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
    if count == 1:  # a map has two directions; the second stays 0
        axes, std = torch.cat([axes, torch.zeros_like(axes)]), torch.cat([std, torch.zeros(1)])
    # A sign of its own, so that equal runs give equal maps.
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes * torch.where(signs == 0, 1.0, signs), std


def _spacing(places: Tensor) -> float:
    """The median distance from an image to its nearest on the map."""
    apart = torch.cdist(places, places).fill_diagonal_(math.inf).min(1).values
    return max(float(apart.median()), 1e-6)


def _program(opened: OpenedRun, latent: Tensor, *, force: bool) -> Program:
    """The decoder's steps.

    Raises:
        NotPlainError: it has other steps, or too many.
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
    """Images decoded at the points of a grid over the map, as one picture."""
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
    """As a browser shows them: one, three or four channels; of others the first, or three."""
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

"""`aelab render`: renders images of a run at any size, next to plain enlargements."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from aelab.assembly.parts import located
from aelab.assembly.recorded import recorded_range
from aelab.data import freeze_images
from aelab.errors import ConfigError, UserError, one_of
from aelab.models import MODELS
from aelab.ops.augmented import floats
from aelab.ops.labels import labels_given
from aelab.ops.sampling import Region, look_up, same_borders
from aelab.ops.subset import show_order
from aelab.ops.value_range import UNIT, from_unit, to_unit
from aelab.outputs import write_output
from aelab.report.pictures import SheetRow, sheet
from aelab.study.inputs import labels_of
from aelab.tensor_pictures import picture_line, reproduce

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun
    from aelab.study.superresolution_score import Scores
    from aelab.types import Images, ValueRange

Split = Literal["train", "validation"]

#: Images of a sheet, and images rendered at a time.
SHOWN, BATCH = 8, 16
#: Least width of the images of a sheet, in pixels.
LEAST_WIDTH = 96
#: Largest height and width of a render.
LARGEST = 8192

_SIZE = re.compile(r"(\d+)(?:x(\d+))?")


@dataclass(frozen=True)
class Request:
    """Arguments of a rendering.

    Attributes:
        sizes: N or WxH, as text or numbers; empty: 2 and 4 times the size of the images.
        zoom: window in the decoder's coordinates; None: the whole image.
        images: number of images; None: 8 on a sheet, 200 for scores.
        split: `train` or `validation`.
        out: output folder.
        truth: also score against larger originals: True uses the run's own set at a larger size; a
            text is an expression for a data set.
    """

    sizes: tuple[str | int, ...] = ()
    zoom: Region | None = None
    images: int | None = None
    split: Split = "validation"
    out: Path = Path("renders")
    truth: bool | str = False


@dataclass(frozen=True)
class Rendered:
    """The written files and the scores of a rendering.

    Attributes:
        files: images, and `truth.csv` if there are scores.
        scores: one for each size, if larger originals were given.
    """

    files: tuple[Path, ...]
    scores: tuple[Scores, ...] = field(default=())


class Renderer(NamedTuple):
    """The part of a model that renders images at any size.

    Attributes:
        default_shape: (H, W) of the model's images.
        render: (latent (B, ...), (H, W), region) -> (B, C, H, W).
        value_range: values of black and white for the model.
    """

    default_shape: tuple[int, int]
    render: Callable[[Tensor, tuple[int, int], Region], Tensor]
    value_range: ValueRange = UNIT


def render_run(opened: OpenedRun, request: Request) -> Rendered:
    """Writes one sheet for each size: originals, enlarged reconstructions, and the render.

    Raises:
        ConfigError: the run's decoder has a fixed output size.
        UserError: invalid sizes, zoom or number of images.
    """
    decoder = renderer(opened, request)
    images = _images(opened, request.split)
    rows = show_order(len(images), images.labels)[: request.images or SHOWN]
    originals = to_unit(floats(images.pixels[rows]), images.value_range)
    labels = next((each[rows] for each in labels_of(opened, len(images), images)), None)
    sizes = [size_of(text, decoder.default_shape, request.zoom) for text in sizes_or(request)]
    files = []
    for size in dict.fromkeys(sizes):
        region = request.zoom or same_borders(decoder.default_shape, size)
        lines = _lines(opened.parts.model, decoder, originals, size, region, labels)
        files.append(write_sheet(request, opened, f"{size[1]}x{size[0]}", lines))
    return Rendered(tuple(files))


def renderer(opened: OpenedRun, request: Request) -> Renderer:
    """The renderer of a run's decoder; also checks the request.

    Raises:
        ConfigError: its output size is fixed; the message lists decoders that can render.
        UserError: an invalid split or number of images, or a window together with scores.
    """
    model = opened.parts.model
    decoder: Any = getattr(getattr(model, "module", model), "decoder", None)
    before: nn.Module = nn.Identity()
    if isinstance(decoder, nn.Sequential) and len(decoder) > 1:
        before, decoder = decoder[:-1], decoder[-1]
    if not _can_render(decoder):
        given = "has no decoder" if decoder is None else f"has a {type(decoder).__name__}"
        raise ConfigError(
            f"run {opened.run.folder} {given}, whose pictures have one size",
            hint=f"decoders that render any size: {one_of(_able())}",
        )

    def render(latent: Tensor, size: tuple[int, int], region: Region) -> Tensor:
        """Renders the region: (B, ...) -> (B, C, *size)."""
        images: Tensor = decoder.render(before(latent), size, tuple(region))
        return images

    _refuse(request)
    height, width = decoder.default_shape or opened.run.record["shape"][-2:]
    return Renderer((int(height), int(width)), render, recorded_range(opened.run.record))


def _able() -> set[str]:
    """The names of decoders that render any size, and of functions that return one."""
    able = {name for name, part in MODELS.items() if _can_render(part)}
    made = {
        name: getattr(part, "__annotations__", {}).get("return") for name, part in MODELS.items()
    }
    return able | {name for name, result in made.items() if result in able}


def _can_render(part: object) -> bool:
    return callable(getattr(part, "render", None))


@torch.no_grad()
def encode_and_render(
    model: nn.Module,
    decoder: Renderer,
    images: Tensor,
    size: tuple[int, int],
    region: Region,
    labels: Tensor | None = None,
) -> Tensor:
    """Encodes images (B, C, H, W) in 0..1, renders (B, C, *size), clamped to 0..1, on the CPU.

    `labels`: (B,), for models that ask for them.
    """
    device = next(model.parameters()).device
    parts = []
    for batch, known in zip(torch.split(images, BATCH), _parts(labels, len(images)), strict=True):
        given = from_unit(batch, decoder.value_range).to(device, copy=True)
        latent = model.encode(given, *labels_given(model, known))  # type: ignore[operator]
        made = decoder.render(latent, size, region).float()
        parts.append(to_unit(made, decoder.value_range).clamp(0, 1).cpu())
    return torch.cat(parts)


def reconstruct(
    model: nn.Module, images: Tensor, value_range: ValueRange, labels: Tensor | None = None
) -> Tensor:
    """Reconstructions of (B, C, H, W) images in 0..1, clamped to 0..1, on the CPU.

    `labels`: (B,), for models that ask for them.
    """
    batches = zip(torch.split(images, BATCH), _parts(labels, len(images)), strict=True)
    made = [reproduce(model, batch, value_range, known) for batch, known in batches]
    return torch.cat(made).clamp(0, 1)


def _parts(labels: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """The labels of each batch of `count` images."""
    return [None] * -(-count // BATCH) if labels is None else torch.split(labels, BATCH)


def _lines(
    model: nn.Module,
    decoder: Renderer,
    images: Tensor,
    size: tuple[int, int],
    region: Region,
    labels: Tensor | None,
) -> list[SheetRow]:
    made = reconstruct(model, images, decoder.value_range, labels)
    return [
        picture_line("original", look_up(images, size, region, "nearest"), original=True),
        picture_line("reconstruction", look_up(made, size, region, "nearest")),
        picture_line("its bicubic enlargement", look_up(made, size, region, "bicubic")),
        picture_line(
            f"render {size[1]}x{size[0]}",
            encode_and_render(model, decoder, images, size, region, labels),
        ),
    ]


def write_sheet(request: Request, opened: OpenedRun, title: str, lines: Sequence[SheetRow]) -> Path:
    """Writes a sheet as PNG into the output folder, named after the run."""
    width = lines[0].images[0].width
    content = sheet(lines, scale=max(1, -(-LEAST_WIDTH // width)))
    path = request.out / f"{opened.run.folder.replace('/', '_')}-{title}.png"
    return write_output(path, content)


def sizes_or(request: Request) -> tuple[str | int, ...]:
    """The requested sizes; by default 2 and 4 times the size of the images."""
    return request.sizes or ("2x", "4x")


def size_of(text: str | int, shape: tuple[int, int], zoom: Region | None = None) -> tuple[int, int]:
    """The size (height, width) of a render, from its text.

    Args:
        text: `64` (width; the height follows from the aspect), `96x64` (width x height), or `2x`
            (multiple of the images' size).
        shape: (H, W) of the model's images.
        zoom: the window shown, whose aspect is used.

    Raises:
        UserError: not a size, or a side of more than 8,192 pixels.
    """
    written = str(text).strip().lower()
    times = re.fullmatch(r"(\d+)x", written)
    found = _SIZE.fullmatch(written)
    if times:
        size = shape[0] * int(times[1]), shape[1] * int(times[1])
    elif found and found[2]:
        size = int(found[2]), int(found[1])
    elif found:
        aspect = shape[0] / shape[1]
        if zoom is not None:
            aspect *= (zoom.y1 - zoom.y0) / (zoom.x1 - zoom.x0)
        size = max(1, round(int(found[1]) * aspect)), int(found[1])
    else:
        size = 0, 0
    if not 1 <= min(size) <= max(size) <= LARGEST:
        raise UserError(
            f"'{text}' is not a size to render; possible: 1 to {LARGEST:,} pixels per side",
            hint="write --resolution 64 for 64 pixels of width, 96x64 for width x height, "
            "or 2x for twice the images' own size",
        )
    return size


def region_of(text: str | Sequence[float]) -> Region:
    """`x0,y0,x1,y1` as a region: -1 is the centre of the first pixel, 1 that of the last.

    Raises:
        UserError: not four finite numbers with x0 < x1 and y0 < y1.
    """
    try:
        x0, y0, x1, y1 = map(float, text.split(",") if isinstance(text, str) else text)
        region = Region(x0, y0, x1, y1)
        good = all(map(math.isfinite, region)) and x0 < x1 and y0 < y1
    except (TypeError, ValueError):
        good = False
    if not good:
        shown = text if isinstance(text, str) else ",".join(map(str, text))
        raise UserError(
            f"--zoom {shown}: a window is x0,y0,x1,y1 with x0 < x1 and y0 < y1",
            hint="-1,-1,1,1 is the whole picture, 0,0,1,1 its lower right quarter",
        )
    return region


def _refuse(request: Request) -> None:
    """Raises for mistakes in a request that can be found without data."""
    if request.split not in ("train", "validation"):
        raise UserError(f"no split '{request.split}'; possible: train, validation")
    if request.images is not None and request.images < 1:
        raise UserError(f"--images {request.images}: at least one")
    if request.truth and request.zoom is not None:
        raise UserError("--zoom shows a part of the picture, and --truth compares all of it",
                        hint="leave one of them out")  # fmt: skip


def _images(opened: OpenedRun, split: Split) -> Images:
    """The run's first training or validation set, with its random changes applied once."""
    sets = opened.parts.train if split == "train" else opened.parts.validation
    if not sets:
        raise UserError(f"run {opened.run.folder} has no {split} set", hint="--split train")
    with located(sets[0].where):
        return freeze_images(sets[0].dataset.load())

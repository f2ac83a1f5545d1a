"""Scores renders against larger originals, and compares them with bicubic enlargements.

larger originals -> mean over pixels -> small originals -> encode -> render at the larger size
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aelab.config.blocks import evaluate_block
from aelab.data import freeze_images
from aelab.data.rows import take_rows
from aelab.errors import ConfigError, DataError, ShapeError
from aelab.ops.augmented import floats
from aelab.ops.color import convert_channels
from aelab.ops.resize import resize
from aelab.ops.sampling import look_up, same_borders
from aelab.ops.subset import DRAWN, draw_order, said, show_order
from aelab.ops.value_range import to_unit
from aelab.outputs import write_output
from aelab.study.inputs import described_set, labels_of, scope_of, set_of_block
from aelab.study.rendering import (
    SHOWN,
    Rendered,
    Request,
    encode_and_render,
    reconstruct,
    renderer,
    size_of,
    write_sheet,
)
from aelab.tensor_pictures import picture_line

if TYPE_CHECKING:
    from aelab.data import Dataset
    from aelab.study.opened import OpenedRun

#: Images that are scored by default.
SCORED = 200
#: Errors below this count as rounding; it limits the PSNR to 100 dB.
LEAST_L2 = 1e-10

#: Compared images: the render, and enlargements that use the same or more information.
RENDER = "render"
OF_RECONSTRUCTION = "bicubic of the reconstruction"
OF_ORIGINAL = "bicubic of the small original"
PICTURES = (RENDER, OF_RECONSTRUCTION, OF_ORIGINAL)

Size = tuple[int, int]


@dataclass(frozen=True)
class Errors:
    """Errors of one kind of image; each (B,), mean over channels and pixels."""

    l1: Tensor
    l2: Tensor

    @property
    def psnr(self) -> Tensor:
        """PSNR, (B,) dB, for values in 0..1; at most 100."""
        return -10 * self.l2.clamp(min=LEAST_L2).log10()


@dataclass(frozen=True)
class Scores:
    """Scores at one size against the originals of that size.

    Attributes:
        size: (height, width).
        errors: kind of image (see `PICTURES`) -> its errors.
        total: images in the set, of which these may be a draw; 0 if unknown.
    """

    size: Size
    errors: dict[str, Errors]
    total: int = 0

    def wins_over(self, other: str) -> float:
        """Share of images, 0..1, whose render has a lower L2 than the other kind."""
        return float((self.errors[RENDER].l2 < self.errors[other].l2).float().mean())


def score_run(opened: OpenedRun, request: Request) -> Rendered:
    """Scores renders at each size against larger originals; writes sheets and `truth.csv`.

    Raises:
        ConfigError: the run's decoder has a fixed output size.
        UserError: invalid sizes or number of images.
    """
    decoder = renderer(opened, request)
    count = request.images or SCORED
    large, sizes, total, labels = larger_originals(opened, decoder.default_shape, request, count)
    small = resize(large, decoder.default_shape, "area")
    model = opened.parts.model
    made = reconstruct(model, small, decoder.value_range, labels)
    files, scores = [], []
    for size in sizes:
        region = same_borders(decoder.default_shape, size)
        true = resize(large, size, "area")
        pictures = {
            RENDER: encode_and_render(model, decoder, small, size, region, labels),
            OF_RECONSTRUCTION: look_up(made, size, region),
            OF_ORIGINAL: look_up(small, size, region),
        }
        found = {name: picture_errors(picture, true) for name, picture in pictures.items()}
        scores.append(Scores(size, found, total))
        shown = {"original": look_up(small, size, region, "nearest"), "true original": true,
                 **{name: pictures[name] for name in reversed(PICTURES)}}  # fmt: skip
        lines = [picture_line(name, images[:SHOWN]) for name, images in shown.items()]
        files.append(write_sheet(request, opened, f"truth-{size[1]}x{size[0]}", lines))
    path = request.out / f"{opened.run.folder.replace('/', '_')}-truth.csv"
    files.append(write_output(path, _csv(scores)))
    return Rendered(tuple(files), tuple(scores))


def picture_errors(pictures: Tensor, true: Tensor) -> Errors:
    """L1 and L2 of each image; both arguments (B, C, H, W)."""
    off = pictures - true
    return Errors(off.abs().mean(dim=(1, 2, 3)), off.square().mean(dim=(1, 2, 3)))


def larger_originals(
    opened: OpenedRun, shape: Size, request: Request, count: int
) -> tuple[Tensor, list[Size], int, Tensor | None]:
    """Larger originals (B, C, H, W) in 0..1, the sizes to compare at, and the size of their set.

    Also their labels (B,), for a model that asks for them; else None.

    If the set has more than `count`, they are a random draw, balanced over classes. The first of
    them, one of each class in turn, are shown on a sheet.

    Raises:
        ShapeError: sizes that are not multiples of the small one, or do not divide the largest.
        DataError: the stored images are not larger than those of the run.
    """
    channels = int(opened.run.record["shape"][0])
    if isinstance(request.truth, str):
        dataset = described_set(opened, request.truth, "--truth-set")
        sizes = _sizes(request, shape) or [s for s in _times(shape) if _fits(s, dataset.shape[1:])]
        sizes = sizes or [(dataset.shape[1], dataset.shape[2])]
    else:
        sizes = _sizes(request, shape)
        dataset = _written_larger(opened, request, (channels, *shape), sizes or _times(shape))
        sizes = sizes or [s for s in _times(shape) if _fits(s, dataset.shape[1:])]
    for size in sizes:
        if not (_fits(shape, size) and size != shape and _fits(size, dataset.shape[1:])):
            height, width = dataset.shape[1:]
            raise ShapeError(
                f"renders of {size[1]}x{size[0]} cannot be compared: the small images are "
                f"{shape[1]}x{shape[0]}, the true ones {width}x{height}",
                hint="a size must be a whole multiple of the small one and divide the true one",
            )
    found = dataset.load()
    rows = draw_order(len(found), found.labels)[:count]
    if found.labels is not None:
        rows = rows[show_order(len(rows), found.labels[rows])]
    images = freeze_images(take_rows(found, rows))
    unit = to_unit(floats(images.pixels), images.value_range)
    labels = next(iter(labels_of(opened, len(images), images)), None)
    return convert_channels(unit, channels), sorted(sizes), len(found), labels


def _sizes(request: Request, shape: Size) -> list[Size]:
    return list(dict.fromkeys(size_of(text, shape) for text in request.sizes))


def _times(shape: Size) -> list[Size]:
    return [(shape[0] * times, shape[1] * times) for times in (2, 4)]


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether the large size is the same whole multiple of the small one in both directions."""
    times = large[0] // small[0]
    return times >= 1 and (small[0] * times, small[1] * times) == tuple(large)


def _written_larger(
    opened: OpenedRun, request: Request, shape: tuple[int, int, int], sizes: list[Size]
) -> Dataset:
    """The run's own set with a larger shape in `globals`; the largest that needs no enlargement."""
    refused = None
    for size in sorted(sizes, reverse=True)[: 1 if request.sizes else None]:
        dataset = _with_shape(opened, request, shape, (shape[0], *size))
        refused = enlargement(dataset)
        if refused is None:
            return dataset
    raise DataError(
        f"run {opened.run.folder}: there are no larger originals ({refused} would be an "
        "enlargement)",
        hint="give a set that has them: --truth-set 'kali_dataset((1, 128, 128), size=200)'",
    )


def enlargement(dataset: Dataset) -> str | None:
    """The first step of a data set that enlarges images beyond their stored size.

    Reads headers of image files, no pixels.

    Returns:
        For instance `rpg: 32x32 to 64x64`; None if every stored image is large enough.
    """
    height, width = dataset.item_shape()[-2:]
    source, before = dataset.source, dataset.before
    parts = (before,) if before is not None else source.parts
    stored = () if before is not None else source.stored_shapes()
    shapes = itertools.chain(stored, (part.item_shape() for part in parts))
    small = next((s[-2:] for s in shapes if s[-2] < height or s[-1] < width), None)
    if small is not None:
        return f"{dataset.name}: {small[1]}x{small[0]} to {width}x{height}"
    found = (enlargement(part) for part in parts)
    return next((step for step in found if step is not None), None)


def _with_shape(
    opened: OpenedRun, request: Request, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> Dataset:
    """Evaluates the block of the data set with another value of the global that has the shape."""
    scope, found = scope_of(opened), False
    for key, block in opened.spec.blocks.items():
        if key.startswith("globals."):
            value = evaluate_block(block, scope)
            if isinstance(value, (tuple, list)) and tuple(value) == shape:
                value, found = wanted, True
            scope.define(key.removeprefix("globals."), value)
    dataset = set_of_block(scope, opened.spec.blocks[f"{request.split}_set"])
    if not found or dataset.shape != wanted:
        raise ConfigError(
            f"run {opened.run.folder}: its {request.split}_set does not use a global with the "
            f"shape {shape}, so it cannot be read at {wanted[2]}x{wanted[1]}",
            hint="write SHAPE in globals and use it, or give the larger originals: --truth-set "
            "'kali_dataset((1, 128, 128), size=200)'",
        )
    return dataset


def scores_table(scores: tuple[Scores, ...]) -> str:
    """A Markdown table of means and standard deviations, one row for each size and kind."""
    rows = ["| size | picture | PSNR, dB | L2 | L1 | the render is better |",
            "|:--|:--|--:|--:|--:|--:|"]  # fmt: skip
    for score in scores:
        for name, found in score.errors.items():
            values = (_spread(found.psnr, 2), _spread(found.l2, 5), _spread(found.l1, 5))
            wins = "" if name == RENDER else f"{100 * score.wins_over(name):.0f} % of images"
            size = f"{score.size[1]}x{score.size[0]}"
            rows.append(f"| {' | '.join((size, name, *values, wins))} |")
    if scores and scores[0].total:
        count = len(scores[0].errors[RENDER].l2)
        rows += ["", f"over {said(count, scores[0].total)}" + DRAWN * (count < scores[0].total)]
    return "\n".join(rows)


def _spread(values: Tensor, digits: int) -> str:
    spread = float(values.std()) if len(values) > 1 else math.nan
    return f"{float(values.mean()):.{digits}f} ± {spread:.{digits}f}"


def _csv(scores: list[Scores]) -> str:
    """A CSV table with one row for each image, size and kind."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["size", "picture", "image", "psnr_db", "l2", "l1"])
    for score in scores:
        for name, found in score.errors.items():
            table = torch.stack([found.psnr, found.l2, found.l1], 1).tolist()
            for number, values in enumerate(table):
                size = f"{score.size[1]}x{score.size[0]}"
                writer.writerow([size, name, number, *(f"{value:.6g}" for value in values)])
    return out.getvalue()

"""Figures of several runs, with one row of images for each, to compare settings by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.errors import AelabError, DataError, UserError, did_you_mean, one_of
from aelab.metrics import flat
from aelab.metrics.distances import draw_images
from aelab.metrics.paths import linear_path
from aelab.report.pictures import SheetRow, sheet
from aelab.report.series import labels
from aelab.study.evaluation import subject_of
from aelab.study.figures.sheets import pairs_of, scale_of
from aelab.study.figures.stored import write_figure_file
from aelab.study.figures.table import FigureFile
from aelab.study.text_options import read_options
from aelab.tensor_pictures import picture_line

if TYPE_CHECKING:
    from aelab.metrics import Subject
    from aelab.runs.record import Run
    from aelab.study.opened import OpenedRun


def reproductions_row(subject: Subject, count: int = 12) -> Tensor:
    """Reproductions of held-out images, one of each class in turn.

    Args:
        count: images a row.
    """
    return subject.reconstructions[subject.shown[:count]]


def samples_row(subject: Subject, sampler: str = "auto", count: int = 12) -> Tensor:
    """Sampled images; runs with equal latent shapes and seeds decode the same draws of the prior.

    Args:
        sampler: as of the figure `sample`.
        count: images a row.
    """
    return draw_images(subject, sampler, count)


def interpolation_row(subject: Subject, steps: int = 12, pair: int = 0) -> Tensor:
    """A linear interpolation between the codes of two held-out images of different classes.

    Args:
        steps: images a row, both ends included.
        pair: index of the pair.
    """
    pairs = pairs_of(subject, pair + 1)
    if not pairs:
        raise DataError("there is only one held-out image; an interpolation needs two")
    first, second = pairs[-1]
    codes = flat(subject.latents)
    return subject.decode(linear_path(codes[first], codes[second], steps))


#: Figures of several runs; for a single run the figure of the same name shows more.
TOGETHER: dict[str, Callable[..., Tensor]] = {
    "reproductions": reproductions_row,
    "interpolation": interpolation_row,
    "sample": samples_row,
}


def draw_together(
    name: str,
    references: Sequence[tuple[Run, str]],
    open_run: Callable[[str], OpenedRun],
    out: Path,
    options: Mapping[str, Any],
    limit: int,
    left_out: list[str] | None = None,
) -> Path:
    """Draws one sheet of several runs, see `Lab.figure_together`.

    Args:
        name: of `TOGETHER`.
        references: runs, each with its reference, RUN or RUN@state.
        open_run: opens a reference.
        out: file to write.
        options: keyword arguments of the figure.
        limit: at most this many held-out images.
        left_out: filled with messages about runs that cannot be opened; None: raise instead.

    Raises:
        AelabError: none of the runs can be opened.
        UserError: no such figure of several runs, or no such option.
        DataError: the runs were validated with images of different sizes.
    """
    if name not in TOGETHER:
        raise UserError(
            f"the figure '{name}' shows one run{did_you_mean(name, TOGETHER)}",
            hint=f"figures of several runs: {one_of(TOGETHER)}",
        )
    given = dict(options)
    read_options(f"the figure '{name}'", TOGETHER[name], given)
    lines: list[SheetRow] = []
    originals: Tensor | None = None
    scale = 1
    names = labels([run for run, _ in references])[1]
    for label, (_, reference) in zip(names, references, strict=True):
        try:
            subject = subject_of(open_run(reference), limit=limit, every_class=True)
        except AelabError as error:
            if left_out is None or len(references) == 1:
                raise
            left_out.append(f"{reference}: left out: {error}")
            continue
        images = TOGETHER[name](subject, **given)
        if name == "reproductions":
            shown = subject.images[subject.shown[: len(images)]]
            if originals is None or not torch.equal(originals, shown):
                lines.append(picture_line("original", shown, subject.medium, original=True))
            originals = shown
        line = picture_line(label, images, subject.medium)
        if lines and lines[0].images[0].size != line.images[0].size:
            raise DataError(
                f"the images of {reference} are {images.shape[-1]}x{images.shape[-2]}, those of "
                "the other runs are not: they cannot be on one sheet",
                hint="choose runs of one size with --only",
            )
        lines.append(line)
        scale = scale_of(subject)
    if not lines:
        raise UserError("none of these runs can be opened", hint="\n  ".join(left_out or []))
    return write_figure_file(FigureFile(sheet(lines, scale=scale), ".png"), out)

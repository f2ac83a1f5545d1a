"""Errors of stored runs by spatial frequency, on their held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from aelab.assembly.workspace import Workspace
from aelab.losses import l1, l2, ssim
from aelab.metrics import error_by_frequency
from aelab.report.frequency import Spectrum, spectra_figure
from aelab.report.series import labels
from aelab.runs.find import Only, Sources, find_runs
from aelab.study.evaluation import subject_of
from aelab.study.reopen import reopen_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aelab.metrics import FrequencyError
    from aelab.runs.record import Run
    from aelab.study.opened import OpenedRun


class Measured(NamedTuple):
    """The errors of one run.

    Attributes:
        run: which.
        l1, l2, ssim: means over the held-out images; `ssim` as similarity, 1 is equal.
        by_frequency: the squared error by spatial frequency.
        images, total: number of held-out images used (drawn at random), and in the set.
    """

    run: Run
    l1: float
    l2: float
    ssim: float
    by_frequency: FrequencyError
    images: int
    total: int


def frequency_errors(
    sources: Sources = (),
    workspace: Workspace | None = None,
    *,
    only: Only = None,
    state: str = "latest",
    limit: int = 1_000,
) -> list[Measured]:
    """Errors of stored runs on images from their validation sets, in evaluation mode.

    Args:
        sources: experiment files, run folders or globs; empty means every stored run.
        workspace: folder of the runs; `runs/` by default.
        only: glob that a run's name must match, or several: one of them must.
        state: `latest`, `best`, or images seen.
        limit: at most this many images per run.

    Raises:
        UserError: no such run.
        StoreError: no such state.
        DataError: a run without validation set.
    """
    workspace = workspace or Workspace()
    return [
        _measure(reopen_run(f"{run.folder}@{state}", workspace), limit)
        for run in find_runs(sources, workspace.store, only=only)
    ]


def frequency_figure(measured: Sequence[Measured]) -> Figure:
    """A figure of error and transfer by spatial frequency, one line for each run."""
    _, names = labels([entry.run for entry in measured])
    lines = [
        Spectrum(
            name,
            entry.by_frequency.frequency.tolist(),
            entry.by_frequency.relative.tolist(),
            entry.by_frequency.transfer.tolist(),
        )
        for name, entry in zip(names, measured, strict=True)
    ]
    return spectra_figure(lines)


def _measure(opened: OpenedRun, limit: int) -> Measured:
    # Small chunks: an implicit decoder needs much memory for each image.
    subject = subject_of(opened, limit=limit, train_limit=0, chunk_images=64)
    output, target = subject.reconstructions, subject.images
    return Measured(
        opened.run,
        l1(output, target).mean().item(),
        l2(output, target).mean().item(),
        1 - ssim(output, target).mean().item(),
        error_by_frequency(output, target),
        len(target),
        subject.heldout_total,
    )

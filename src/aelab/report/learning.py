"""Sentences on the number of passes over the data, and on images that still improve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aelab.analysis.forecast import longer, run_forecast
from aelab.analysis.passes import run_passes
from aelab.errors import DataError, StoreError
from aelab.report.pictures import image_width, open_row, originals, steps
from aelab.report.series import labels
from aelab.runs.record import Run

#: An image still improves if its error falls by this share between the last two moments.
LEARNS = 0.01


@dataclass(frozen=True)
class Learning:
    """The sentences on one run.

    Attributes:
        number: position of the run.
        name: as in the table.
        sentences: in order.
    """

    number: int
    name: str
    sentences: list[str]


def learning(runs: Sequence[Run]) -> list[Learning]:
    """Where each run goes, and what its passes brought if there were two or more."""
    found = []
    for number, (run, name) in enumerate(zip(runs, labels(runs)[1], strict=True)):
        try:
            passes = run_passes(run)
            there, ahead = run_forecast(run), longer(run)
        except StoreError:  # the table reports the damage
            continue
        sentences = [f"It {there.words()}."] if there.is_told else []
        sentences += passes.words() if passes else []
        if passes and (still := still_learning(run)) is not None:
            improving, count, since = still
            sentences.append(
                f"{improving} of {count} shown held-out images still improved since {since:,} "
                "images."
            )
        if ahead.is_told and not ahead.is_wide:
            sentences.append(
                "With twice as many images, under a schedule twice as long, it would end "
                f"{ahead.place}."
            )
        if not sentences:
            continue
        found.append(Learning(number, name, sentences))
    return found


def still_learning(run: Run) -> tuple[int, int, int] | None:
    """(images that still improve, images shown, images trained on at the earlier moment).

    Compares the mean absolute error of each stored reproduction with that of an earlier moment, at
    least a quarter of the run before, because pictures are stored ever more rarely. None if there
    are not two such moments.
    """
    first, stored = originals(run, "heldout"), steps(run, "heldout")
    if first is None or len(stored) < 2:
        return None
    last = max(stored)
    before = [moment for moment in stored if 0 < moment <= 0.75 * last]
    if not before:
        return None
    try:
        width = image_width(run, open_row(first).size)
        told, then, now = (
            np.asarray(open_row(path).convert("RGB"), dtype=float)
            for path in (first, stored[before[-1]], stored[last])
        )
    except (DataError, OSError):
        return None
    if not told.shape == then.shape == now.shape:
        return None
    count = told.shape[1] // width
    errors = [
        np.abs(shown - told)[:, : count * width].reshape(len(told), count, -1).mean((0, 2))
        for shown in (then, now)
    ]
    improved = int((errors[1] < (1 - LEARNS) * errors[0]).sum())
    return improved, count, before[-1]

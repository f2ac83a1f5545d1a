"""Distributes a limited time over the rows of a matrix, by their forecasts and seeds.

All rows are started. Then the rows that may still be the best continue, each round twice as far.
Decided rows wait, and are trained when nothing undecided is left. Nothing is deleted: a row keeps
its state and may continue at any time.

Source: the rounds are those of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943);
here a calibrated forecast decides which rows stay, not the rank, so that slow starters are kept.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from aelab.analysis.forecast import Forecast, Vector

#: Every row is first trained for this share of its images.
START = 0.05

#: Greatest share of the time spent before all rows have started.
START_TIME = 0.3

#: A row with a smaller probability of being the best counts as decided.
UNDECIDED = 0.05

#: A row that would stop beyond this share of its images is trained to its end.
NEARLY = 0.8

#: Number of draws from the forecasts.
_DRAWS = 2000

#: The best row is finished while this many times its remaining time is left.
_RESERVE = 1.2


@dataclass(frozen=True)
class Row:
    """One run of the matrix, with its progress.

    Attributes:
        setting: equal for runs that differ only in their seed.
        group: equal for runs whose losses compare.
        images, end: images so far, and at its end.
        rate: images per second; None if it was not trained yet.
        loss: the last loss of a finished run.
        forecast: forecast of an unfinished run.
        is_out: whether it cannot be trained: it failed, or other processes train it.
    """

    setting: Hashable
    group: Hashable
    images: int
    end: int
    rate: float | None = None
    loss: float | None = None
    forecast: Forecast = field(default_factory=lambda: Forecast("it has not begun"))
    is_out: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it has no further turn."""
        return self.is_out or self.images >= self.end

    def seconds_left(self, usual: float | None) -> float:
        """Seconds until its end; uses `usual` images per second if its own rate is not known."""
        rate = self.rate or usual
        return (self.end - self.images) / rate if rate else 0.0


class NextTurn(NamedTuple):
    """The next row to train, and its limits in images and in seconds, whichever is first."""

    row: int
    images: int
    seconds: float | None = None


def chances(rows: Sequence[Row]) -> list[float]:
    """The probability that each row's setting is the best of its group; NaN if not known.

    Several seeds of a setting count as their mean. Settings without a forecast are left out.
    """
    draws = np.random.default_rng(0).random((len(rows), _DRAWS))
    found = [math.nan] * len(rows)
    for group in {row.group for row in rows}:
        settings: dict[Hashable, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            if row.group == group and (row.loss is not None or row.forecast.is_told):
                settings[row.setting].append(number)
        if not settings:
            continue
        ends = np.stack(
            [
                np.mean([_ends(rows[number], draws[number]) for number in numbers], axis=0)
                for numbers in settings.values()
            ]
        )
        wins = np.bincount(ends.argmin(0), minlength=len(ends)) / _DRAWS
        for numbers, share in zip(settings.values(), wins, strict=True):
            for number in numbers:
                found[number] = float(share)
    return found


def next_turns(
    rows: Sequence[Row], seconds_left: float, *, least_seconds: float = 0.0, at_once: int = 1
) -> list[NextTurn]:
    """The rows to train in the next round, in order, with their numbers of images.

    Args:
        rows: all rows of the matrix.
        seconds_left: remaining seconds of the budget.
        least_seconds: least duration of a turn, because each has a cost for starting.
        at_once: number of rows trained at the same time.

    Returns:
        The turns in order; empty if nothing is left to train.
    """
    able = [number for number, row in enumerate(rows) if not row.is_done]
    if not able:
        return []
    rates = [row.rate for row in rows if row.rate]
    usual = float(np.median(rates)) if rates else None
    first = _first_seeds(rows)
    fresh = [number for number in able if number in first and rows[number].images == 0]
    if fresh:
        seconds = max(START_TIME * seconds_left * at_once / len(fresh), least_seconds)
        return [NextTurn(n, _until(rows[n], usual, least_seconds), seconds) for n in fresh]
    told = chances(rows)
    if (best := _to_finish(rows, told, seconds_left * at_once, usual)) is not None:
        return [NextTurn(best, rows[best].end)]
    order = sorted(able, key=lambda number: -_known(told[number]))
    open_settings = {
        (rows[number].group, rows[number].setting)
        for number in range(len(rows))
        if not rows[number].is_out and not told[number] < UNDECIDED
    }
    undecided = [
        number
        for number in order
        if (rows[number].group, rows[number].setting) in open_settings
        and (rows[number].images > 0 or number in first)
    ]
    if not undecided and _contested(rows, told):
        undecided = [n for n in order if (rows[n].group, rows[n].setting) in open_settings]
    chosen = undecided or order[:at_once]
    return [NextTurn(n, _until(rows[n], usual, least_seconds)) for n in chosen]


def _ends(row: Row, draws: Vector) -> Vector:
    """Draws of the final loss of a row by its forecast; constant for a finished one."""
    if row.loss is not None:
        return np.full(len(draws), row.loss)
    return row.forecast.ends(draws)


def _first_seeds(rows: Sequence[Row]) -> set[int]:
    """The first row of each setting that can be trained or was trained."""
    found: dict[Hashable, int] = {}
    for number, row in enumerate(rows):
        if not row.is_out:
            found.setdefault((row.group, row.setting), number)
    return set(found.values())


def _to_finish(
    rows: Sequence[Row], told: Sequence[float], seconds: float, usual: float | None
) -> int | None:
    """The best row of a group without a finished one, if it is time to finish it."""
    for group in dict.fromkeys(row.group for row in rows):
        own = [n for n, row in enumerate(rows) if row.group == group and not row.is_out]
        if any(rows[n].is_done for n in own):
            continue
        begun = [n for n in own if not math.isnan(told[n])]
        if not begun:
            continue
        best = max(begun, key=lambda n: (told[n], rows[n].images))
        needed = rows[best].seconds_left(usual)
        if needed <= seconds <= _RESERVE * needed:  # what cannot be finished any more is not begun
            return best
    return None


def _contested(rows: Sequence[Row], told: Sequence[float]) -> bool:
    """Whether a group has at least two settings that may still be the best."""
    open_by_group: dict[Hashable, set[Hashable]] = defaultdict(set)
    for row, chance in zip(rows, told, strict=True):
        if chance >= UNDECIDED:
            open_by_group[row.group].add(row.setting)
    return any(len(settings) > 1 for settings in open_by_group.values())


def _until(row: Row, usual: float | None, least_seconds: float) -> int:
    rate = row.rate or usual or 0.0
    images = max(2 * row.images, math.ceil(START * row.end), row.images + int(rate * least_seconds))
    return row.end if images > NEARLY * row.end else images


def _known(chance: float) -> float:
    """A sort key that puts unknown probabilities first: a little training makes them known."""
    return 1.1 if math.isnan(chance) else chance

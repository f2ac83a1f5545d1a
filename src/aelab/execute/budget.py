"""Trains a matrix within a time budget, in rounds over the rows that may still be the best.

`analysis.spending` chooses the rows; here they are trained in turns, from their stored states. A
row that is paused keeps everything. The same command, or one without a budget, continues it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.analysis.forecast import percent
from aelab.analysis.planned import plan_of
from aelab.analysis.spending import NextTurn, Row, chances, next_turns
from aelab.config import RunSpec
from aelab.errors import StoreError
from aelab.execute import events as ev
from aelab.execute.jobs import Engine, Job, Turn, first_record
from aelab.report.comparing import compare
from aelab.report.outlook import outlooks
from aelab.runs.record import Run, holds_a_run
from aelab.runs.store import Store

#: Least seconds of a turn, or this share of the budget per row: each turn has a start-up cost.
LEAST_SECONDS, LEAST_PART = 10.0, 0.25


def spend(
    engine: Engine,
    specs: Sequence[RunSpec],
    jobs: Sequence[Job],
    store: Store,
    seconds: float,
    stop: object,
    at_once: int = 1,
    trust: bool = False,
) -> Iterator[ev.Event]:
    """Trains jobs within a time budget; yields their events and, at the end, the state of each.

    Args:
        engine: where they are trained.
        specs: all runs of the matrix; the others are compared with the finished ones.
        jobs: the runs that can be trained.
        store: their folder.
        seconds: the budget.
        stop: true once a stop was requested.
        at_once: number of parallel jobs.
        trust: whether the runs are trusted, as stored in their records.
    """
    deadline = time.time() + seconds
    rows = _Rows(specs, jobs, store, trust)
    least = min(LEAST_SECONDS, LEAST_PART * seconds / max(len(jobs), 1))
    number = 0
    while not stop and (left := deadline - time.time()) > 0:
        now = rows.now()
        turns = next_turns(now, left, least_seconds=least, at_once=at_once)
        if not turns:
            break
        number += 1
        open_rows = sum(not row.is_done for row in now)
        yield ev.BudgetRound(number, [specs[turn.row].name for turn in turns], open_rows, left)
        yield from rows.train(engine, turns, deadline)
        if not rows.moved:
            break  # no progress: other processes hold the runs, or the time is over
    if not stop:
        yield from rows.left()


class _Rows:
    """The runs of a matrix, in the form that `analysis.spending` uses."""

    def __init__(
        self, specs: Sequence[RunSpec], jobs: Sequence[Job], store: Store, trust: bool
    ) -> None:
        self._specs, self._store = specs, store
        self._jobs = {job.spec.name: job for job in jobs}
        records = [first_record(spec, trust) for spec in specs]
        seeds = seed_keys(records)
        self._settings = [matrix_key(spec.matrix, without=seeds) for spec in specs]
        self._rates: dict[str, float] = {}
        self._out: set[str] = set()
        self._begun: set[str] = set()
        self.moved = False

    def now(self) -> list[Row]:
        """The current state of every run."""
        runs = [self._run(spec) for spec in self._specs]
        there = [run for run in runs if run is not None]
        ahead = outlooks(there)
        known = [run for run in there if run.record.get("objective")]
        groups = dict(zip((run.folder for run in known),
                          compare([run.record for run in known]).group, strict=True))  # fmt: skip
        by_setting = {
            setting: groups[spec.folder]
            for spec, setting in zip(self._specs, self._settings, strict=True)
            if spec.folder in groups
        }
        rows = []
        for spec, setting, run in zip(self._specs, self._settings, runs, strict=True):
            images = int(run.status.get("images") or 0) if run else 0
            finished = run is not None and run.state == "finished"
            end = images if finished else self._end(spec, run)
            row = Row(
                setting,
                groups.get(spec.folder, by_setting.get(setting, 0)),
                images,
                max(end, 1),
                self._rates.get(spec.name),
                _loss(run) if finished and run else None,
                is_out=not finished and (spec.name in self._out or spec.name not in self._jobs),
            )
            if run is not None and str(run.path) in ahead:
                row = replace(row, forecast=ahead[str(run.path)].forecast)
            rows.append(row)
        return rows

    def train(
        self, engine: Engine, turns: Sequence[NextTurn], deadline: float
    ) -> Iterator[ev.Event]:
        """Trains the turns of one round; yields their events."""
        todo = []
        for next_turn in turns:
            name = self._specs[next_turn.row].name
            turn = Turn(next_turn.images, deadline, next_turn.seconds, name in self._begun)
            todo.append(replace(self._jobs[name], turn=turn))
        started: dict[str, tuple[float, int]] = {}
        self.moved = False
        for event in engine.train(todo):
            match event:
                case ev.RunStarted(name=name, images=images):
                    started[name] = (time.monotonic(), images)
                    self._begun.add(name)
                case ev.RunStopped(name=name, images=images):
                    self._measure(name, images, started)
                    self.moved |= images > started.get(name, (0.0, 0))[1]
                    if event.for_good:
                        self._out.add(name)
                        self.moved = True
                    else:
                        continue  # it will continue: reported at the end
                case ev.RunFinished(name=name, images=images):
                    self._measure(name, images, started)
                    self.moved = True
                case ev.RunErred(name=name) | ev.RunSkipped(name=name):
                    self._out.add(name)
                    self.moved = True
            yield event

    def left(self) -> Iterator[ev.Event]:
        """One event for each unfinished row: its images and its forecast."""
        rows = self.now()
        for spec, row, chance in zip(self._specs, rows, chances(rows), strict=True):
            if row.is_done:
                continue
            told = f"at {row.images:,} of {row.end:,} images" if row.images else "not begun"
            if row.forecast.is_told:
                told += f", {row.forecast.words()}, chance {percent(chance)} of being the best"
            yield ev.RunStopped(spec.name, row.images, f"the budget is spent: {told}")

    def _measure(self, name: str, images: int, started: dict[str, tuple[float, int]]) -> None:
        """Measures images per second of wall time, with validations and the start of the turn."""
        if name in started:
            began, before = started[name]
            passed = time.monotonic() - began
            if images > before and passed > 0:
                self._rates[name] = (images - before) / passed

    def _run(self, spec: RunSpec) -> Run | None:
        path = self._store.path_of(spec.folder)
        with contextlib.suppress(StoreError):
            return Run.at(path, spec.folder) if holds_a_run(path) else None
        return None

    def _end(self, spec: RunSpec, run: Run | None) -> int:
        """Images at the end of a run; 1 if it ends by epochs and has not started, so is unknown."""
        if run is not None and (end := plan_of(run).end):
            return end
        return spec.settings.fit.max_images or 1


def _loss(run: Run) -> float | None:
    loss: Any = (run.status.get("last") or {}).get("loss")
    return float(loss) if isinstance(loss, int | float) and loss == loss else None

"""Follows runs that are trained elsewhere, by the files that they write to the shared folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aelab.errors import StoreError
from aelab.execute import events as ev
from aelab.execute.jobs import Job, Options, stopped_words
from aelab.findings import Finding
from aelab.runs.record import Run, holds_a_run
from aelab.runs.store import Store

#: Enough for the last row of a metrics file.
_TAIL_BYTES = 16_384


class Followed:
    """Runs that are trained elsewhere, and which events were reported of each.

    Args:
        jobs: the runs to follow.
        store: the folder of the runs, shared with the processes that train them.
        begun: when the jobs were placed, in seconds since 1970; older failures are ignored.
        threads: of each run.
    """

    def __init__(self, jobs: Sequence[Job], store: Store, begun: float, threads: int = 1) -> None:
        self._jobs = {job.spec.name: job for job in jobs}
        self._store = store
        self._begun, self._threads = begun, threads
        self._started: set[str] = set()
        self._images: dict[str, int] = {}

    @property
    def left(self) -> list[Job]:
        """Jobs that have not ended."""
        return list(self._jobs.values())

    @property
    def reached(self) -> tuple[int, int]:
        """Number of runs left, and sum of their images: unchanged if there is no progress."""
        return len(self._jobs), sum(self._images.values())

    def forget(self, name: str) -> bool:
        """Stops following a run whose end is known otherwise; returns whether it was followed."""
        return self._jobs.pop(name, None) is not None

    def look(self) -> Iterator[ev.Event]:
        """Yields the events since the last call."""
        for name, job in list(self._jobs.items()):
            with contextlib.suppress(StoreError):
                path = self._store.path_of(job.spec.folder)
                yield from self._of(name, job, Run.at(path, job.spec.folder))

    def _of(self, name: str, job: Job, run: Run) -> Iterator[ev.Event]:
        status = run.status
        state, images = run.state, int(status.get("images") or 0)
        if state == "running" and name not in self._started and "parameters" in run.record:
            self._started.add(name)
            elsewhere = f"{name} is trained by {status.get('host')}"
            yield ev.RunStarted(
                name,
                job.number,
                int(run.record["parameters"]["model"]),
                images,
                run.record.get("max_inputs"),
                threads=self._threads,
                findings=[Finding("note", "trained-elsewhere", elsewhere)],
            )
        if state == "running" and images and images != self._images.get(name):
            self._images[name] = images
            yield self._progress(name, run, images)
        if state == "finished":
            del self._jobs[name]
            loss = (status.get("last") or {}).get("loss")
            seconds, reason = float(status.get("seconds") or 0), str(status.get("reason") or "")
            yield ev.RunFinished(name, images, _number(loss), seconds, reason, run.path)
        ended = state == "interrupted" and _changed(run.path) >= self._begun
        if ended and (reason := stopped_words(run)):
            del self._jobs[name]
            yield ev.RunStopped(name, images, reason.removeprefix("stopped: "))
        if state == "failed" and _changed(run.path) >= self._begun:
            del self._jobs[name]
            error = status.get("error") or {}
            yield ev.RunErred(name, "\n  ".join(filter(None, (error.get("message"),
                                                              error.get("hint")))))  # fmt: skip

    def _progress(self, name: str, run: Run, images: int) -> ev.RunProgress:
        status = run.status
        limit, rate = status.get("max_inputs"), float(status.get("images_per_second") or 0)
        left = max(0, limit - images) / rate if limit and rate else None
        loss = _number(_last_row(run.path / "metrics.jsonl").get("loss"))
        return ev.RunProgress(
            name, images, limit, float("nan") if loss is None else loss, rate, left
        )


def begin_again(job: Job, store: Store, options: Options) -> None:
    """Applies `--restart` and `--retry-failed` once, before a run is placed on any machine.

    Raises:
        StoreError: another process trains the run.
    """
    path = store.path_of(job.spec.folder)
    if not holds_a_run(path):
        return
    run = Run.at(path, job.spec.folder)
    if options.restart:
        store.remove(run)
    elif run.state == "failed":
        with run.lock():
            run.set_status("interrupted")


def _last_row(path: Path) -> dict[str, Any]:
    """The last complete training row of a metrics file that may be being written."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        found = next(line for line in reversed(lines) if b'"train"' in line)
        row = json.loads(found)
        return row if isinstance(row, dict) else {}
    return {}


def _changed(path: Path) -> float:
    try:
        return (path / "status.json").stat().st_mtime
    except OSError:
        return 0.0


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None

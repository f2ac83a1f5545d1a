"""Estimates the remaining time of a matrix, updated with every event.

For a run in training it uses the run's own speed. A waiting run is assumed to take as long as those
known runs that share the most matrix values with it. The waiting runs are then assigned to the
first free place, as the engine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aelab.config import RunSpec
from aelab.execute import events as ev
from aelab.execute.jobs import Job


@dataclass
class _Known:
    """A run of this session: its start, and the estimate of its end."""

    spec: RunSpec
    began: float
    seconds_left: float | None = None
    took: float | None = None
    rate: float = 0.0


class Estimate:
    """The remaining time of a matrix.

    Args:
        jobs: runs to train.
        at_once: number of parallel runs.
        now: a clock in seconds.
    """

    def __init__(
        self, jobs: Sequence[Job], at_once: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.at_once = at_once
        self._now = now
        self._waiting = {job.spec.name: job.spec for job in jobs}
        self._known: dict[str, _Known] = {}
        self.total = len(jobs)

    @property
    def done(self) -> int:
        """Number of runs that have ended."""
        running = sum(known.took is None for known in self._known.values())
        return self.total - len(self._waiting) - running

    @property
    def images_per_second(self) -> float:
        """Speed of all runs in training together."""
        return sum(known.rate for known in self._known.values() if known.took is None)

    def note(self, event: ev.Event) -> None:
        """Updates the estimate with an event."""
        match event:
            case ev.RunStarted(name=name):
                spec = self._waiting.pop(name, None)
                if spec is not None:
                    self._known[name] = _Known(spec, self._now())
            case ev.RunProgress(name=name) if name in self._known:
                known = self._known[name]
                known.rate = event.images_per_second
                # The run's own estimate excludes validations: scale by wall time / training time.
                passed, share = self._now() - known.began, _share_of_training(event)
                slower = max(1.0, passed / share) if share > 0 else 1.0
                left = event.seconds_left
                known.seconds_left = None if left is None else left * min(slower, 3.0)
            case (
                ev.RunFinished(name=name)
                | ev.RunErred(name=name)
                | ev.RunInterrupted(name=name)
                | ev.RunStopped(name=name)
            ):
                self._waiting.pop(name, None)
                if name in self._known:
                    known = self._known[name]
                    known.took = self._now() - known.began
            case ev.RunSkipped(name=name):
                self._waiting.pop(name, None)
            case ev.RunRetried(name=name):
                self.at_once = event.jobs
                if name in self._known:
                    self._waiting[name] = self._known.pop(name).spec

    def seconds_left(self) -> float | None:
        """Estimated seconds until all runs have ended; None while nothing is known."""
        ends = []
        for known in self._known.values():
            if known.took is None:
                ends.append(self._guess(known.spec) if known.seconds_left is None
                            else known.seconds_left)  # fmt: skip
        if any(end is None for end in ends):
            return None
        busy = sorted(end for end in ends if end is not None)
        busy += [0.0] * (self.at_once - len(busy))
        for spec in self._waiting.values():
            guess = self._guess(spec)
            if guess is None:
                return None
            busy.sort()
            busy[0] += guess
        return max(busy, default=0.0)

    def _guess(self, spec: RunSpec) -> float | None:
        """Seconds of a whole run, from the most similar known runs."""
        whole = {
            name: known.took
            if known.took is not None
            else self._now() - known.began + (known.seconds_left or 0.0)
            for name, known in self._known.items()
            if known.took is not None or known.seconds_left is not None
        }
        if not whole:
            return None
        likeness = {name: _alike(spec, self._known[name].spec) for name in whole}
        most = max(likeness.values())
        nearest = [whole[name] for name, alike in likeness.items() if alike == most]
        return sum(nearest) / len(nearest)


def _share_of_training(event: ev.RunProgress) -> float:
    """Seconds of pure training so far; for a continued run including earlier sessions."""
    return event.images / event.images_per_second if event.images_per_second else 0.0


def _alike(one: RunSpec, other: RunSpec) -> int:
    """Number of matrix values that two runs have in common."""
    return sum(repr(value) == repr(other.matrix.get(key)) for key, value in one.matrix.items())

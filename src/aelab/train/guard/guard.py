"""Checks, called by the loop, whether losses and weights of its runs are finite and plausible.

It changes neither weights nor clock. It returns which run failed and why; the loop decides what to
do about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from aelab.errors import DivergedError
from aelab.train.guard.diagnosis import Evidence, broken_tensors, explained, raised_learnrate
from aelab.train.guard.explosion import hopeless, look
from aelab.train.horizon import Horizon
from aelab.train.optimizers import usual_learnrate


class Reading(NamedTuple):
    """The check of one run.

    Attributes:
        means: of the loss and its terms since the last log, by name; empty where none were summed.
        broken: what is not finite, in words; empty where all is finite.
    """

    means: dict[str, float]
    broken: str


@dataclass
class Peak:
    """The highest learning rate since the start or continuation, and the images at it."""

    learnrate: float = 0.0
    images: int = 0


@dataclass
class Guard:
    """Watches the K runs of a training.

    Attributes:
        evidence: one for each run.
        end: the counters of the runs at their end.
        peaks: highest learning rates, one for each run.
    """

    evidence: Sequence[Evidence]
    end: Horizon
    peaks: list[Peak] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.evidence[0].state
        self.peaks = [Peak() for _ in self.evidence]

    def before_batch(self) -> None:
        """Records the highest learning rates, for the message of a run that diverges."""
        for peak, member in zip(self.peaks, self.state.learner.members, strict=True):
            if member.learnrate > peak.learnrate:
                peak.learnrate, peak.images = member.learnrate, self.state.clock.images

    def read(self) -> list[Reading]:
        """Checks mean losses, weights and buffers of every run; waits for the device."""
        learner, window = self.state.learner, self.state.window
        means = window.means()
        numbers = learner.finite()[:, None]
        if means is not None:
            numbers = torch.cat([numbers.to(means.dtype), means], 1)
        readings = []
        for run, (finite, *values) in enumerate(numbers.tolist()):  # one transfer
            terms = dict(zip(window.names, values, strict=True)) if values else {}
            broken = non_finite_words(terms)
            # `finite` sums norms, and the norm of very large numbers overflows: check each tensor.
            if not broken and not finite:
                broken = "; ".join(broken_tensors(learner.members[run]))
            readings.append(Reading(terms, broken))
        return readings

    def failures(
        self, runs: Iterable[int], readings: Sequence[Reading] | None = None
    ) -> dict[int, DivergedError]:
        """The runs with losses or weights that are not finite, each with its error.

        Args:
            readings: of this moment; None: read now, which waits for the device.
        """
        readings = self.read() if readings is None else readings
        return {
            run: self._diverged(run, "training", readings[run].broken)
            for run in runs
            if readings[run].broken
        }

    def failed_validation(self, run: int, terms: dict[str, float]) -> DivergedError | None:
        """The error of a validation whose terms are not finite, or None."""
        broken = non_finite_words(terms)
        return self._diverged(run, "validation", broken) if broken else None

    def out_of_hand(self, run: int, terms: dict[str, float]) -> str:
        """The term of this validation that is far too high, or empty; see `explosion.look`."""
        return look(self.state, run, self.evidence[run].task.objective, terms)

    def hopeless(self, run: int, *, is_over: bool) -> DivergedError | None:
        """The error of a run whose losses are finite but far too high, or None.

        Args:
            is_over: the run is at its end; before, it gets time to recover.
        """
        task = self.evidence[run].task
        what = hopeless(self.state, run, task.objective, self.end, is_over=is_over)
        if not what:
            return None
        rise = self._raised_learnrate(run)
        return DivergedError(
            f"training diverged without a NaN: at {self.state.clock.images:,} images {what}"
            + (f"; {rise}" if rise else ""),
            hint=self._way_out(run),
        )

    def _diverged(self, run: int, where: str, what: str) -> DivergedError:
        clock, progress = self.state.clock, self.state.progress[run]
        last = "no finite loss was logged before"
        if progress.last_loss is not None:
            images = progress.last_loss_images
            last = f"last finite loss {progress.last_loss:.6g} at {images:,} images"
        error = DivergedError(
            f"{where} diverged between {clock.logged_at:,} and {clock.images:,} images: "
            f"{what}; {last}",
            hint=self._way_out(run),
        )
        return explained(error, self.evidence[run], self._raised_learnrate(run))

    def _raised_learnrate(self, run: int) -> str:
        peak, settings = self.peaks[run], self.evidence[run].task.settings
        return raised_learnrate(peak.learnrate, peak.images, settings)

    def _way_out(self, run: int) -> str:
        settings = self.evidence[run].task.settings
        sane = min(settings.learnrate / 3, usual_learnrate(settings.optimizer.name))
        ways = [f"learnrate: {sane:.2g} (was {settings.learnrate:g})"]
        if settings.gradient_clipping is None:
            ways.append("gradient_clipping: {norm: 1}")
        if settings.scheduler is None or "armup" not in settings.scheduler.name:
            ways.append("scheduler: {WarmupCosine: {warmup_images: 10_000}}")
        if self.state.learner.members[run].bfloat16:
            ways.append("precision: float32")
        advice = "try " + ", or ".join(ways)
        best = self.state.progress[run].best_images
        if best is None:
            return advice
        return f"{advice}; to start again from the best state ({best:,} images): load: RUN@best"


def non_finite_words(terms: dict[str, float]) -> str:
    """`l1 = nan, loss = nan`; empty where all are finite."""
    bad = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
    return ", ".join(bad)

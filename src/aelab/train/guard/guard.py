"""Checks, called by the loop, whether losses and weights of its runs are finite and plausible.

It returns which run failed and why. Where the settings have `on_nan`, it also keeps the latest
good states, and `mend` goes back to one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from aelab.errors import DivergedError
from aelab.train.events import Mended
from aelab.train.guard.diagnosis import (
    Evidence,
    broken_data,
    broken_tensors,
    explained,
    origin_in_evaluation,
    raised_learnrate,
)
from aelab.train.guard.explosion import exploded, look, reason_of_failure
from aelab.train.guard.finite import tensor_words
from aelab.train.guard.mending import Intervention, StateChange, change_at, in_force, is_skipped
from aelab.train.guard.replay import Found, broken_slots, named_growth, norms_of, replay_failure
from aelab.train.guard.ring import Kept
from aelab.train.horizon import Horizon
from aelab.train.optimizers import usual_learnrate


class Reading(NamedTuple):
    """The check of one run.

    Attributes:
        means: means of the loss and its terms since the last log, by name; empty without batches.
        broken: text on the numbers that are not finite; empty if all are finite.
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
        repeat: makes the next training step.
        peaks: highest learning rates, one for each run.
    """

    evidence: Sequence[Evidence]
    end: Horizon
    repeat: Callable[[], None]
    peaks: list[Peak] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.evidence[0].state
        self.peaks = [Peak() for _ in self.evidence]
        self.policy = self.evidence[0].task.settings.on_nan
        self.goes_on = self.policy.action != "stop"
        self._norms: dict[str, float] = {}

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
        self,
        runs: Iterable[int],
        readings: Sequence[Reading] | None = None,
        *,
        thorough: bool = False,
    ) -> dict[int, DivergedError]:
        """The runs with losses or weights that are not finite, each with its error.

        Args:
            readings: the present readings; None: read now, which waits for the device.
            thorough: whether growth and the optimiser's memory are checked too.
        """
        readings = self.read() if readings is None else readings
        broken = {
            run: readings[run].broken or self._far_off(run, readings[run], thorough) for run in runs
        }
        return {run: self._diverged(run, "training", what) for run, what in broken.items() if what}

    def _far_off(self, run: int, reading: Reading, thorough: bool) -> str:
        """Text on finite but far too large numbers; checked only if `on_nan` can react."""
        if not self.goes_on:
            return ""
        words = exploded(self.state, run, self.evidence[run].task.objective, reading.means)
        if not words and not thorough:
            return ""
        return self._grown(run) or words

    def _grown(self, run: int) -> str:
        """The optimiser's memory that is not finite, or a weight or statistic that grew far."""
        slots = broken_slots(self.state.learner.members[run])
        if slots:  # the weights would not change any more
            return tensor_words("a number of the optimiser", slots)
        tensors = self._watched(run)
        sizes = {name: tensor.numel() for name, tensor in tensors.items()}
        self._norms = norms_of(tensors)
        return self.state.ring.grown(self._norms, sizes)

    def _watched(self, run: int) -> dict[str, torch.Tensor]:
        """Weights and buffers by name, without empty ones."""
        member = self.state.learner.members[run]
        found = [*member.watched_weights(), *member.watched_buffers()]
        return {name: tensor.detach() for name, tensor in found if tensor.numel()}

    def keep_due(self) -> bool:
        """Whether the present state is to be kept, if it is sound."""
        clock = self.state.clock
        validated = clock.validated_at == clock.images
        return self.goes_on and self.state.ring.is_due(clock.batches, validated=validated)

    def keep(self) -> None:
        """Keeps the present state, which a thorough check has just found sound."""
        clock = self.state.clock
        kept = Kept(clock.images, clock.batches, self._norms, self.state.snapshot())
        self.state.ring.add(kept)

    def mend(self, error: DivergedError) -> Mended:
        """Goes back to a good state and changes the following steps, as `on_nan` says.

        Raises:
            DivergedError: no reaction is set or possible, or there were too many; with the same
                cause.
        """
        if not self.goes_on or not self.state.ring.states:
            raise error
        evidence, found_at = self.evidence[0], self.state.clock.images
        words, ways = broken_data(evidence)
        if words:  # going back does not repair images
            raise DivergedError("; ".join([error.message, *words]), hint="; ".join(ways))
        found = replay_failure(
            evidence,
            self.state.ring,
            self.repeat,
            origin_in_evaluation(evidence),
            error.what,
        )
        refused = self._refused(found)
        if refused:
            told = "; ".join(filter(None, [error.message, found.words, found.in_float64, refused]))
            raised = DivergedError(told, hint=error.hint)
            raised.incident = self._report(error, found, None)
            raise raised
        progress = self.state.progress[0]
        best = progress.best_loss, progress.best_images
        done = self._intervention(found, found_at)
        # The best state is on the disk and must not be replaced by a worse one.
        progress.best_loss, progress.best_images = best
        self.state.interventions.append(done)
        return Mended(self.state.clock.images, done, self._report(error, found, done))

    def _refused(self, found: Found) -> str:
        """The reason why no reaction is possible; empty if one is."""
        done, policy = self.state.interventions, self.policy
        if len(done) >= policy.times:
            return f"on_nan: {policy.action} acted {len(done)} times already"
        if policy.action == "skip" and found.images is None:
            return "no single batch did it, so that none can be skipped; rollback goes on"
        if policy.action == "skip" and is_skipped(done, found.images or 0):
            return "that batch was skipped already"
        return ""

    def _intervention(self, found: Found, found_at: int) -> Intervention:
        """Restores the state to continue from, and returns the intervention."""
        state, policy, ring = self.state, self.policy, self.state.ring
        before = change_at(state.interventions, found_at)
        if policy.action == "skip":
            assert found.images is not None
            state.restore(ring.newest.snapshot)
            return Intervention("skip", found.images, found_at, found.short, before)
        rollbacks = [each for each in in_force(state.interventions) if each.action == "rollback"]
        kept = ring.go_back(rollbacks[-1].images if rollbacks else None)
        state.restore(kept.snapshot)
        change = StateChange(
            before.factor * policy.lower_lr, policy.clip, before.float32 or policy.float32
        )
        return Intervention("rollback", kept.images, found_at, found.short, change)

    def _report(
        self, error: DivergedError, found: Found, done: Intervention | None
    ) -> dict[str, Any]:
        """All facts as plain data for the page of an incident."""
        return {
            "noticed": error.message,
            "cause": found.short,
            "where": found.words,
            "first_bad_batch_at": found.images,
            "in_float64": found.in_float64,
            "half_precision": found.half,
            "moved": found.moved,
            "grown": [list(row) for row in named_growth(found.moved)],
            "learnrate_raised": self._raised_learnrate(0),
            "advice": error.hint,
            "done": None if done is None else done.as_json(),
            "done_in_words": "the run ended as failed" if done is None else done.words(),
        }

    def failed_validation(self, run: int, terms: dict[str, float]) -> DivergedError | None:
        """The error of a validation whose terms are not finite, or None."""
        broken = non_finite_words(terms)
        return self._diverged(run, "validation", broken) if broken else None

    def out_of_hand(self, run: int, terms: dict[str, float]) -> str:
        """Text on a far too high term of this validation, else empty; see `explosion.look`."""
        return look(self.state, run, self.evidence[run].task.objective, terms)

    def failed_by_far(self, run: int, what: str) -> DivergedError | None:
        """The error of a validation with a far too high loss, if `on_nan` can react."""
        if not what or not self.goes_on:
            return None
        return self._diverged(run, "validation", self._grown(run) or what)

    def hopeless(self, run: int, *, is_over: bool) -> DivergedError | None:
        """The error of a run whose losses are finite but far too high, or None.

        Args:
            is_over: the run is at its end; before, it gets time to recover.
        """
        task = self.evidence[run].task
        what = reason_of_failure(self.state, run, task.objective, self.end, is_over=is_over)
        if not what:
            return None
        rise = self._raised_learnrate(run)
        error = DivergedError(
            f"training diverged without a NaN: at {self.state.clock.images:,} images {what}"
            + (f"; {rise}" if rise else ""),
            hint=self._way_out(run),
        )
        error.what = what
        return error

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
        error.what = what
        if self.goes_on:
            return error  # `mend` looks for the cause, step by step
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
    """Text `l1 = nan, loss = nan`; empty if all are finite."""
    bad = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
    return ", ".join(bad)

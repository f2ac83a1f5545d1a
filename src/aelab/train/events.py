"""The events that `fit` yields. `run`: index of the run among those trained together, from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aelab.errors import DivergedError
from aelab.findings import Finding
from aelab.train.guard.mending import Intervention


@dataclass(frozen=True)
class Logged:
    """Mean training losses since the last log.

    Attributes:
        images: images seen. seconds: training time. epoch: completed passes.
        terms: means per image: `loss`, which was minimised, and the unweighted terms by name;
            while weights still change also `loss_final`, the loss with the final weights.
        learnrate: of the first parameter group, at the latest batch.
    """

    images: int
    seconds: float
    epoch: int
    terms: dict[str, float]
    learnrate: float
    run: int = 0


@dataclass(frozen=True)
class Validated:
    """Validation losses; `is_best` when the loss is the lowest of the run so far.

    `terms`: as `evaluate` returns them. `findings`: problems although every number is finite.
    `is_judged`: whether the loss can be compared with those at the end of the run. It cannot
    while layers are still being added or the validation set will still change.
    """

    images: int
    seconds: float
    epoch: int
    terms: dict[str, float]
    is_best: bool
    findings: tuple[Finding, ...] = ()
    is_judged: bool = True
    run: int = 0


@dataclass(frozen=True)
class CheckpointDue:
    """A checkpoint is due by the settings; weights and losses were checked to be finite."""

    images: int
    run: int = 0


@dataclass(frozen=True)
class Finished:
    """The end of a run.

    `reason`: `max_images`, `max_epochs`, `min_loss`, or `stopped` (the run can be continued).
    """

    images: int
    reason: str
    run: int = 0


@dataclass(frozen=True)
class Failed:
    """A run diverged; the others continue without it. If it was the last, `fit` raises instead."""

    images: int
    error: DivergedError
    run: int


@dataclass(frozen=True)
class Mended:
    """Numbers stopped being finite, and `on_nan` reacted: the state is at `images` again.

    Earlier events about later images are no longer valid: their rows and states must be removed.

    Attributes:
        done: the reaction.
        report: all known facts, as plain data.
    """

    images: int
    done: Intervention
    report: dict[str, Any]
    run: int = 0


@dataclass(frozen=True)
class Halved:
    """Memory did not suffice: from now on batches are computed in parts of `micro_batch` images."""

    images: int
    micro_batch: int
    run: int = 0


@dataclass(frozen=True)
class ValidationHalved:
    """Memory did not suffice: from now on validations take `batch` images at once."""

    images: int
    batch: int
    run: int = 0


Event = Logged | Validated | CheckpointDue | Finished | Failed | Mended | Halved | ValidationHalved

"""What `fit` yields. `run` says of which of the runs that train together, from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aelab.errors import DivergedError


@dataclass(frozen=True)
class Logged:
    """Mean training losses since the last log.

    Attributes:
        images: images seen. seconds: training time. epoch: completed passes.
        terms: `loss`, what was minimised, and the unweighted terms by name, weighted by image;
            while weights change also `loss_final`, the same with the weights of the end.
        learnrate: of the first parameter group, at the latest batch.
    """

    images: int
    seconds: float
    epoch: int
    terms: dict[str, float]
    learnrate: float
    run: int = 0


class Warned(NamedTuple):
    """Something wrong with a run that goes on.

    Attributes:
        name: what it is called, the same each time.
        message: what was measured, and where.
        hint: what to type or change.
    """

    name: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}; {self.hint}"


@dataclass(frozen=True)
class Validated:
    """Validation losses; `is_best` when the loss is the lowest of the run so far.

    `terms`: as `evaluate` returns them. `warnings`: what is wrong although every number is finite.
    `is_judged`: whether the loss compares with those at the end of the run: not while layers are
    still taken into use or the validation set is yet to change.
    """

    images: int
    seconds: float
    epoch: int
    terms: dict[str, float]
    is_best: bool
    warnings: tuple[Warned, ...] = ()
    is_judged: bool = True
    run: int = 0


@dataclass(frozen=True)
class CheckpointDue:
    """The settings ask for a checkpoint now; weights and losses are known to be finite."""

    images: int
    run: int = 0


@dataclass(frozen=True)
class Finished:
    """The end. `reason`: `max_images`, `max_epochs`, `min_loss` or `stopped` (can be continued)."""

    images: int
    reason: str
    run: int = 0


@dataclass(frozen=True)
class Failed:
    """A run diverged and is left out; others go on. The error of the last one is raised instead."""

    images: int
    error: DivergedError
    run: int


Event = Logged | Validated | CheckpointDue | Finished | Failed

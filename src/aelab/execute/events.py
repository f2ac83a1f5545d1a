"""Events of a running matrix, as plain records for displays and counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aelab.findings import Finding


@dataclass(frozen=True)
class MatrixStarted:
    """First event: the runs of the matrix.

    Attributes:
        names: every selected run, in order.
        findings: notes for readers of the results (legacy objective, a key without effect).
    """

    names: list[str]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class MatrixProgress:
    """Progress of all runs together; at most once a second.

    Attributes:
        done: runs without further training: finished, failed or skipped.
        total: all runs of the matrix.
        seconds_left: an estimate for the whole matrix; None if unknown.
        images_per_second: of all runs in training together.
    """

    done: int
    total: int
    seconds_left: float | None
    images_per_second: float


@dataclass(frozen=True)
class Preparing:
    """A worker process reads or renders data: `done` of `total` steps."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Told:
    """A line that a worker process wrote to its standard output or error."""

    text: str


@dataclass(frozen=True)
class RunRetried:
    """A run's worker process died or ran out of memory; the run is retried once.

    Attributes:
        reason: what happened to the worker.
        jobs: number of parallel runs from now on.
    """

    name: str
    reason: str
    jobs: int


@dataclass(frozen=True)
class RunStarted:
    """A run starts, or continues at `images`.

    Attributes:
        findings: findings about this run; those of the whole file are in `MatrixStarted`.
    """

    name: str
    number: int
    parameters: int
    images: int
    max_images: int | None
    threads: int
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class RunProgress:
    """A log point.

    Attributes:
        loss: mean training loss since the last log point.
        images_per_second: of training, without validation.
        seconds_left: until `max_images`; None if that is not set.
    """

    name: str
    images: int
    max_images: int | None
    loss: float
    images_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class RunValidated:
    """A validation; `loss` is the total of the run's objective.

    Attributes:
        text: for runs that output text, an example beside its original; empty if none was stored.
        findings: new problems of the run, although every number is finite.
        forecast: the predicted final loss, as a sentence; empty if it cannot be predicted yet.
    """

    name: str
    images: int
    loss: float
    is_best: bool
    text: str = ""
    findings: list[Finding] = field(default_factory=list)
    forecast: str = ""


@dataclass(frozen=True)
class RunMended:
    """A run had non-finite numbers or too little memory, and continues from `images`.

    Attributes:
        text: what happened and what was done.
    """

    name: str
    images: int
    text: str


@dataclass(frozen=True)
class RunFinished:
    """A run is finished; `reason` is why it ended there.

    Attributes:
        text: for runs that output text, the last example beside its original; else empty.
    """

    name: str
    images: int
    loss: float | None
    seconds: float
    reason: str
    path: Path
    text: str = ""


@dataclass(frozen=True)
class RunSkipped:
    """A run that was not trained now, and why.

    Attributes:
        failed_before: whether it failed, or was impossible, in an earlier attempt.
        held: whether another process trains it now.
    """

    name: str
    reason: str
    failed_before: bool = False
    held: bool = False


@dataclass(frozen=True)
class RunAwaited:
    """Another process trains a run: this one waits, and takes over if that process ends."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunErred:
    """A run that failed; the matrix continues.

    Attributes:
        impossible: whether its text cannot be built, so that a retry is useless.
        no_memory: whether the machine ran out of memory.
    """

    name: str
    message: str
    impossible: bool = False
    no_memory: bool = False


@dataclass(frozen=True)
class RunInterrupted:
    """A run that was stopped by request; everything up to `images` is saved."""

    name: str
    images: int


@dataclass(frozen=True)
class RunStopped:
    """A run that was ended early, but not by the user; everything is saved.

    Attributes:
        reason: `chance 1 % of ending below 0.018`, or why it continues later.
        for_good: whether it is not continued in this matrix.
    """

    name: str
    images: int
    reason: str
    for_good: bool = True


@dataclass(frozen=True)
class BudgetRound:
    """A round of a matrix with a time budget starts.

    Attributes:
        number: from 1.
        names: the runs that are trained in this round, in order.
        unfinished: runs that are not finished and can be trained.
        seconds_left: of the budget.
    """

    number: int
    names: list[str]
    unfinished: int
    seconds_left: float


@dataclass(frozen=True)
class MatrixFinished:
    """Last event: numbers of runs by outcome.

    Attributes:
        impossible: number of `failed` runs that could not be built.
        failed_before: number of `skipped` runs that had failed before.
        held: number of `skipped` runs that another process trains now.
        stopped: runs that were ended early, because of their forecast or the budget.
    """

    finished: int
    skipped: int
    failed: int
    interrupted: bool
    impossible: int = 0
    failed_before: int = 0
    held: int = 0
    stopped: int = 0


Event = (
    MatrixStarted
    | MatrixProgress
    | Preparing
    | Told
    | RunRetried
    | RunStarted
    | RunProgress
    | RunValidated
    | RunMended
    | RunFinished
    | RunSkipped
    | RunAwaited
    | RunErred
    | RunInterrupted
    | RunStopped
    | BudgetRound
    | MatrixFinished
)

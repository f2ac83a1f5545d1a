"""What happens while a matrix runs, as plain records for whoever draws or counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aelab.findings import Finding


@dataclass(frozen=True)
class MatrixStarted:
    """First event: what is going to happen.

    Attributes:
        names: every selected run, in order.
        findings: what the reader of the results must know (legacy objective, a key without effect).
    """

    names: list[str]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class MatrixProgress:
    """How far all runs together are; told at most once a second.

    Attributes:
        done: runs that need no more training: finished, failed or skipped.
        total: all runs of the matrix.
        seconds_left: an estimate for the whole matrix; None where nothing is known yet.
        images_per_second: of all runs that are trained now.
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
    """A run's worker process died, or lacked memory; the run is tried once more.

    Attributes:
        reason: what happened to the worker.
        jobs: runs at once from now on.
    """

    name: str
    reason: str
    jobs: int


@dataclass(frozen=True)
class RunStarted:
    """A run begins or continues at `images`.

    Attributes:
        findings: what is odd or must be known about this run; those of the whole file were told
            by `MatrixStarted`.
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
        images_per_second: of training, validation not counted.
        seconds_left: until `max_images`, None where no end is set.
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
        text: of a run that writes, an example beside its original; empty where none was stored.
        findings: what is wrong with the run since now, although every number is finite.
        forecast: where it will end, as a sentence; empty where that cannot be told yet.
    """

    name: str
    images: int
    loss: float
    is_best: bool
    text: str = ""
    findings: list[Finding] = field(default_factory=list)
    forecast: str = ""


@dataclass(frozen=True)
class RunFinished:
    """A run is done; `reason` says why it ended there.

    Attributes:
        text: of a run that writes, the last example beside its original; else empty.
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
        failed_before: it failed, or was impossible, when it was tried.
        held: another process trains it now.
    """

    name: str
    reason: str
    failed_before: bool = False
    held: bool = False


@dataclass(frozen=True)
class RunAwaited:
    """Another process trains a run; it is waited for, or taken over where that process ends."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunErred:
    """A run that failed; the matrix goes on.

    Attributes:
        impossible: its text asks for what cannot be built, so that trying again is no use.
        no_memory: the machine's memory was used up.
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
    """A run that was ended before its time, and not by the user; everything is saved.

    Attributes:
        reason: `chance 1 % of ending below 0.018`, or why it goes on later.
        for_good: whether nobody goes on with it in this matrix.
    """

    name: str
    images: int
    reason: str
    for_good: bool = True


@dataclass(frozen=True)
class BudgetRound:
    """A round of a matrix with a budget of time begins.

    Attributes:
        number: from 1.
        names: the runs that have a turn, in order.
        unfinished: runs that are not finished and can be trained.
        seconds_left: of the budget.
    """

    number: int
    names: list[str]
    unfinished: int
    seconds_left: float


@dataclass(frozen=True)
class MatrixFinished:
    """Last event: counts by outcome.

    Attributes:
        impossible: how many of `failed` could not be built.
        failed_before: how many of `skipped` failed when they were tried.
        held: how many of `skipped` another process trains now.
        stopped: runs that were left before their end, for their forecast or a spent budget.
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
    | RunFinished
    | RunSkipped
    | RunAwaited
    | RunErred
    | RunInterrupted
    | RunStopped
    | BudgetRound
    | MatrixFinished
)

"""What happens while a matrix runs, as plain records for whoever draws or counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class MatrixStarted:
    """First event: what is going to happen.

    Attributes:
        names: every selected run, in order.
        notes: what the reader of the results must know (legacy objective, substituted data).
    """

    names: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunStarted:
    """A run begins or continues at `images`."""

    name: str
    number: int
    parameters: int
    images: int
    max_images: int | None
    threads: int
    notes: list[str] = field(default_factory=list)


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
        warnings: what is wrong with the run since now, although every number is finite.
    """

    name: str
    images: int
    loss: float
    is_best: bool
    text: str = ""
    warnings: list[str] = field(default_factory=list)


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
class RunErred:
    """A run that failed; the matrix goes on.

    Attributes:
        impossible: its text asks for what cannot be built, so that trying again is no use.
    """

    name: str
    message: str
    impossible: bool = False


@dataclass(frozen=True)
class RunInterrupted:
    """A run that was stopped by request; everything up to `images` is saved."""

    name: str
    images: int


@dataclass(frozen=True)
class MatrixFinished:
    """Last event: counts by outcome.

    Attributes:
        impossible: how many of `failed` could not be built.
        failed_before: how many of `skipped` failed when they were tried.
        held: how many of `skipped` another process trains now.
    """

    finished: int
    skipped: int
    failed: int
    interrupted: bool
    impossible: int = 0
    failed_before: int = 0
    held: int = 0


Event = (
    MatrixStarted
    | RunStarted
    | RunProgress
    | RunValidated
    | RunFinished
    | RunSkipped
    | RunErred
    | RunInterrupted
    | MatrixFinished
)

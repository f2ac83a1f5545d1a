"""Jobs, options, and which runs are done already; needs no torch.

A job is plain data, texts and numbers, so it can be sent to another process or machine. The
results are events and the run's directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.errors import AelabError, Problems, StoreError
from aelab.execute.events import Event
from aelab.runs.record import Run
from aelab.runs.stages import changed_first_stage

if TYPE_CHECKING:
    from aelab.assembly.parts import Parts
    from aelab.assembly.rehearsal import Rehearsed
    from aelab.findings import Finding
    from aelab.settings import FitSettings
    from aelab.types import Images

#: A look for faults: a run's text, its parts, the images of its first training set, and the
#: settings of its loop -> what was found.
Examination = Callable[["RunSpec", "Parts", "Images", "FitSettings"], "list[Finding]"]

#: Most taken names that are listed in a message.
MOST_CONFLICTS = 3


@dataclass(frozen=True)
class Options:
    """Options of the caller, besides file and workspace.

    Attributes:
        restart: delete stored results and start anew.
        retry_failed: try failed runs again.
        threads: CPU threads of a run; None: chosen by free cores.
        wait: wait for runs that other processes train, and train those that they leave unfinished.
        stop_hopeless: end a run early if its chance to end below the best finished run of its
            matrix is under this, 0..1; None: never.
        rivals: folders of the runs of the matrix, for this comparison.
        examine: looks for faults in a run that is built and has seen no image; a function of a
            module, so that worker processes find it. None: nothing is looked for.
    """

    restart: bool = False
    retry_failed: bool = False
    threads: int | None = None
    wait: bool = False
    stop_hopeless: float | None = None
    rivals: tuple[str, ...] = ()
    examine: Examination | None = None


@dataclass(frozen=True)
class Turn:
    """How far a run is trained before other runs continue.

    Attributes:
        images: it pauses at the first batch with this many images seen.
        until: it pauses at this time, in seconds since 1970.
        seconds: or after this many seconds of training and validation.
        again: whether it had a turn in this command before, so that `restart` does not apply.
    """

    images: int | None = None
    until: float | None = None
    seconds: float | None = None
    again: bool = False

    def begun(self) -> Turn:
        """The same turn, starting now: `seconds` becomes a time in `until`."""
        if self.seconds is None:
            return self
        end = time.time() + self.seconds
        return replace(self, until=end if self.until is None else min(self.until, end))

    def is_over(self, images: int) -> bool:
        """Whether a run with this many images seen pauses now."""
        if self.images is not None and images >= self.images:
            return True
        return self.until is not None and time.time() >= self.until


@dataclass(frozen=True)
class Job:
    """One run to train.

    Attributes:
        spec: its resolved text.
        number: its position in the matrix, from 1.
        turn: how far to train now; None: to the end.
    """

    spec: RunSpec
    number: int
    turn: Turn | None = None


#: Looks for a run that can be trained, before a directory is made; raises what is wrong with every
#: one. If it is asked to, it builds that run as its training takes it over.
Rehearsal = Callable[[Sequence[RunSpec], Workspace, bool], "Rehearsed"]


class Engine(Protocol):
    """The interface of an engine: a context manager around these two calls, in this order."""

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """Checks that at least one of these runs can be built; without runs checks the device.

        Raises:
            Problems: none can be built; each mistake once.
            ConfigError: there is no such device.
        """

    def train(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Trains each run into its directory, and yields events.

        A failed run is an event. Errors that concern every run, such as a full disk, are raised.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def first_record(spec: RunSpec, trust: bool) -> dict[str, Any]:
    """The record of a run as known from its text alone."""
    return {
        "name": spec.name,
        "folder": spec.folder,
        "identity": spec.identity,
        "matrix": spec.matrix,
        "matrix_id": spec.matrix_id,
        "matrix_slug": spec.matrix_slug,
        "seed": spec.seed,
        "trial": spec.trial,
        "max_inputs": spec.settings.fit.max_images,
        "experiment": os.path.basename(spec.file),
        "legacy": sorted(spec.settings.legacy),
        "trust": trust,
        **({"same": [twin._asdict() for twin in spec.same]} if spec.same else {}),
    }


def stored_runs(
    specs: Sequence[RunSpec], workspace: Workspace, options: Options
) -> dict[str, Run]:  # fmt: skip
    """The stored runs of these specs by folder; empty with `restart`.

    Raises:
        Problems: folders that contain another run.
    """
    errors: list[AelabError] = []
    found: dict[str, Run] = {}
    for spec in () if options.restart else specs:
        try:
            record = first_record(spec, workspace.trust)
            run = workspace.store.existing(record, {"resolved.yml": spec.resolved_text})
            if run is not None:
                _refuse_changed(run, workspace)
                found[spec.folder] = run
        except StoreError as error:
            errors.append(error)
    if len(errors) > MOST_CONFLICTS:
        more = StoreError(f"and so on: {len(errors)} of {len(specs)} names are taken")
        errors = [*errors[:MOST_CONFLICTS], more]
    if errors:
        raise Problems(errors)
    return found


def _refuse_changed(run: Run, workspace: Workspace) -> None:
    """Raises if a run was trained on codes of another run that has changed since.

    Raises:
        StoreError: it was.
    """
    if changed := changed_first_stage(run, workspace.store):
        raise StoreError(
            f"{workspace.runs / run.folder}: {changed}",
            hint="restore that run, or train this one again with --restart",
        )


def skip_reason(run: Run, options: Options) -> str:
    """Why a stored run is not trained now; empty if it is."""
    if run.state == "finished":
        return "finished already"
    if run.state == "failed" and not options.retry_failed:
        message = str((run.status.get("error") or {}).get("message", ""))
        return f"failed before ({message.partition(chr(10))[0]}); --retry-failed tries again"
    stopped = run.status.get("stopped") or {}
    if options.stop_hopeless and stopped.get("chance", 1.0) < options.stop_hopeless:
        return f"{stopped_words(run)}; without --stop-hopeless it goes on"
    return ""


def stopped_words(run: Run) -> str:
    """`stopped: chance 1 % of ending below 0.018`; empty for a run that was not stopped."""
    stopped = run.status.get("stopped") or {}
    return f"stopped: {stopped['reason']}" if stopped.get("reason") else ""

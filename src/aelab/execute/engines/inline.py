"""Training in this process, one run after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.execute.events import Event
from aelab.execute.jobs import Job, Options, Rehearsal
from aelab.execute.stop import StopRequest

if TYPE_CHECKING:
    from aelab.assembly.rehearsal import Built


@dataclass
class Inline:
    """An engine without other processes.

    Attributes:
        workspace: folder of runs, folders that may be read, and the device.
        options: of the caller.
        stop: asked between batches and between runs.
        rehearsal: checks whether runs can be built.
        built: the run that it built, until that is trained.
    """

    workspace: Workspace
    options: Options
    stop: StopRequest
    rehearsal: Rehearsal
    built: Built | None = None

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """See `Engine`."""
        from aelab.assembly.parts import choose_device

        choose_device(self.workspace.device)
        if specs:
            self.built = self.rehearsal(specs, self.workspace, True).built

    def train(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """See `Engine`."""
        from aelab.execute.session import train_run

        for job in jobs:
            if self.stop:
                return
            built = self.built if self.built and self.built.spec is job.spec else None
            self.built = None if built else self.built
            yield from train_run(job, self.workspace, self.options, self.stop, built)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Does nothing: there are no resources to release."""

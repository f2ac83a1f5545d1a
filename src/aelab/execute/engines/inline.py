"""Training in this process, one run after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.execute.events import Event
from aelab.execute.jobs import Job, Options, Rehearsal
from aelab.execute.stop import StopRequest


@dataclass
class Inline:
    """An engine without other processes.

    Attributes:
        workspace: folder of runs, folders that may be read, and the device.
        options: of the caller.
        stop: asked between batches and between runs.
        rehearsal: checks whether runs can be built.
    """

    workspace: Workspace
    options: Options
    stop: StopRequest
    rehearsal: Rehearsal

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """See `Engine`."""
        from aelab.assembly.parts import choose_device

        choose_device(self.workspace.device)
        if specs:
            self.rehearsal(specs, self.workspace)

    def train(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """See `Engine`."""
        from aelab.execute.session import train_run

        for job in jobs:
            if self.stop:
                return
            yield from train_run(
                job.spec, self.workspace, self.options, self.stop, job.number, job.turn
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Does nothing: there are no resources to release."""

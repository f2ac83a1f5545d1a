"""The folder of runs, the folders of data, trust and device, which `Lab` sets once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aelab.roots import Roots, real
from aelab.runs.find import RUNS
from aelab.runs.store import Store

if TYPE_CHECKING:
    from aelab.config import RunSpec


@dataclass(frozen=True)
class Workspace:
    """Settings that every verb needs besides its own arguments.

    Attributes:
        runs: folder of the runs.
        data: folders from which data may be read, besides the folder of the experiment file.
        trust: evaluate blocks as plain Python, and open runs that were made with trust.
        device: the device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        planned: the runs of the command: one of them may use another that is not trained yet.
    """

    runs: Path = RUNS
    data: tuple[Path, ...] = ()
    trust: bool = False
    device: str = "auto"
    planned: tuple[RunSpec, ...] = ()

    @classmethod
    def of(
        cls,
        runs: str | Path = RUNS,
        data: Iterable[str | Path] = (),
        trust: bool = False,
        device: str = "auto",
    ) -> Workspace:
        """Makes a workspace from texts and paths as a caller types them."""
        return cls(Path(runs), tuple(Path(folder) for folder in data), trust, device)

    @property
    def store(self) -> Store:
        """The stored runs."""
        return Store(self.runs)

    def reading(self, spec: RunSpec) -> Roots:
        """The folders that a run's blocks may read; relative paths start at its file."""
        folders = (spec.base, *(real(folder) for folder in self.data))
        return self.with_runs(Roots(folders, spec.base))

    def with_runs(self, reading: Roots) -> Roots:
        """The same folders, and this workspace's runs."""
        return replace(reading, runs=self.runs, trust=self.trust, planned=self.planned)

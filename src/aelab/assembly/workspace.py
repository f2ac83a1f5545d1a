"""Where runs lie, what may be read, and where to compute: said once, in `Lab`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aelab.roots import Roots, real
from aelab.runs.find import RUNS
from aelab.runs.store import Store

if TYPE_CHECKING:
    from aelab.config import RunSpec


@dataclass(frozen=True)
class Workspace:
    """What every verb needs to know besides its own arguments.

    Attributes:
        runs: folder of the runs.
        data: folders that data may be read from, besides that of the experiment file.
        trust: evaluate blocks as plain Python, and open runs that were made so.
        device: where to compute: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    """

    runs: Path = RUNS
    data: tuple[Path, ...] = ()
    trust: bool = False
    device: str = "auto"

    @classmethod
    def of(
        cls,
        runs: str | Path = RUNS,
        data: Iterable[str | Path] = (),
        trust: bool = False,
        device: str = "auto",
    ) -> Workspace:
        """The same from what a caller types: texts for paths."""
        return cls(Path(runs), tuple(Path(folder) for folder in data), trust, device)

    @property
    def store(self) -> Store:
        """The stored runs."""
        return Store(self.runs)

    def reading(self, spec: RunSpec) -> Roots:
        """What the blocks of a run may read; relative paths start beside its file."""
        return Roots((spec.base, *(real(folder) for folder in self.data)), spec.base)

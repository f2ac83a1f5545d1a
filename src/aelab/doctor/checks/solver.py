"""Checks whether a model solves its implicit equations before it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aelab.doctor.checks.subject import BuiltRun
from aelab.findings import Finding
from aelab.train.solver import solver_diverges


def unsolved_equations(run: BuiltRun) -> Iterator[Finding]:
    """Finds a solver that diverges on the first batch."""
    if run.train is None:
        return
    found = solver_diverges(run.model, run.batch())
    if found is not None:
        yield replace(found, where=run.place("model"))

"""The order of runs of which one uses another."""

from __future__ import annotations

from collections.abc import Sequence

from aelab.execute.jobs import Job


def in_order(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups: a run is in a later group than the runs of the file that it uses.

    Runs that use each other in a circle stay in the last group; their error says so.
    """
    left = {job.spec.folder: job for job in jobs}
    needs = {
        folder: {other for other in job.spec.runs_named() if other in left and other != folder}
        for folder, job in left.items()
    }
    groups: list[list[Job]] = []
    while left:
        ready = [job for folder, job in left.items() if not needs[folder] & left.keys()]
        groups.append(ready or list(left.values()))
        for job in groups[-1]:
            del left[job.spec.folder]
    return groups

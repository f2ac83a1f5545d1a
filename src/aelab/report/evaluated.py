"""Notes below a table on the images used for its results of `aelab evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from aelab.runs.evaluation import evaluated_over, evaluated_values, read_evaluation
from aelab.runs.record import Run


def evaluated_notes(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Lines on the numbers of images, on results that do not compare, and on those left out.

    Args:
        runs: the runs of the table.
        names: included columns; those not from `aelab evaluate` are ignored.
    """
    over: dict[str, dict[tuple[int, int], None]] = {}
    for run in runs:
        for name, counts in evaluated_over(run).items():
            if name in names:
                over.setdefault(name, {})[counts] = None
    lines = []
    for sizes in dict.fromkeys(tuple(found) for found in over.values()):
        which = ", ".join(name for name, found in over.items() if tuple(found) == sizes)
        words = "; ".join(_said(*pair) for pair in sizes)
        if len(sizes) > 1:
            words += ": these do not compare; evaluate all runs with the same --limit"
        lines.append(f"{which}: over {words}")
    outdated = [run for run in runs if read_evaluation(run).get("outdated")]
    if outdated and any(name not in evaluated_values(run) for run in outdated for name in names):
        lines.append(
            f"{len(outdated)} of {len(runs)} runs have numbers over the first images of their set, "
            "from an earlier version; they are left out: `aelab evaluate` computes them again"
        )
    return lines


def _said(count: int, total: int) -> str:
    if count >= total:
        return f"{total:,} held-out images"
    return f"{count:,} of {total:,} held-out images, drawn at random"

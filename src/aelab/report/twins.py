"""Equal runs, which are counted once and named in notes.

Either they were trained with the same result, or their texts are equal, so that one was trained in
place of the others (`same` in its record).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aelab.analysis.effects import value_key
from aelab.report.cells import Facts
from aelab.runs.record import Run


def distinct(group: Sequence[Facts]) -> list[Facts]:
    """The runs of a row without exact copies of another, including seed and losses.

    A matrix key without effect causes such copies; they are no further evidence.
    """
    found: dict[Hashable, Facts] = {}
    for number, fact in enumerate(group):
        cells = fact.cells
        known = fact.run.record.get("effect") and fact.loss is not None
        same = (fact.seed, fact.loss, cells.get("best"), cells.get("images")) if known else number
        found.setdefault(same, fact)
    return list(found.values())


def unmentioned(run: Run) -> set[str]:
    """Matrix keys that nothing in the run's file mentions, in which its equal runs differ."""
    own = run.record["matrix"]
    return {
        key
        for twin in _same(run)
        for key in own
        if value_key(twin["matrix"].get(key)) != value_key(own[key])
    }


def twins_of(fact: Facts, runs: Sequence[Run]) -> list[Facts]:
    """Facts for the equal runs that were not trained, copied from the one that was."""
    stored = {run.folder for run in runs}
    return [
        replace(
            fact,
            cells={
                **fact.cells,
                **{f"matrix.{key}": value for key, value in twin["matrix"].items()},
                **{f"matrix.{key}": None for key in unmentioned(fact.run)},
                "id": twin.get("matrix_id"),
                "run": twin.get("folder"),
                "slug": twin.get("matrix_slug"),
                "state": f"same run as {fact.run.folder}",
            },
        )
        for twin in _same(fact.run)
        if twin.get("folder") not in stored
    ]


def twin_notes(groups: Sequence[Sequence[Facts]]) -> list[str]:
    """Lines on runs counted or trained once, with the matrix key that has no effect."""
    repeated = [group for group in groups if len(distinct(group)) < len(group)]
    count = sum(len(group) - len(distinct(group)) for group in repeated)
    notes = []
    if count:
        keys = dict.fromkeys(
            key
            for group in repeated
            for key in group[0].run.record["matrix"]
            if len({value_key(fact.run.record["matrix"].get(key)) for fact in group}) > 1
            and group[0].cells.get(f"matrix.{key}") is None
        )
        cause = f" ({', '.join(keys)} changed nothing there)" if keys else ""
        which = "1 run repeats another" if count == 1 else f"{count} runs repeat others"
        notes.append(f"{which} exactly{cause} and {'does' if count == 1 else 'do'} not count again")
    return [*notes, *_standing_for_others([fact.run for group in groups for fact in group])]


def _standing_for_others(runs: Sequence[Run]) -> list[str]:
    stored = {run.folder for run in runs}
    firsts = {run.folder: run for run in runs if unmentioned(run)}
    absent = {
        twin.get("folder") for run in firsts.values() for twin in _same(run)
    } - stored  # fmt: skip
    if not absent:
        return []
    keys = ", ".join(dict.fromkeys(key for run in firsts.values() for key in unmentioned(run)))
    more = f"{len(absent)} more run{'s' if len(absent) != 1 else ''} of the file"
    return [f"no value mentions {keys}: {more} would be the same and were not trained again"]


def _same(run: Run) -> list[Mapping[str, Any]]:
    """The runs listed as `same` in a record; a value of a wrong type counts as empty."""
    listed = run.record.get("same")
    entries = listed if isinstance(listed, list) else []
    return [e for e in entries if isinstance(e, dict) and isinstance(e.get("matrix"), dict)]

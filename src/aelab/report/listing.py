"""The list of stored runs: `aelab ls`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aelab.errors import StoreError
from aelab.findings import Finding, stored_findings
from aelab.report.cells import Column, RunsTable, cell_text, clock
from aelab.report.render import table_text
from aelab.runs.atomic import to_json
from aelab.runs.find import Planned
from aelab.runs.notes import read_notes
from aelab.runs.record import Run
from aelab.runs.status import age_seconds

_COLUMNS = [
    Column("run", "run"),
    Column("state", "state"),
    Column("progress", "images", "count"),
    Column("best", "best loss", "loss"),
    Column("age", "last sign"),
    Column("size", "size", "count"),
]
#: Shown where a run has any, see `runs.notes`.
_OF_NOTES = [Column("tags", "tags"), Column("notes", "notes")]


def listing(
    runs: Sequence[Run],
    *,
    problems: Sequence[StoreError] = (),
    planned: Sequence[Planned] = (),
    format: str = "text",
) -> str:
    """The runs of a store as text.

    Args:
        runs: stored runs.
        problems: errors of unreadable directories, from `Store.scan`; each becomes a line.
        planned: runs of an experiment file that were never begun.
        format: `text` (also called `terminal`), `markdown`, `csv` or `json`.
    """
    found = entries(runs, problems) + [_planned_entry(run) for run in planned]
    if format == "json":
        return to_json(found, indent=2)
    rows = [
        {
            "run": entry["folder"],
            "state": entry["state"] if entry["folder"] else "; ".join(entry["problems"]),
            "progress": _progress(entry),
            "best": ((entry.get("losses") or {}).get("best") or {}).get("loss"),
            "age": age_words(entry.get("age_seconds")),
            "size": size_words(entry.get("bytes")),
            "tags": ", ".join(entry.get("tags") or ()) or None,
            "notes": entry.get("note") or None,
        }
        for entry in found
    ]
    columns = [*_COLUMNS, *(each for each in _OF_NOTES if any(row[each.key] for row in rows))]
    made = RunsTable(columns, rows, [[] for _ in rows])
    shown = table_text(made, "terminal" if format == "text" else format)
    if format != "text" or not planned:
        return shown
    return f"{shown.rstrip()}\n\n{_counts(found)}\n"


def entries(runs: Sequence[Run], problems: Sequence[StoreError] = ()) -> list[dict[str, Any]]:
    """One dictionary for each run: `name`, `folder`, `matrix`, `state`, `images`, `losses`, ..."""
    unreadable = [
        {
            "name": None,
            "folder": None,
            "state": "unreadable",
            "problems": [problem.message],
            "findings": [Finding.of_error(problem).as_json()],
        }
        for problem in problems
    ]
    return [_entry(run) for run in runs] + unreadable


def _planned_entry(run: Planned) -> dict[str, Any]:
    state = "planned (a hole: later ones were begun)" if run.is_hole else "planned"
    return {
        "name": run.name,
        "folder": run.folder,
        "path": None,
        "experiment": run.experiment,
        "matrix": dict(run.matrix),
        "parameters": {},
        "state": state,
        "is_hole": run.is_hole,
        "images": None,
        "max_inputs": None,
        "losses": {"last": None, "best": None},
        "problems": [],
        "findings": [],
        "age_seconds": None,
        "bytes": None,
    }


def _counts(found: Sequence[dict[str, Any]]) -> str:
    """`3 finished, 1 failed, 2 planned (1 hole); aelab run FILE trains ...`."""
    counts = Counter(str(entry["state"]).partition(" (a hole")[0] for entry in found)
    holes = sum(bool(entry.get("is_hole")) for entry in found)
    words = [f"{count} {state}" for state, count in counts.items()]
    if holes:
        words = [
            f"{word} ({holes} hole{'s' if holes > 1 else ''})" if word.endswith("planned") else word
            for word in words
        ]
    way = "aelab run FILE trains what is planned or interrupted"
    return f"{', '.join(words)}; {way}, --retry-failed also what failed"


def age_words(seconds: float | None) -> str | None:
    """Text such as `12 s ago`, `5 min ago`, `3 h ago`, `2 days ago`."""
    if seconds is None:
        return None
    for limit, unit, word in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {word} ago"
    return f"{seconds / 86400:.0f} days ago"


def size_words(size: float | None) -> str | None:
    """Text such as `950 B`, `12 kB`, `3.4 MB`, in powers of 1000."""
    if size is None:
        return None
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def _entry(run: Run) -> dict[str, Any]:
    status, record = run.status, run.record
    error, notes = status.get("error"), read_notes(run)
    return {
        "name": record["name"],
        "folder": run.folder,
        "path": str(run.path),
        "experiment": record.get("experiment"),
        "matrix": record["matrix"],
        "parameters": record.get("parameters") or {},
        "state": run.state_words,
        "images": clock(run) if status.get("images") is None else status["images"],
        "max_inputs": record.get("max_inputs"),
        "losses": {"last": status.get("last"), "best": status.get("best")},
        "problems": [error.get("message", "")] if error else [],
        "findings": [found.as_json() for found in stored_findings(record)],
        "age_seconds": age_seconds(status),
        "bytes": run.size_bytes(),
        "tags": list(notes.tags),
        "note": notes.first_line,
    }


def _progress(entry: dict[str, Any]) -> str | None:
    images, limit = entry.get("images"), entry.get("max_inputs")
    if images is None:
        return None
    done = cell_text(images, "count")
    return f"{done} of {cell_text(limit, 'count')}" if limit else done

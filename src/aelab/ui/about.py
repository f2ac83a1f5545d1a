"""One run, told whole, and two runs beside each other, as plain data for the page."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from aelab.errors import AelabError, UserError, visible
from aelab.findings import stored_findings
from aelab.report.incidents import incident_words, read_incidents
from aelab.report.series import value_text
from aelab.report.two_settings import changed_lines, compare_settings, repeats_of
from aelab.runs.evaluation import evaluated_values
from aelab.runs.files import read_json
from aelab.runs.notes import Notes, read_notes
from aelab.runs.record import BrokenRun, Run
from aelab.ui.curves import finite, trend_of

#: Lines of `log.txt` that are shown, and characters of a configuration.
LOG_LINES, CONFIG_CHARACTERS = 60, 200_000


def row(run: Run) -> dict[str, Any]:
    """A line of the table: folder, matrix, state, images, losses, measures, tags, ..."""
    status, record = run.status, run.record
    last, best = status.get("last") or {}, status.get("best") or {}
    error = status.get("error") or {}
    broken = isinstance(run, BrokenRun)
    notes = Notes() if broken else read_notes(run)
    findings = [] if broken else stored_findings(record)
    return {
        "folder": run.folder,
        "matrix": {} if broken else record["matrix"],
        "experiment": record.get("experiment"),
        "state": "stopped early" if run.state_words == "stopped early" else run.state,
        "images": status.get("images") or 0,
        "max_images": record.get("max_inputs"),
        "loss": last.get("loss") if finite(last.get("loss")) else None,
        "best": best.get("loss") if finite(best.get("loss")) else None,
        "minutes": _minutes(status.get("seconds")),
        "speed": _figure(status.get("images_per_second")),
        "parameters": (record.get("parameters") or {}).get("model"),
        "objective": record.get("objective"),
        "error": error.get("message") if isinstance(error, dict) else str(error),
        "measures": {} if broken else _measures(run),
        "tags": list(notes.tags),
        "note": notes.first_line,
        "warnings": sum(found.level != "note" for found in findings),
        "incidents": 0 if broken else len(read_incidents(run)),
    }


def about(run: Run) -> dict[str, Any]:
    """Everything that a run's own files say: notes, findings, incidents, settings, log.

    Raises:
        AelabError: the run cannot be read.
    """
    if isinstance(run, BrokenRun):
        raise run.problem
    record, status = run.record, run.status
    error = status.get("error")
    return {
        "folder": run.folder,
        "state": run.state_words,
        "facts": _facts(run),
        "notes": notes_json(read_notes(run)),
        "findings": [
            {"level": found.level, "code": found.code, "line": found.line()}
            for found in stored_findings(record)
        ],
        "incidents": [_incident(entry) for entry in read_incidents(run)],
        "incident_words": incident_words(run),
        "error": error if isinstance(error, dict) else None,
        "trend": trend_of(run),
        "config": run.read_text("resolved.yml")[:CONFIG_CHARACTERS],
        "environment": _environment(run),
        "log": run.read_text("log.txt").splitlines()[-LOG_LINES:],
        "damage": list(run.damage),
        "needs_trust": bool(record.get("trust")),
        "has_model": any(state.name in ("best", "latest") for state in run.checkpoints()),
    }


def notes_json(notes: Notes) -> dict[str, Any]:
    """Notes as plain data."""
    return {"text": notes.text, "tags": list(notes.tags), "updated": notes.updated}


def compared(first: Run, second: Run, every: Sequence[Run]) -> dict[str, Any]:
    """Two runs: which setting is better and by how much, and what differs in their files.

    Returns:
        `verdict`, `facts`: sentences; `difference`: None or `mean`, `low`, `high`, `count`,
        `percent`, `better`: 0 or 1, None where it is not shown; `lines`: pairs of lines that
        differ; `matrix`: key -> the two values.
    """
    found: dict[str, Any] = {
        "lines": changed_lines(first, second),
        "matrix": _matrices(first, second),
        "difference": None,
    }
    alike = repeats_of(first, every)
    if second.folder != first.folder and any(run.folder == second.folder for run in alike):
        return {**found, "facts": [], "verdict": _repeated(first, second)}
    try:
        told = compare_settings(alike, repeats_of(second, every))
    except UserError as error:
        return {**found, "facts": [], "verdict": error.message}
    *found["facts"], found["verdict"] = str(told).split("\n")
    gap = told.difference
    found["difference"] = {
        "mean": gap.mean,
        "low": gap.low if finite(gap.low) else None,
        "high": gap.high if finite(gap.high) else None,
        "count": gap.count,
        "percent": told.percent if finite(told.percent) else None,
        "better": int(gap.mean > 0) if gap.distinguishable else None,
    }
    return found


def _repeated(first: Run, second: Run) -> str:
    losses = [_text((run.status.get("last") or {}).get("loss")) or "no loss"
              for run in (first, second)]  # fmt: skip
    return f"two seeds of one setting: {losses[0]} and {losses[1]}; choose runs of two settings"


def _matrices(first: Run, second: Run) -> dict[str, list[str]]:
    both = [run.record.get("matrix") or {} for run in (first, second)]
    return {
        str(key): [value_text(matrix.get(key)) for matrix in both]
        for key in dict.fromkeys([*both[0], *both[1]])
    }


def _facts(run: Run) -> list[list[str]]:
    """Names and values, as texts."""
    record, status = run.record, run.status
    data = record.get("data") or {}
    last, best = status.get("last") or {}, status.get("best") or {}
    found = {
        **{str(key): value_text(value) for key, value in (record.get("matrix") or {}).items()},
        "seed": record.get("seed"),
        "objective": record.get("objective"),
        "loss at the end": _text(last.get("loss")),
        "best loss": f"{_text(best.get('loss'))} at {best.get('images'):,} images"
        if finite(best.get("loss")) and isinstance(best.get("images"), int)
        else None,
        "images seen": f"{status.get('images') or 0:,}",
        "parameters": _count((record.get("parameters") or {}).get("model")),
        "image shape": value_text(record.get("shape")),
        "latent shape": value_text(record.get("latent_shape")),
        "FLOPs per image": _count(record.get("flops_per_image")),
        "training set": _sets(data.get("train")),
        "validation set": _sets(data.get("validation")),
        "ended by": status.get("reason"),
        "experiment file": record.get("experiment"),
        "identity": str(record.get("identity") or "")[:16],
        **{name: _text(value) for name, value in _measures(run).items()},
    }
    return [[name, str(value)] for name, value in found.items() if value not in (None, "")]


def _sets(sets: Any) -> str:
    told = [
        f"{each.get('name')} ({each.get('count'):,})"
        for each in (sets if isinstance(sets, list) else [])
        if isinstance(each, dict) and isinstance(each.get("count"), int)
    ]
    return ", ".join(told)


def _incident(entry: dict[str, Any]) -> dict[str, str]:
    """What happened, where, what was done and what helps, each one sentence."""
    names = {"cause": "what", "where": "where", "done_in_words": "done", "advice": "advice",
             "noticed": "noticed"}  # fmt: skip
    return {new: visible(str(entry[old])) for old, new in names.items() if entry.get(old)}


def _measures(run: Run) -> dict[str, float]:
    return {key: value for key, value in evaluated_values(run).items() if finite(value)}


def _environment(run: Run) -> list[list[str]]:
    with contextlib.suppress(AelabError):
        found = read_json(run.path / "environment.json", run.path)
        return [[key, visible(str(value))] for key, value in found.items()]
    return []


def _minutes(seconds: Any) -> float | None:
    return round(seconds / 60, 2) if finite(seconds) else None


def _figure(value: Any) -> float | None:
    return float(f"{value:.3g}") if finite(value) else None


def _text(value: Any) -> str:
    return f"{value:.5g}" if finite(value) else ""


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""

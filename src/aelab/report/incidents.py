"""The page on NaN and infinities in a run: the symptom, the origin, and the reaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from aelab.errors import StoreError, visible
from aelab.runs.atomic import with_numbers
from aelab.runs.files import read_json
from aelab.runs.foreign import legible_values
from aelab.runs.record import Run

INCIDENT_DATA, INCIDENT_PAGE = "incident.json", "incident.html"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #161616 } }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse } th, td { padding: .2rem .8rem .2rem 0; text-align: right }
th:first-child, td:first-child, .text { text-align: left }
th { border-bottom: 1px solid #8888 } dt { font-weight: 600 } dd { margin: 0 0 .6rem 0 }
"""


def read_incidents(run: Run) -> list[dict[str, Any]]:
    """The entries of `incident.json`, oldest first; empty if the file cannot be read."""
    path = run.path / INCIDENT_DATA
    if not path.exists():
        return []
    try:
        found = legible_values(with_numbers(read_json(path, run.path))).get("incidents")
    except (StoreError, RecursionError):
        return []
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def incident_words(run: Run) -> str:
    """Text `rolled back once to 1,200,000 images: 'decoder.7' overflowed`; empty without any."""
    found = read_incidents(run)
    if not found:
        return ""
    words = "; ".join(str(entry.get("done_in_words") or entry.get("cause")) for entry in found[-3:])
    more = f"{len(found) - 3} earlier; " if len(found) > 3 else ""
    return f"{more}{words}"


def incident_page(name: str, incidents: Sequence[Mapping[str, Any]]) -> str:
    """One self-contained HTML page.

    Args:
        name: name of the run.
        incidents: the entries of `incident.json`, oldest first.
    """
    parts = [_incident(number, entry) for number, entry in enumerate(incidents, 1)]
    head = f"When numbers ended: {escape(visible(name))}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{head}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{head}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _incident(number: int, entry: Mapping[str, Any]) -> str:
    batch = entry.get("first_bad_batch_at")
    facts = {
        "What was done": entry.get("done_in_words"),
        "In force since": _change(entry.get("done")),
        "First bad batch": None if batch is None else f"the one after {batch:,} images",
        "Where": entry.get("where"),
        "In float64": entry.get("in_float64"),
        "Half precision": "the numbers left its range (largest 65,504)"
        if entry.get("half_precision")
        else None,
        "Learning rate": entry.get("learnrate_raised"),
        "Noticed": entry.get("noticed"),
        "What else helps": entry.get("advice"),
    }
    listed = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(visible(str(value)))}</dd>\n"
        for key, value in facts.items()
        if value
    )
    return (
        f"<h2>{number}. {escape(visible(str(entry.get('cause') or 'diverged')))}</h2>\n"
        f"<dl>\n{listed}</dl>\n" + _moved(entry.get("moved")) + _grown(entry.get("grown"))
    )


def _change(done: Any) -> str:
    if not isinstance(done, dict) or not isinstance(done.get("change"), dict):
        return ""
    change = done["change"]
    told = []
    if change.get("factor", 1.0) != 1.0:
        told.append(f"learning rate times {change['factor']:.3g}")
    if change.get("clip"):
        told.append(f"norm of the gradient clipped to {change['clip']:g}")
    if change.get("float32"):
        told.append("the model computes in float32")
    return ", ".join(told)


def _moved(rows: Any) -> str:
    """Table rows of the last good states and the one before the failure."""
    if not isinstance(rows, list) or not rows:
        return ""
    cells = [
        [
            _number(row.get("images")),
            _number(row.get("learnrate")),
            _number(row.get("loss")),
            _number(row.get("gradient_norm")),
            _number((row.get("largest_output") or ["", None])[1]),
            str((row.get("largest_output") or ["", None])[0]),
        ]
        for row in rows
        if isinstance(row, dict)
    ]
    header = ("images", "learning rate", "loss of the next batch", "norm of its gradient",
              "largest output", "of layer")  # fmt: skip
    return "<h3>The last good states, and the one before the failure</h3>\n" + _table(header, cells)


def _grown(rows: Any) -> str:
    """Table rows of the weights that grew most."""
    if not isinstance(rows, list) or not rows:
        return ""
    cells = [[str(row[0]), _number(row[1]), _number(row[2])] for row in rows if len(row) == 3]
    return "<h3>Weights that grew most</h3>\n" + _table(("weight", "norm then", "norm now"), cells)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(visible(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>\n'


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if math.isfinite(value) else str(value)

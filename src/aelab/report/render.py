"""Tables as text: Markdown, terminal, CSV, JSON, HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from aelab.report.cells import Column, Facts, Table, show
from aelab.runs.atomic import to_json
from aelab.runs.evaluation import evaluated_over


def render(table: Table, format: str, *, by_run: bool = True) -> str:
    """The table as text, ending in a newline.

    Args:
        table: what to print.
        format: `markdown`, `terminal`, `csv`, `json` or `html`.
        by_run: JSON is a list of runs with all facts; otherwise a list of the table's rows.
    """
    if format == "csv":
        return _csv(table)
    if format == "json":
        return to_json(_json_runs(table) if by_run else _json_rows(table), indent=2)
    if format == "terminal":
        return _terminal(table)
    return _tabulated(table, format)


def run_json(facts: Facts, columns: Sequence[Column] = ()) -> dict[str, Any]:
    """Everything a table knows about one run, for scripts; `included` has the asked-for terms."""
    run, cells, trend = facts.run, facts.cells, facts.trend
    record, status = run.record, run.status
    shown = {key[7:]: value for key, value in cells.items() if key.startswith("matrix.")}
    return {
        "name": record["name"],
        "folder": run.folder,
        "experiment": record.get("experiment"),
        "matrix_id": record.get("matrix_id"),
        "matrix_slug": record.get("matrix_slug"),
        "matrix": record["matrix"],
        "without_effect": sorted(k for k, v in shown.items() if v is None and _set(record, k)),
        "seed": record.get("seed"),
        "trial": record.get("trial"),
        "parameters": record.get("parameters") or {},
        "problems": facts.problems,
        "state": run.state,
        "error": status.get("error"),
        "images": status.get("images"),
        "max_inputs": record.get("max_inputs"),
        "losses": {
            "last": _finite(status.get("last")),
            "best": _finite(status.get("best")),
        },
        "trend": None
        if trend is None
        else {
            "verdict": trend.verdict,
            "change": trend.change,
            "low": trend.low,
            "high": trend.high,
            "span_images": trend.span_images,
            "schedule_ended": trend.schedule_ended,
            "points": trend.points,
            "source": trend.source,
        },
        "seconds": status.get("seconds"),
        "minutes": cells["minutes"],
        "images_per_second": cells["throughput"],
        "data": record.get("data") or {},
        "legacy": record.get("legacy") or [],
        "notes": record.get("notes") or [],
        "extra": record.get("extra") or {},
        "included_over": {
            name: {"heldout_images": count, "of": total}
            for name, (count, total) in evaluated_over(run).items()
            if any(column.key == f"term.{name}" for column in columns)
        },
        "included": {
            column.header: cells.get(column.key)
            for column in columns
            if column.key.startswith("term.")
        },
    }


def _json_runs(table: Table) -> list[dict[str, Any]]:
    return [run_json(fact, table.columns) for group in table.facts for fact in group]


def _json_rows(table: Table) -> list[dict[str, Any]]:
    return [
        {column.header: _finite(row.get(column.key)) for column in table.columns}
        for row in table.rows
    ]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.header for column in table.columns])
    for row in table.rows:
        values = (row.get(column.key) for column in table.columns)
        writer.writerow([show(v, "text") if isinstance(v, list | tuple) else v for v in values])
    return text.getvalue()


def _tabulated(table: Table, format: str) -> str:
    from tabulate import tabulate

    is_html = format == "html"
    clean = str if is_html else _markdown
    # Cells come formatted: tabulate would read "1_000" or "1e5" as numbers again.
    text: str = tabulate(
        [[clean(show(row.get(c.key), c.kind)) for c in table.columns] for row in table.rows],
        headers=[clean(column.header) for column in table.columns],
        tablefmt="html" if is_html else "pipe",
        colalign=["right" if column.is_number else "left" for column in table.columns],
        disable_numparse=True,
    )
    if not table.rows:
        text = text or "no runs"
    if is_html:
        from html import escape

        notes = "".join(f"<p>{escape(note)}</p>\n" for note in table.notes)
        return f"{text}\n{notes}"
    return "\n\n".join([text, *(_markdown(note) for note in table.notes)]) + "\n"


def _terminal(table: Table) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in table.columns:
        made.add_column(
            Text(column.header),
            justify="right" if column.is_number else "left",
            no_wrap=column.key in ("meter", "id"),
        )
    for row in table.rows:
        made.add_row(*(Text(show(row.get(c.key), c.kind)) for c in table.columns))
    text = io.StringIO()
    # As wide as the terminal; without one (a pipe, a file) as wide as the table wants.
    width = None if Console().is_terminal else 10_000
    console = Console(file=text, color_system=None, width=width)
    console.width = min(console.width, max(console.measure(made).maximum, 40))
    console.print(made)
    for note in table.notes:
        console.print(Text(note))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _set(record: dict[str, Any], key: str) -> bool:
    return record["matrix"].get(key) is not None


def _finite(value: Any) -> Any:
    """NaN and infinities as null: scripts in other languages know nothing else."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""Renders tables as text: Markdown, terminal, CSV, JSON, HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from aelab.errors import visible
from aelab.findings import stored_findings
from aelab.report.cells import Column, Facts, RunsTable, cell_text
from aelab.report.harmless import csv_cell, markdown_text
from aelab.runs.atomic import to_json
from aelab.runs.evaluation import evaluated_over


def table_text(
    table: RunsTable, format: str, *, by_run: bool = True, merged: RunsTable | None = None
) -> str:
    """Renders a table as text that ends in a newline.

    Args:
        table: the table to print.
        format: `markdown`, `terminal`, `csv`, `json` or `html`.
        by_run: JSON is a list of runs with all facts; otherwise a list of the table's rows.
        merged: the table with merged repeats; JSON includes each run's row of it.
    """
    if format == "csv":
        return _csv(table)
    if format == "json":
        return to_json(_json_runs(table, merged) if by_run else _json_rows(table), indent=2)
    if format == "terminal":
        return _terminal(table)
    return _tabulated(table, format)


def run_json(facts: Facts, columns: Sequence[Column] = ()) -> dict[str, Any]:
    """All values of a table about one run, for scripts; `included` holds the requested terms."""
    run, cells, trend = facts.run, facts.cells, facts.trend
    record, status = run.record, run.status
    stored = stored_findings(record)
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
        "objective": record.get("objective"),
        "parameters": record.get("parameters") or {},
        "problems": [found.message for found in facts.problems],
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
        "forecast": _forecast(facts),
        "seconds": status.get("seconds"),
        "minutes": cells["minutes"],
        "images_per_second": cells["throughput"],
        "data": record.get("data") or {},
        "legacy": record.get("legacy") or [],
        "findings": [found.as_json() for found in [*facts.problems, *stored]],
        "notes": [found.line() for found in stored],
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


def _forecast(facts: Facts) -> dict[str, Any] | None:
    """The forecast of an unfinished run; only `reason` if there is none."""
    if facts.outlook is None:
        return None
    told, best = facts.outlook.forecast, facts.outlook.best
    if not told.is_told:
        return {"reason": told.reason}
    return {
        "loss": told.loss,
        "low": told.low,
        "high": told.high,
        "images": told.end,
        "best_finished": best,
        "chance_below_best": None if best is None else told.chance_below(best),
    }


def row_json(row: Mapping[str, Any], runs: Sequence[Facts], number: int) -> dict[str, Any]:
    """One row of a table with merged repeats, for scripts."""
    percent, low, high = row.get("difference") or (None, None, None)
    return {
        "number": number,
        "folders": [fact.run.folder for fact in runs],
        "group": row.get("group"),
        "runs": row.get("n", len(runs)),
        "validation_loss": row.get("loss"),
        "std": row.get("spread"),
        "best_loss": row.get("best"),
        "training_loss": row.get("train_loss"),
        "differs_from_best": row.get("differs"),
        "difference_percent": percent,
        "difference_low_percent": low,
        "difference_high_percent": high,
        "seeds_needed": row.get("seeds_needed"),
    }


def _json_runs(table: RunsTable, merged: RunsTable | None) -> list[dict[str, Any]]:
    rows = {
        id(fact.run): row_json(row, facts, number)
        for number, (row, facts) in enumerate(
            zip(merged.rows, merged.facts, strict=True) if merged else (), start=1
        )
        for fact in facts
    }
    return [
        {**run_json(fact, table.columns), "row": _finite(rows.get(id(fact.run)))}
        for group in table.facts
        for fact in group
    ]


def _json_rows(table: RunsTable) -> list[dict[str, Any]]:
    columns = [part for column in table.columns for part in _csv_columns(column, table)]
    return [{header: _finite(value(row)) for header, value in columns} for row in table.rows]


#: Names of columns in CSV and JSON, for headers that would otherwise depend on the runs.
_STEADY_NAMES = {"loss": "validation loss", "spread": "std"}


def _steady_name(column: Column) -> str:
    """A header without the number of images, which depends on the runs: `validation loss (min)`."""
    name, _, what = column.key.partition(" ")
    if name not in _STEADY_NAMES:
        return column.header
    return f"{_STEADY_NAMES[name]} ({what})" if what else _STEADY_NAMES[name]


def _csv(table: RunsTable) -> str:
    """CSV with unrounded values under names that do not depend on the runs; one value in a cell."""
    columns = [part for column in table.columns for part in _csv_columns(column, table)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(header) for header, _ in columns])
    for row in table.rows:
        writer.writerow([csv_cell(_one(value(row))) for _, value in columns])
    return text.getvalue()


def _csv_columns(
    column: Column, table: RunsTable
) -> list[tuple[str, Callable[[Mapping[str, Any]], Any]]]:
    """The CSV columns (header and values) for a column: an interval becomes three columns."""
    key, header = column.key, _steady_name(column)
    if key == "loss":
        alone = all(other.key != "images" for other in table.columns)
        images = [("images", lambda row: row.get("images"))] if alone else []
        return [(header, lambda row: row.get(key)), *images]
    if key == "difference":
        names = ("difference (%)", "difference low (%)", "difference high (%)")
        return [
            (name, lambda row, i=i: (row.get(key) or (None, None, None))[i])  # type: ignore[misc]
            for i, name in enumerate(names)
        ]
    if key == "id" and any(isinstance(row.get(key), list) for row in table.rows):
        return [
            (header, lambda row: _listed(row.get(key))[0]),
            ("ids", lambda row: " ".join(map(str, _listed(row.get(key))))),
        ]
    return [(header, lambda row: row.get(key))]


def _one(value: Any) -> Any:
    """Joins a list to one text; other values unchanged."""
    return cell_text(value, "text") if isinstance(value, list | tuple) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value else [value]


def _tabulated(table: RunsTable, format: str) -> str:

    is_html = format == "html"
    clean = visible if is_html else markdown_text
    # Numbers are formatted already: tabulate would parse "1_000" or "1e5" again.
    text: str = tabulate(
        [[clean(cell_text(row.get(c.key), c.format)) for c in table.columns] for row in table.rows],
        headers=[clean(column.header) for column in table.columns],
        tablefmt="html" if is_html else "pipe",
        colalign=["right" if column.is_number else "left" for column in table.columns],
        disable_numparse=True,
    )
    if not table.rows:
        text = text or "no runs"
    if is_html:
        notes = "".join(f"<p>{escape(visible(note))}</p>\n" for note in table.notes)
        return f"{text}\n{notes}"
    return "\n\n".join([text, *(markdown_text(note) for note in table.notes)]) + "\n"


def _terminal(table: RunsTable) -> str:

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in table.columns:
        made.add_column(
            Text(visible(column.header)),
            justify="right" if column.is_number else "left",
            no_wrap=column.key in ("meter", "id"),
        )
    for row in table.rows:
        made.add_row(*(Text(visible(cell_text(row.get(c.key), c.format))) for c in table.columns))
    text = io.StringIO()
    # As wide as the terminal; without one (a pipe, a file) as wide as the table needs.
    width = None if Console().is_terminal else 10_000
    console = Console(file=text, color_system=None, width=width)
    console.width = min(console.width, max(console.measure(made).maximum, 40))
    console.print(made)
    for note in table.notes:
        console.print(Text(visible(note)))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _set(record: dict[str, Any], key: str) -> bool:
    return record["matrix"].get(key) is not None


def _finite(value: Any) -> Any:
    """Replaces NaN and infinities by null, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

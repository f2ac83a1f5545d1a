"""The contents of the page as plain values: facts of runs, curves and pictures.

`page` puts them into HTML; here only pictures depend on it, as they are data addresses.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.errors import StoreError
from aelab.findings import below_problems, has_figures, stored_findings
from aelab.report import series
from aelab.report.cells import Column, RunsTable, cell_text, data_words, old_formulas
from aelab.report.comparing import compare
from aelab.report.gallery import Pictures
from aelab.report.query import TableQuery
from aelab.report.tables import MOST_GROUPS, make_table, run_order
from aelab.runs.files import read_json
from aelab.runs.record import Run

#: Most points of a curve, and least points if there are many runs.
MOST_POINTS, FEWEST_POINTS = 1000, 24

#: Most numbers in all curves together: about 1.3 MB of JSON.
NUMBERS = 150_000


@dataclass
class PageCell:
    """One cell: its text, and the number or text it is sorted by."""

    text: str
    sort: float | str | None
    kind: str = ""
    share: float = 0.0


@dataclass
class Sheet:
    """A table of the page: headers and rows of cells, and for each row the positions of its runs
    and the number of its group of comparable losses.
    """

    columns: list[Column]
    rows: list[list[PageCell]]
    runs: list[list[int]]
    groups: list[int]
    notes: list[str] = field(default_factory=list)


def in_table_order(runs: Sequence[Run]) -> tuple[list[Run], Sheet, Sheet | None]:
    """The runs in the file's order, a table with a row for each, and one with merged repeats.

    Rows are sorted by loss within each group of comparable losses. The last is None if not needed.
    """
    repeated = any(run.record.get("trial") is not None for run in runs)
    ordered = sorted(runs, key=run_order)
    each = make_table(
        runs, TableQuery(each=True, include=["trial"] if repeated else [], sort=["loss"]), fold=True
    )
    merged = make_table(runs, TableQuery(sort=["loss"]), fold=True)
    positions = {id(run): number for number, run in enumerate(ordered)}
    together = _sheet(merged, positions) if len(merged.rows) < len(each.rows) else None
    return ordered, _sheet(each, positions), together


def _sheet(table: RunsTable, positions: Mapping[int, int]) -> Sheet:
    for row, facts in zip(table.rows, table.facts, strict=True):
        told = dict.fromkeys(p.message for fact in facts for p in fact.problems)
        row["error"] = "; ".join(told) or None
        row["state"] = str(row.get("state") or "").partition(":")[0]
    columns = _page_columns(table)
    rows = [[_cell(row, column) for column in columns] for row in table.rows]
    runs = [[positions[id(fact.run)] for fact in facts] for facts in table.facts]
    order = dict.fromkeys(row.get("group.key") for row in table.rows)
    places = {key: number for number, key in enumerate(order)}
    groups = [places[row.get("group.key")] for row in table.rows]
    return Sheet(columns, rows, runs, groups, table.notes)


def _page_columns(table: RunsTable) -> list[Column]:
    """The columns of the page: the state beside the settings, errors at the end."""
    state, error = Column("state", "state"), Column("error", "error")
    columns = [column for column in table.columns if column.key != "state"]
    place = next((i for i, column in enumerate(columns) if column.key == "loss"), len(columns))
    if len(columns) < len(table.columns):
        columns.insert(place, state)
    if any(row["error"] for row in table.rows):
        columns.append(error)
    return columns


def _cell(row: Mapping[str, Any], column: Column) -> PageCell:
    value = row.get(column.key)
    if column.key == "meter":
        stars = len(value or "")
        return PageCell(value or "", stars or None, "meter", stars / 21)
    text = cell_text(value, column.format)
    kind = column.key if column.key in ("state", "error") else "number" * column.is_number
    if column.key == "trend":
        return PageCell(text, _rate(text), "trend")
    if column.key == "difference" and value is not None:
        value = value[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return PageCell(text, float(value) if math.isfinite(value) else None, kind)
    return PageCell(text, text or None, kind)


def _rate(verdict: str) -> float | None:
    """The percentage in a verdict such as `falling 1.3 % (0.9 to 1.7) ...`; falling is negative."""
    words = verdict.split()
    first = words[0].rstrip(":") if words else ""
    sign = {"falling": -1.0, "rising": 1.0, "flat": 0.0}.get(first)
    if sign is None:
        return None
    try:
        return sign * float(words[1].replace(",", ""))
    except (IndexError, ValueError):
        return 0.0


# --- sentences


def summary(runs: Sequence[Run]) -> list[str]:
    """Summary sentences: the number of runs, the best, the spread."""
    finished = any(run.state == "finished" for run in runs)
    tally = ", ".join(f"{number} {state}" for state, number in states(runs).items())
    sentences = [f"{len(runs)} run{'s' if len(runs) != 1 else ''}: {tally}."]
    scored = sorted(
        (loss, number)
        for number, run in enumerate(runs)
        if (loss := _best_loss(run)) is not None and (run.state == "finished" or not finished)
    )
    if not scored:
        unknown = (
            "There is no validation; the training loss, which the table shows, is not ranked."
            if finished
            else "No validation loss is known yet."
        )
        return [*sentences, unknown, *_data_sentence(runs)]
    compared = compare([runs[number].record for _, number in scored])
    groups: dict[int, list[tuple[float, int]]] = {}
    for entry, group in zip(scored, compared.group, strict=True):
        groups.setdefault(group, []).append(entry)
    keys = [key for key in series.varying_keys(runs) if key not in compared.axes]
    ranked = [number for number in sorted(groups) if compared.is_one or len(groups[number]) > 1]
    for number in ranked[:MOST_GROUPS]:
        sentences += _best_and_worst(runs, groups[number], compared.names[number], keys)
    if len(ranked) > MOST_GROUPS:
        sentences.append(f"And {len(ranked) - MOST_GROUPS} more groups.")
    if compared.reason:
        sentences.insert(1, compared.reason)
    return [*sentences, *_data_sentence(runs)]


def _best_and_worst(
    runs: Sequence[Run], scored: Sequence[tuple[float, int]], group: str, keys: Sequence[str]
) -> list[str]:
    """Up to two sentences about runs whose losses compare, best first.

    The worst setting is left out for repeats of one setting, and if it is 1.00 times the best.
    """
    (low, best), (high, worst) = scored[0], scored[-1]
    at = (runs[best].status.get("best") or {}).get("images")
    when = f" at {at:,} images" if at else ""
    where = f" for {group}" if group else ""
    sentences = [f"Best validation loss{where}: {low:.6g}{when} ({_spelt(runs[best], keys)})."]
    if low > 0 and (times := f"{high / low:.3g}") != "1" and _of_several_settings(runs, scored):
        sentences.append(f"The worst ({_spelt(runs[worst], keys)}) is {times} times that.")
    return sentences


def _of_several_settings(runs: Sequence[Run], scored: Sequence[tuple[float, int]]) -> bool:
    """Whether runs differ in more than the seed."""
    records = [runs[number].record for _, number in scored]
    repeats = seed_keys(run.record for run in runs)
    kinds = {(r.get("experiment"), matrix_key(r["matrix"], without=repeats)) for r in records}
    return len(kinds) > 1


def _data_sentence(runs: Sequence[Run]) -> list[str]:
    words = dict.fromkeys(words for run in runs if (words := data_words(run.record)))
    if not words:
        return []
    listed = list(words)
    more = f"; and {len(listed) - 6} more" if len(listed) > 6 else ""
    return [f"Trained on: {'; '.join(listed[:6])}{more}."]


def _spelt(run: Run, keys: Sequence[str]) -> str:
    """The settings that distinguish a run: `ds=mnist, res=28`."""
    matrix = run.record.get("matrix") or {}
    parts = [f"{key}={series.value_text(matrix[key])}" for key in keys if key in matrix]
    trial = run.record.get("trial")
    return ", ".join([*parts, *([] if trial is None else [f"trial {trial}"])]) or series.run_name(
        run
    )


def _best_loss(run: Run) -> float | None:
    value = (run.status.get("best") or {}).get("loss")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def states(runs: Sequence[Run]) -> dict[str, int]:
    """State -> number of runs, finished first."""
    early = "stopped early"
    counted = [early if run.state_words == early else run.state for run in runs]
    order = (
        "finished",
        "running",
        "waiting",
        early,
        "interrupted",
        "failed",
        *sorted(set(counted)),
    )
    return {state: counted.count(state) for state in order if state in counted}


def warnings(runs: Sequence[Run]) -> list[str]:
    """Warnings for readers who compare runs: failures, legacy objectives, replaced data."""
    found = []
    old = [run for run in runs if old_formulas(run.record)]
    if old:
        kinds = sorted({kind for run in old for kind in old_formulas(run.record)})
        found.append(
            f"{len(old)} of {len(runs)} runs use legacy formulas ({', '.join(kinds)}): "
            "compare their losses with published tables of the old runner, not with other runs."
        )
    for name, note in sorted(
        {(str(e.get("name")), str(e["note"])) for e in all_data(runs) if e.get("note")}
    ):
        found.append(f"Data set {name}: {note}")
    failed = [run for run in runs if run.state == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(runs)} runs failed; the reasons are below the table.")
    stored = [own for run in runs for own in stored_findings(run.record)]
    count = Counter(own.code for own in stored)
    told: dict[str, str] = {}
    for own in below_problems(stored):
        if own.code == "data-source":
            continue
        if has_figures(own):  # the first stands for all
            more = f" ({count[own.code]} of {len(runs)} runs)" if count[own.code] > 1 else ""
            told.setdefault(own.code, f"{own.line()}{more}")
        else:
            told.setdefault(own.line(), own.line())
    return found + list(told.values())


def failures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each different error with its hint and the names of the runs it ended."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, run in zip(series.labels(runs)[1], runs, strict=True):
        error = run.status.get("error") or {}
        if error.get("message"):
            kind = f"{error['type']}: " if error.get("type") else ""
            key = (f"{kind}{error['message']}", str(error.get("hint") or ""))
            found.setdefault(key, []).append(name)
    return [{"message": m, "hint": h, "runs": names} for (m, h), names in found.items()]


def all_data(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """Sources of all runs, each once, with `split` and how many `runs` used it."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        data = run.record.get("data") or {}
        for split in ("train", "validation"):
            for entry in data.get(split) or []:
                key = json.dumps([split, entry], sort_keys=True, default=str)
                found.setdefault(key, {**entry, "split": split, "runs": 0})["runs"] += 1
    return list(found.values())


def environments(runs: Sequence[Run]) -> list[tuple[list[int], dict[str, str]]]:
    """Each different environment, flattened, with the positions of its runs."""
    found: dict[str, tuple[list[int], dict[str, str]]] = {}
    for number, run in enumerate(runs):
        try:
            flat = dict(_flatten(read_json(run.path / "environment.json")))
        except StoreError:
            continue
        found.setdefault(json.dumps(flat, sort_keys=True), ([], flat))[0].append(number)
    return list(found.values())


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flatten(entry, f"{prefix}{key}.")
        elif key == "command" and isinstance(entry, list):
            yield f"{prefix}{key}", shlex.join(map(str, entry))
        elif entry not in (None, "", []):
            yield f"{prefix}{key}", series.value_text(entry)


# --- data of the script


def script_data(runs: Sequence[Run]) -> dict[str, Any]:
    """All data that the page's script draws, as values for JSON (null in place of NaN)."""
    heading, names = series.labels(runs)
    keys = series.varying_keys(runs)
    colours = {key: series.group_colours(runs, key) for key in keys}
    pictures = Pictures(runs)
    rows = [_metrics(run) for run in runs]
    units = dict(series.UNITS)
    for run in runs:
        units.update(run.record.get("units") or {})
    return {
        "heading": heading,
        "runs": [_about(run, name, number) for number, (run, name) in enumerate(zip(runs, names))],  # noqa: B905
        "groups": colours,
        "rest": {key: series.other_values(runs, key) for key in keys},
        "dashes": [list(dash) for dash in series.DASHES],
        "terms": series.curve_terms(rows),
        "units": units,
        "curves": curves(rows),
        "pictures": pictures.addresses,
        "reproductions": pictures.splits,
        "exact": pictures.encoding.quality is None,
    }


def _about(run: Run, name: str, number: int) -> dict[str, Any]:
    turn, colour = divmod(number, len(series.PALETTE))
    matrix = run.record.get("matrix") or {}
    return {
        "label": name,
        "folder": run.folder,
        "state": run.state,
        "loss": _digits((run.status.get("last") or {}).get("loss")),
        "colour": series.PALETTE[colour],
        "dash": list(series.DASHES[turn % len(series.DASHES)]),
        "matrix": {key: series.value_text(value) for key, value in matrix.items()},
    }


def _metrics(run: Run) -> list[dict[str, Any]]:
    try:
        return run.metrics()
    except StoreError:  # the table reports the damage
        return []


def curves(all_rows: Sequence[series.Rows]) -> list[dict[str, dict[str, list[float | None]]]]:
    """Per run and split: columns of numbers of equal length, thinned to the size of a page.

    Values have 7 digits, the precision of the float32 they were computed in.
    """
    limit = MOST_POINTS
    sizes = [_size(rows) for rows in all_rows]
    while limit > FEWEST_POINTS and sum(_cost(size, limit) for size in sizes) > NUMBERS:
        limit = max(FEWEST_POINTS, int(limit * 0.9))
    return [
        {split: _columns(rows, split, limit) for split in ("train", "validation")}
        for rows in all_rows
    ]


def _size(rows: series.Rows) -> dict[str, tuple[int, int]]:
    """Per split: number of rows and of columns."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        count, width = found.get(str(row.get("split")), (0, 0))
        found[str(row.get("split"))] = (count + 1, max(width, len(row) - 2))
    return found


def _cost(size: Mapping[str, tuple[int, int]], limit: int) -> int:
    return sum(min(count, limit) * width for count, width in size.values())


def _columns(rows: series.Rows, split: str, limit: int) -> dict[str, list[float | None]]:
    chosen = [row for row in rows if row.get("split") == split and "images" in row]
    terms = series.curve_terms([chosen])
    loss = series.points(chosen, terms[0], "images", split).y if terms else []
    kept = series.thin(loss, limit) if len(loss) == len(chosen) else range(len(chosen))
    names = ["images", "seconds", *terms]
    return {name: [_digits(chosen[i].get(name)) for i in kept] for name in names}


def _digits(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.7g}")


def which_pictures(runs: Sequence[Run]) -> str:
    """A sentence on which images are shown, of how many; empty if not recorded."""
    words: dict[str, None] = {}
    for run in runs:
        shown, data = run.record.get("shown") or {}, run.record.get("data") or {}
        for split, key, what in (
            ("heldout", "validation", "held-out images"),
            ("train", "train", "training images"),
        ):
            sets = data.get(key) or []
            if shown.get(split) and len(sets) == 1 and sets[0].get("count"):
                words[f"{len(shown[split]):,} of {sets[0]['count']:,} {what}"] = None
    if not words:
        return ""
    few = list(words)[:4] + (["..."] if len(words) > 4 else [])
    return f"Shown: {'; '.join(few)}: a random draw, one of each class in turn."

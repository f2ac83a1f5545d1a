"""The result table: runs as rows, settings and outcomes as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from aelab.analysis.effects import without_effect
from aelab.errors import UserError, did_you_mean, one_of
from aelab.findings import has_figures, stored_findings
from aelab.parts import Table
from aelab.report.cells import (
    EVALUATED,
    Column,
    Facts,
    Format,
    RunsTable,
    cell_text,
    gather,
    is_diverged,
    term_value,
    terms_with_values,
    validated_value,
)
from aelab.report.comparing import Comparison, compare, terms
from aelab.report.evaluated import evaluated_notes
from aelab.report.listing import listing
from aelab.report.outlook import outlooks
from aelab.report.query import DEFAULT, TableQuery
from aelab.report.render import table_text
from aelab.report.repeats import (
    REPEATS,
    VERDICT,
    average_rows,
    interval_key,
    merge_repeats,
)
from aelab.report.texts import below_table
from aelab.report.twins import twin_notes, twins_of, unmentioned
from aelab.runs.record import Run
from aelab.runs.store import natural

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "OPTIONAL",
    "OUTCOMES",
    "Layout",
    "listing",
    "make_table",
    "meter",
    "table",
]

FORMATS = ("markdown", "terminal", "csv", "json", "html")

#: Shown if not all losses compare: the group within which a loss compares.
GROUP = Column("group", "group")

#: Column of the stars of `meter`.
METER = Column("meter", "meter")

#: Shown if runs have no validation.
TRAIN_LOSS = Column("train_loss", "training loss", "loss", ("train_loss",))

#: Columns that can only sort runs within a group.
OF_LOSS = frozenset({"loss", "best", "spread", "meter", "difference"})

#: Most matrix keys of only some runs that still get a column each.
MOST_OWN_KEYS = 4

#: Most groups whose best is named below a table.
MOST_GROUPS = 8

#: Columns that a table may have in front of `OUTCOMES`, besides those of the matrix.
USUAL = (
    Column("id", "id", "text", ("matrix_id",)),
    Column("loss", "validation loss", "loss", ("validation_loss",)),
    TRAIN_LOSS,
    METER,
    GROUP,
    Column("best", "best loss", "loss"),
    *REPEATS,
    *VERDICT,
)

#: Columns after the losses, in order.
OUTCOMES = (
    Column("parameters", "parameters", "count", ("model params", "params")),
    Column("minutes", "minutes", "minutes", ("train time (minutes)",)),
    Column("throughput", "images/s", "rate", ("throughput",)),
    Column("usage", "codebook used", "share", ("codebook_usage",)),
    Column("perplexity", "codebook perplexity", "rate", ("codebook_perplexity",)),
    Column("accuracy", "characters right", "share"),
    Column("accuracy_without_spaces", "right without spaces", "share"),
    Column("blank", "blank", "share", ("blank_share",)),
    Column("trend", "trend", "text"),
    Column("forecast", "forecast", "text"),
    Column("objective", "objective", "text", ("legacy",)),
    Column("note", "note", "text"),
    Column("tags", "tags", "text"),
    Column("notes", "notes", "text"),
    Column("state", "state", "text", ("error",)),
)
#: Columns shown only if requested by `include`.
OPTIONAL = {
    column.key: column
    for column in (
        Column("slug", "matrix_slug"),
        Column("run", "run", "text", ("folder", "name")),
        Column("images", "images", "count"),
        Column("best_at", "best at (images)", "count"),
        Column("seed", "seed", "count"),
        Column("trial", "trial", "count"),
        Column("epoch", "epoch", "count"),
        Column("seconds", "seconds", "rate"),
        Column("cpu_minutes", "CPU minutes", "minutes"),
        Column("experiment", "experiment"),
        Column("flops", "FLOPs per image, forward", "count", ("FLOPs per image",)),
        Column("encoder", "encoder parameters", "count"),
        Column("decoder", "decoder parameters", "count"),
        Column("latent", "latent shape", "value"),
        Column("data", "data"),
    )
}


def table(runs: Sequence[Run], query: TableQuery = DEFAULT) -> str:
    """The result table as text.

    Raises:
        UserError: for an unknown column or format, with the nearest name.
    """
    format = query.format
    if format not in FORMATS:
        raise UserError(
            f"unknown table format {format!r}{did_you_mean(format, FORMATS)}",
            hint=f"possible: {one_of(FORMATS)}",
        )
    as_runs = format == "json" and query.average is None

    def made(*, each: bool) -> RunsTable:
        """Makes the table, with a row for each run if `each`."""
        asked = replace(query, each=each)
        return make_table(runs, asked, twins=not as_runs, fold=format not in ("csv", "json"))

    merged = made(each=query.each) if as_runs else None
    shown = table_text(
        made(each=query.each or as_runs), format, by_run=query.average is None, merged=merged
    )
    return shown + (f"\n{below_table(runs, format)}" if query.text else "")


def make_table(
    runs: Sequence[Run],
    query: TableQuery = DEFAULT,
    *,
    twins: bool = False,
    fold: bool = False,
) -> RunsTable:
    """The result table as values.

    Args:
        runs: stored runs, finished or not.
        query: the options; `format` and `text` are not used here.
        twins: with `each`: add a row for each run that was not trained because it equals another
            one, with the facts of that one.
        fold: if files of different matrices would make the table wide, put the keys that not all
            of them have into one column `settings`.

    Raises:
        UserError: for an unknown column, with the nearest name.
    """
    layout = LAYOUTS.find(query.layout)
    each = query.each or layout.is_plain
    if query.interval and (each or query.average is not None):
        raise UserError(
            "--interval is about runs merged into one row, which this table does not do",
            hint="leave out --each, --average and --legacy-headers",
        )
    runs = sorted(runs, key=run_order)
    no_effect = without_effect([{**run.record, "folder": str(run.path)} for run in runs])
    ahead = outlooks(runs)
    facts = [
        gather(run, no_effect[str(run.path)] | unmentioned(run), ahead.get(str(run.path)))
        for run in runs
    ]
    if query.each and twins:
        facts = [fact for own in facts for fact in (own, *twins_of(own, runs))]
    matrix = list(dict.fromkeys(key for run in runs for key in run.record["matrix"]))
    included = [_included(name, runs) for name in (*query.include, *_new(query.columns, matrix))]
    for fact in facts:
        _add_terms(fact, included)
    notes = _number_notes(facts)
    asked = [
        column.header.removeprefix(EVALUATED)
        for column in included
        if column.key.startswith("term.")
    ]
    notes += evaluated_notes(runs, asked)
    compared = _compare(facts)
    grouped = not (compared.is_one or layout.is_plain)
    if grouped:
        included += [column for column in _term_columns(facts) if column not in included]
    columns = layout.columns(facts, matrix, included)
    if grouped:
        place = next(i for i, column in enumerate(columns) if column.key == "loss")
        columns.insert(place, GROUP)
    if query.average is not None:
        rows, groups, columns = average_rows(facts, columns, query.average, query.average_std)
    elif each:
        rows, groups = [dict(fact.cells) for fact in facts], [[fact] for fact in facts]
    else:
        rows, groups, columns, more = merge_repeats(facts, columns, interval=query.interval)
        notes = [*more, *notes]
    notes = [*twin_notes(groups), *notes]
    made = RunsTable(columns, rows, groups, notes)
    if compared.reason:
        made.notes = [compared.reason, _best_of_groups(made), *notes]
    _add_meter(made, together=layout.is_plain)
    _sort(made, query.sort)
    made.columns = _without(made.columns, query.exclude)
    if query.columns:
        made.columns = _only(made.columns, query.columns)
    elif fold:
        _fold(made, runs)
    return made


def meter(losses: Sequence[float | None]) -> list[str]:
    """Stars that grow with the loss: 1 for the best to 21 for the worst.

    Args:
        losses: losses; None, NaN and infinities get no star.

    Returns:
        One text for each loss; all empty if fewer than two different losses are finite.

    Source: the runner of the founding documents, int((loss - min) / (max - min) * 20 + 1).
    """
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if low == high:
        return ["" for _ in losses]
    return [
        "*" * int((loss - low) / (high - low) * 20 + 1)
        if loss is not None and math.isfinite(loss)
        else ""
        for loss in losses
    ]


def run_order(run: Run) -> Any:
    """Sort key: runs of a file in the order of its matrix and of the values in the file."""
    record = run.record
    number = str(record.get("matrix_id") or "")
    return (
        natural(str(record.get("experiment") or "")),
        natural(number) if number else natural(run.folder),
        record.get("trial") or 0,
        natural(run.folder),
    )


class Layout:
    """A layout of tables; packages can add some by the entry-point group of `LAYOUTS`.

    Attributes:
        is_plain: one row for each run and one meter over all; nothing is grouped or merged.
    """

    is_plain: ClassVar[bool] = False

    def columns(
        self, facts: list[Facts], matrix: list[str], included: list[Column]
    ) -> list[Column]:
        """All columns with values.

        Args:
            facts: facts of each run; values may be added to its cells.
            matrix: matrix keys of the runs.
            included: requested columns.
        """
        columns = [Column("id", "id", "text", ("matrix_id",))]
        if not matrix or _many_experiments(facts):
            columns = [OPTIONAL["run"]]
        columns += [*matrix_columns(facts, matrix), *_loss_columns(facts)]
        if any(fact.cells.get("train_loss") is not None for fact in facts):
            columns.append(TRAIN_LOSS)
        columns += [METER, Column("best", "best loss", "loss"), *included, *extra_columns(facts)]
        columns += [column for column in OUTCOMES if _worth_showing(facts, column.key)]
        return distinct_columns(columns)


#: Layouts by name, see `TableQuery.layout`.
LAYOUTS: Table[Layout] = Table("table layout", "aelab.table_layouts", {"usual": Layout()})


def matrix_columns(facts: list[Facts], matrix: list[str]) -> list[Column]:
    """A column for each key of the matrices."""
    formats: dict[bool, Format] = {True: "loss", False: "value"}
    return [
        Column(f"matrix.{key}", key, formats[_all_numbers(facts, f"matrix.{key}")])
        for key in matrix
    ]


def extra_columns(facts: list[Facts]) -> list[Column]:
    """A column for each value reported by blocks of the files (EXTRA_VALUES)."""
    keys = dict.fromkeys(key for fact in facts for key in fact.cells if key.startswith("extra."))
    return [Column(key, key.removeprefix("extra."), "loss") for key in keys]


def distinct_columns(columns: Sequence[Column]) -> list[Column]:
    """Removes repeated columns and keeps the order."""
    return list({column.key: column for column in columns}.values())


def images_of_losses(facts: list[Facts]) -> list[int]:
    """The numbers of images at which the runs' losses were measured, ascending."""
    return sorted({fact.cells["images"] for fact in facts if fact.loss is not None})


def _loss_columns(facts: list[Facts]) -> list[Column]:
    clocks = images_of_losses(facts)
    if len(clocks) == 1:
        header = f"validation loss ({clocks[0]:,} images)"
        return [Column("loss", header, "loss", ("validation loss", "validation_loss"))]
    return [
        Column("loss", "validation loss", "loss", ("validation_loss",)),
        Column("images", "images", "count"),
    ]


def _fold(made: RunsTable, runs: Sequence[Run]) -> None:
    """Puts matrix keys that not all runs have into one column, if there are many."""
    sets = [set(run.record["matrix"]) for run in runs]
    shared = set.intersection(*sets) if sets else set()
    own = [c for c in made.columns if c.key.startswith("matrix.") and c.key[7:] not in shared]
    if len(own) <= MOST_OWN_KEYS:
        return
    for row in made.rows:
        told = [(c.header, row.get(c.key), c.format) for c in own if row.get(c.key) is not None]
        row["settings"] = ", ".join(
            f"{key}={cell_text(value, format)}" for key, value, format in told
        )
    place = made.columns.index(own[0])
    kept = [column for column in made.columns if column not in own]
    made.columns = [*kept[:place], Column("settings", "settings"), *kept[place:]]


def _worth_showing(facts: list[Facts], key: str) -> bool:
    values = [fact.cells.get(key) for fact in facts]
    if key == "state":
        return any(value != "finished" for value in values)
    return any(value is not None for value in values)


def _many_experiments(facts: list[Facts]) -> bool:
    ids = [fact.cells["id"] for fact in facts if not fact.run.record.get("trial")]
    return len({fact.cells["experiment"] for fact in facts}) > 1 or len(set(ids)) < len(ids)


def _all_numbers(facts: list[Facts], key: str) -> bool:
    values = [fact.cells[key] for fact in facts if fact.cells.get(key) is not None]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _included(name: str, runs: Sequence[Run]) -> Column:
    for column in (*OPTIONAL.values(), *OUTCOMES):
        if name in (column.key, column.header, *column.aliases):
            return column
    if any(term_value(run, name) is not None for run in runs) or not runs:
        return Column(f"term.{name}", name, "loss")
    choices = [*terms_with_values(runs), *OPTIONAL]
    raise UserError(
        f"no run has logged {name!r}{did_you_mean(name, choices)}",
        hint=f"possible: {one_of(choices)}; with `train_` or `validation_` before a term: "
        "of that split; with `evaluated_`: by aelab evaluate",
    )


def _add_terms(fact: Facts, included: Sequence[Column]) -> None:
    for column in included:
        if column.key.startswith("term."):
            fact.cells[column.key] = term_value(fact.run, column.header)


def _number_notes(facts: list[Facts]) -> list[str]:
    """Lines on the data of the runs and further remarks.

    A line gets a number, which the runs' `note` refers to, if the source has a remark or the remark
    does not concern all runs. Lines without such a reference have no number.
    """
    lines: dict[str, None] = {}
    referred: dict[str, list[Facts]] = {}
    alike: dict[str, str] = {}
    common = _common_remarks(facts, alike)
    for fact in facts:
        data: dict[str, Any] = fact.run.record.get("data") or {}
        own: dict[str, None] = {}
        for entry in (*(data.get("train") or []), *(data.get("validation") or [])):
            line = (
                f"{entry.get('name')}: {entry.get('count', 0):,} images, {entry.get('source')}"
                f", sha256 {str(entry.get('sha256', ''))[:12]}"
            )
            line += f": {entry['note']}" if entry.get("note") else ""
            lines[line] = None
            own |= {line: None} if entry.get("note") else {}
        for remark in _remarks(fact, alike):
            lines[remark] = None
            own |= {remark: None} if remark not in common else {}
        for line in own:
            referred.setdefault(line, []).append(fact)
        fact.cells["note"] = None
    marks = {line: f"[{number}]" for number, line in enumerate(filter(referred.get, lines), 1)}
    for line, mark in marks.items():
        for fact in referred[line]:
            fact.cells["note"] = ", ".join(filter(None, (fact.cells["note"], mark)))
    return [f"{marks[line]} {line}" if line in marks else line for line in lines]


def _common_remarks(facts: list[Facts], alike: dict[str, str]) -> set[str]:
    """Remarks that concern every run that was built; one that never was has none."""
    built = [fact for fact in facts if {"findings", "notes"} & fact.run.record.keys()]
    told = [set(_remarks(fact, alike)) for fact in built]
    return set.intersection(*told) if told else set()


def _remarks(fact: Facts, alike: dict[str, str]) -> list[str]:
    """Remarks on a run, a line each, except those of data sources, which have their own line.

    Args:
        alike: code -> the line used for all runs with the same fault but different numbers.
    """
    found = stored_findings(fact.run.record)
    return [
        alike.setdefault(own.code, own.line()) if has_figures(own) else own.line()
        for own in found
        if own.code != "data-source"
    ]


def _compare(facts: list[Facts]) -> Comparison:
    """Groups the runs by comparable losses and stores each run's `group` in its cells."""
    scored = [fact for fact in facts if fact.loss is not None]
    compared = compare([fact.run.record for fact in scored])
    for fact, number in zip(scored, compared.group, strict=True):
        fact.cells["group"] = compared.names[number] or None
        fact.cells["group.key"] = (number,)
    return compared


def _term_columns(facts: list[Facts]) -> list[Column]:
    """Columns of the unweighted terms, if objectives differ."""
    objectives = {fact.run.record.get("objective") for fact in facts if fact.loss is not None}
    if len(objectives) < 2:
        return []
    names = dict.fromkeys(name for fact in facts for name in terms(fact.run.record))
    columns = [Column(f"term.{name}", name, "loss") for name in names]
    for column in columns:
        for fact in facts:
            fact.cells[column.key] = validated_value(fact.run, column.header)
    return [c for c in columns if any(fact.cells[c.key] is not None for fact in facts)]


def _best_of_groups(made: RunsTable) -> str:
    """Text `at res=24: net=conv (0.1062)` for each group with several finished rows."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row, facts in zip(made.rows, made.facts, strict=True):
        done = all(fact.run.state == "finished" for fact in facts)
        if done and row.get("loss") is not None and math.isfinite(row["loss"]):
            groups.setdefault(row.get("group.key"), []).append(row)
    told = []
    for rows in groups.values():
        if len(rows) > 1:
            best = min(rows, key=lambda row: row["loss"])
            told.append(
                f"at {best['group']}: {_spelt(best, rows)} ({cell_text(best['loss'], 'loss')})"
            )
    if not told:
        return "They are not ranked."
    more = f"; and {len(told) - MOST_GROUPS} more groups" if len(told) > MOST_GROUPS else ""
    return f"Best within each group, {'; '.join(told[:MOST_GROUPS])}{more}."


def _spelt(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The settings that distinguish a row from others: `net=conv`."""
    varying = [
        key
        for key in row
        if key.startswith("matrix.")
        and row[key] is not None
        and len({cell_text(other.get(key), "value") for other in rows}) > 1
    ]
    words = [f"{key[7:]}={cell_text(row[key], 'value')}" for key in varying]
    return ", ".join(words) or cell_text(row.get("run"), "text")


def _add_meter(made: RunsTable, *, together: bool) -> None:
    """Adds stars, within each group of comparable losses or over all losses."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row, facts in zip(made.rows, made.facts, strict=True):
        # A loss of 1e27 would give all others one star; a partial mean does not compare.
        if row.get("partial") or all(is_diverged(fact.run) for fact in facts):
            row["meter"] = None
            continue
        groups.setdefault(None if together else row.get("group.key"), []).append(row)
    for rows in groups.values():
        for row, stars in zip(rows, meter([_row_loss(row) for row in rows]), strict=True):
            row["meter"] = stars or None
    if not any(row["meter"] for row in made.rows):
        made.columns = [column for column in made.columns if column.key != "meter"]


def _row_loss(row: dict[str, Any]) -> float | None:
    loss: float | None = row.get("loss")
    return loss


def _sort(made: RunsTable, keys: Sequence[str]) -> None:
    order = list(range(len(made.rows)))
    for name in reversed(keys):
        key, descending = _sort_key(made.columns, name)
        values = [row.get(key) for row in made.rows]
        empty = [i for i in order if values[i] is None]
        filled = [i for i in order if values[i] is not None]
        filled.sort(key=lambda i: _comparable(values[i]), reverse=descending)
        if key in OF_LOSS:  # losses of different groups do not compare
            filled.sort(key=lambda i: made.rows[i].get("group.key") or ())
        order = filled + empty  # rows without a value come last in both orders
    made.rows = [made.rows[i] for i in order]
    made.facts = [made.facts[i] for i in order]


def _sort_key(columns: list[Column], name: str) -> tuple[str, bool]:
    exact = {word: column for column in reversed(columns) for word in _words(column)}
    if name.lower() in exact:
        return exact[name.lower()].key, False
    descending = name.startswith("-") or name.endswith("-")
    return _find(columns, name.strip("-") if descending else name).key, descending


def _find(columns: list[Column], name: str) -> Column:
    """The column called `name`, or the first whose name contains it."""
    wanted = name.lower()
    for column in columns:
        if wanted in _words(column):
            return column
    for column in columns:
        if wanted and any(wanted in word for word in _words(column)):
            return column
    headers = [column.header for column in columns]
    raise UserError(
        f"the table has no column {name!r}{did_you_mean(name, headers)}",
        hint=f"possible: {', '.join(headers)}",
    )


def _without(columns: list[Column], names: Sequence[str]) -> list[Column]:
    """Leaves columns out; a known column that has no values now may be missing."""
    sometimes = {word for column in (*OUTCOMES, *OPTIONAL.values()) for word in _words(column)}
    sometimes |= {"meter", "±", "runs", "group"}
    sometimes |= {word for column in (*VERDICT, TRAIN_LOSS) for word in _words(column)}
    absent = sometimes - {word for column in columns for word in _words(column)}
    unwanted = {_find(columns, name).key for name in names if name.lower() not in absent}
    return [column for column in columns if column.key not in unwanted]


def _new(names: Sequence[str], matrix: Sequence[str]) -> list[str]:
    """Those of the wanted columns that a table has only if they are included."""
    usual = {word for column in (*USUAL, *OUTCOMES) for word in _words(column)}
    return [name for name in names if name not in matrix and name.lower() not in usual]


def _only(columns: list[Column], names: Sequence[str]) -> list[Column]:
    """The wanted columns in the wanted order; a known column that has no values is missing.

    The interval of a column comes with it.
    """
    kept: list[Column] = []
    for name in names:
        found = next((c for c in columns if name.lower() in _words(c)), None)
        if found is not None:
            kept += [c for c in columns if c.key in (found.key, interval_key(found))]
    return distinct_columns(kept)


def _words(column: Column) -> list[str]:
    bare = column.key.partition(".")[2]
    names = (column.header, column.key, bare, *column.aliases)
    return [name.lower() for name in names if name]


def _comparable(value: Any) -> tuple[int, float, list[tuple[int, int, str]]]:
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    if isinstance(value, int | float):
        return (1, 0.0, []) if math.isnan(value) else (0, float(value), [])
    return 2, 0.0, natural(str(value))

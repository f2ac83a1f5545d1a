"""Result tables as pandas data frames, with column names that do not depend on the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aelab.errors import MissingExtra
from aelab.report.cells import Facts
from aelab.report.query import DEFAULT, TableQuery
from aelab.report.tables import make_table
from aelab.runs.record import Run

if TYPE_CHECKING:
    import pandas

Row = Mapping[str, Any]

Value = Callable[[Row, Sequence[Facts]], Any]


def _entry(name: str) -> Value:
    """The value of a row's entry, as the table calls it."""
    return lambda row, facts: row.get(name)


def _bound(place: int) -> Value:
    """One of the three numbers of the difference from the best row."""
    return lambda row, facts: _difference(row, place)


#: Columns of every frame -> function for a row's value. Matrix keys follow after `folders`.
COLUMNS: dict[str, Value] = {
    "run": lambda row, facts: facts[0].run.folder,
    "folders": lambda row, facts: tuple(fact.run.folder for fact in facts),
    "runs": lambda row, facts: len(facts),
    "seeds": lambda row, facts: tuple(fact.seed for fact in facts),
    "group": _entry("group"), "validation_loss": _entry("loss"), "std": _entry("spread"),
    "best_loss": _entry("best"), "training_loss": _entry("train_loss"),
    "differs_from_best": _entry("differs"), "difference_percent": _bound(0),
    "difference_low_percent": _bound(1), "difference_high_percent": _bound(2),
    "seeds_needed": _entry("seeds_needed"), "images": _entry("images"),
    "parameters": _entry("parameters"), "minutes": _entry("minutes"),
    "images_per_second": _entry("throughput"), "trend": _entry("trend"),
    "forecast": _entry("forecast"), "objective": _entry("objective"), "note": _entry("note"),
    "state": _entry("state"),
}  # fmt: skip
#: Numeric columns, also if a table has no value in them.
_NUMBERS = (
    "validation_loss", "std", "best_loss", "training_loss", "difference_percent",
    "difference_low_percent", "difference_high_percent", "seeds_needed", "minutes",
    "images_per_second",
)  # fmt: skip


def frame(runs: Sequence[Run], query: TableQuery = DEFAULT) -> pandas.DataFrame:
    """The result table as a data frame: one row for each setting, with spread and verdict.

    The columns `COLUMNS` always exist; unknown values are NaN or None. Each matrix key is a column
    of its name, or `matrix.NAME` if one of `COLUMNS` has that name. Then follows a column for each
    term of `query.include`.

    Args:
        runs: stored runs.
        query: as for the table; `format`, `exclude` and layout are ignored.

    Raises:
        MissingExtra: pandas is not installed.
        UserError: for an unknown column, with the nearest name.
    """
    try:
        import pandas
    except ImportError:
        raise MissingExtra("a data frame", "pandas", "frames") from None
    table = make_table(runs, query)
    keys = dict.fromkeys(key for row in table.rows for key in row if key.startswith("matrix."))
    names = list(COLUMNS)
    place = names.index("folders") + 1
    columns: dict[str, list[Any]] = {}
    for name in [*names[:place], *keys, *names[place:]]:
        if name in COLUMNS:
            value = COLUMNS[name]
            columns[name] = [
                value(row, facts) for row, facts in zip(table.rows, table.facts, strict=True)
            ]
        else:
            bare = name.removeprefix("matrix.")
            columns[name if bare in COLUMNS else bare] = [row.get(name) for row in table.rows]
    for column in table.columns:
        if column.key.startswith("term."):
            columns[column.key.removeprefix("term.")] = [row.get(column.key) for row in table.rows]
    made = pandas.DataFrame(columns)
    for name in _NUMBERS:
        made[name] = pandas.to_numeric(made[name])
    return made


def _difference(row: Row, place: int) -> float | None:
    value: float | None = (row.get("difference") or (None, None, None))[place]
    return value

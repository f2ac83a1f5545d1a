"""Options of the result table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableQuery:
    """The options of `aelab table`, `Lab.table` and `report.tables.table`.

    Attributes:
        sort: columns to sort by, the first is primary; `-name` or `name-` sorts in descending
            order. A part of a column's name is enough.
        include: more columns: a logged term (`kl`, `train_kl`) or one of `report.tables.OPTIONAL`.
        exclude: columns to leave out.
        columns: only these columns, in this order: matrix keys, logged terms, or names of columns.
        interval: with each included term and time, half the width of the interval that holds the
            mean over repeats with 95 % (Student's t).
        average: a matrix key over which to average.
        average_std: with `average`: columns that get smallest, largest and standard deviation.
        each: show repeated runs (seeds, trials, settings without effect) one by one; otherwise
            they are one row with mean and spread.
        layout: `usual`, or another of `report.tables.LAYOUTS`.
        format: `markdown`, `terminal`, `csv`, `json` (a list of runs, each with its `row` of the
            table) or `html`.
        text: add, below the table, an example of each run that outputs ASCII art.
    """

    sort: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    columns: Sequence[str] = ()
    interval: bool = False
    average: str | None = None
    average_std: Sequence[str] = ()
    each: bool = False
    layout: str = "usual"
    format: str = "markdown"
    text: bool = False


#: Default: repeats merged into one row, all columns with values, Markdown.
DEFAULT = TableQuery()

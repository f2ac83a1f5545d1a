"""Converts rows of metrics to columns for plots and statistics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

#: Entries of a row that give its time and are not terms of the objective.
CLOCKS = ("images", "seconds", "epoch")


class Curve(NamedTuple):
    """One quantity over a clock, both as plain lists of equal length."""

    x: list[float]
    y: list[float]


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Converts rows to one list of numbers per name, of equal length; NaN for missing values."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row if name != "split")
    return {name: [_number(row.get(name)) for row in rows] for name in names}


def curve(rows: Iterable[Mapping[str, Any]], term: str = "loss", x: str = "images") -> Curve:
    """The curve of one term over images or seconds; rows without either are left out, NaN stays.

    Args:
        rows: rows of metrics of one split.
        term: `loss` or another logged name.
        x: `images`, `seconds` or `epoch`.
    """
    pairs = [(_number(row[x]), _number(row[term])) for row in rows if x in row and term in row]
    return Curve([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def judged(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows with the loss of the final objective as `loss`, even during a warm-up of a weight.

    Training rows hold the minimised loss as `loss`, that of the final objective as `loss_final`.
    """
    return [{**row, "loss": row["loss_final"]} if "loss_final" in row else row for row in rows]


def term_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all logged quantities in order of first appearance, without clocks."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name != "split" and name not in CLOCKS]


def in_blocks(points: Curve, most: int) -> Curve:
    """Reduces a curve to at most `most` means of neighbouring points, unless it is shorter."""
    count = len(points.x)
    if count <= most:
        return points
    edges = [round(i * count / most) for i in range(most + 1)]
    spans = list(itertools.pairwise(edges))
    return Curve(
        [math.fsum(points.x[a:b]) / (b - a) for a, b in spans],
        [math.fsum(points.y[a:b]) / (b - a) for a, b in spans],
    )


def _number(value: Any) -> float:
    if isinstance(value, Sequence) or value is None:
        return math.nan
    return float(value)

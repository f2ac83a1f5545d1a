"""Curves of runs for the page: points, the trend at their end, and the forecast of what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aelab.errors import StoreError
from aelab.report.cells import gather
from aelab.report.outlook import outlook_of
from aelab.report.series import thin
from aelab.runs.record import Run

#: Points of a curve and of all curves together that the page gets, and the fewest of one.
POINTS, ALL_POINTS, FEWEST = 1000, 60_000, 120
#: Finished runs of the same file that help a forecast, at most: their curves are read for it.
SIBLINGS = 12
_CLOCKS = ("split", "images", "seconds", "epoch")


def points_of_each(count: int) -> int:
    """Points of one of `count` curves."""
    return max(FEWEST, min(POINTS, ALL_POINTS // max(1, count)))


def curves_of(run: Run, term: str, clock: str, points: int = POINTS) -> dict[str, Any]:
    """`terms` that were logged, and `curves`: split -> [x, y], thinned to `points`."""
    rows = run.metrics()
    curves = {}
    for split in ("train", "validation"):
        found = [
            (row[clock], row[term])
            for row in rows
            if row.get("split") == split and finite(row.get(term)) and finite(row.get(clock))
        ]
        kept = thin([float(y) for _, y in found], points)
        curves[split] = [[found[i][place] for i in kept] for place in (0, 1)]
    terms = {key: None for row in rows for key in row if key not in _CLOCKS}
    return {"terms": terms, "curves": curves}


def trend_of(run: Run) -> str:
    """`falling 1.3 % (0.9 to 1.7) in the last 10,000 images`; empty where nothing can be said."""
    try:
        found = gather(run, set()).trend
    except StoreError:
        return ""
    return "" if found is None else found.verdict


def forecast_of(run: Run, every: Sequence[Run]) -> dict[str, Any] | None:
    """Where an unfinished run will end: `from` and `to` as [images, loss], `low`, `high`, `words`.

    Args:
        every: all runs; the last finished ones of the same file are its siblings.

    Returns:
        None where there is no forecast.
    """
    file = run.record.get("experiment")
    alike = [each for each in every if each.record.get("experiment") == file]
    found = outlook_of(run, [each for each in alike if each.state == "finished"][-SIBLINGS:])
    if found is None or not found.forecast.is_told:
        return None
    seen = [row for row in run.metrics("validation") if finite(row.get("loss"))]
    forecast = found.forecast
    return {
        "from": [seen[-1]["images"], seen[-1]["loss"]],
        "to": [forecast.end, forecast.loss],
        "low": forecast.low,
        "high": forecast.high,
        "words": forecast.words(found.best),
    }


def finite(value: Any) -> bool:
    """Whether a value is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

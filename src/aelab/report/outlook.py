"""Forecasts of unfinished runs, with the best finished run as reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aelab.analysis.forecast import run_forecast
from aelab.errors import StoreError
from aelab.report.cells import OutlookCell
from aelab.report.comparing import best_finished
from aelab.runs.record import Run

#: States of runs that continue, or may be continued.
_GOING_ON = ("running", "interrupted")


def outlooks(runs: Sequence[Run]) -> dict[str, OutlookCell]:
    """Forecasts by path for the unfinished runs; only these cost time.

    Runs of the same experiment file are its siblings.
    """
    finished: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        if run.state == "finished":
            finished[run.record.get("experiment")].append(run)
    found: dict[str, OutlookCell] = {}
    for run in runs:
        outlook = outlook_of(run, finished[run.record.get("experiment")])
        if outlook is not None:
            found[str(run.path)] = outlook
    return found


def outlook_of(run: Run, siblings: Sequence[Run]) -> OutlookCell | None:
    """The forecast of one run; None if it does not continue, or its metrics are damaged.

    Args:
        siblings: finished runs of the same experiment file.
    """
    if run.state not in _GOING_ON:
        return None
    try:
        return OutlookCell(run_forecast(run, siblings), best_finished(run, siblings))
    except StoreError:  # the table reports the damage
        return None


def outlook_of_repeats(outlooks: Sequence[OutlookCell]) -> str | None:
    """One cell for repeats: an interval that contains all of theirs; None without forecasts."""
    told = [outlook for outlook in outlooks if outlook.forecast.is_told]
    if len(told) < 2:
        return told[0].words if told else None
    low = min(outlook.forecast.low for outlook in told)
    high = max(outlook.forecast.high for outlook in told)
    return f"{low:.3g} to {high:.3g}"

"""The forecast of a run in training, at each validation, and whether to end the run early."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aelab.analysis.curves import Curve
from aelab.analysis.forecast import (
    Forecast,
    forecast_of,
    of_validation,
    percent,
    siblings_of,
)
from aelab.analysis.planned import RestOfRun, plan_of
from aelab.errors import StoreError
from aelab.report.comparing import best_finished
from aelab.runs.record import Run
from aelab.runs.store import Store

#: Least share of a run, 0..1, before it may be ended early.
LEAST_SEEN = 0.1


@dataclass(frozen=True)
class Look:
    """The forecast of a run after a validation.

    Attributes:
        forecast: of its end.
        best: the lowest loss among comparable finished runs; None if there are none.
        words: both as a sentence; empty if there is no forecast yet.
    """

    forecast: Forecast
    best: float | None
    words: str

    @property
    def chance(self) -> float | None:
        """The chance of ending below `best`, 0..1; None if unknown."""
        if self.best is None or not self.forecast.is_told:
            return None
        return self.forecast.chance_below(self.best)


class Outlook:
    """Makes forecasts for one run of a matrix.

    Args:
        run: in training here.
        store: where the other runs are.
        rivals: folders of the runs of the matrix.
    """

    def __init__(self, run: Run, store: Store, rivals: Sequence[str]) -> None:
        self._run, self._store = run, store
        self._unfinished = [folder for folder in rivals if folder != run.folder]
        self._finished: list[Run] = []
        self._siblings: list[Curve] = []
        self._plan = plan_of(run)
        self._seen = of_validation(run)  # stored validations, if it is continued

    def look(self, images: int, loss: float) -> Look:
        """The forecast after a validation, and the best finished loss."""
        while self._seen.x and self._seen.x[-1] >= images:  # it was rolled back
            self._seen.x.pop()
            self._seen.y.pop()
        self._seen.x.append(images)
        self._seen.y.append(loss)
        self._find_finished()
        forecast = forecast_of(self._plan, self._seen, self._siblings)
        best = best_finished(self._run, self._finished)
        return Look(forecast, best, forecast.words(best) if forecast.is_told else "")

    def _find_finished(self) -> None:
        known = _finished_runs(self._store.root)
        for folder in list(self._unfinished):
            with contextlib.suppress(StoreError, OSError):
                kept = known.pop(folder, None)  # forgotten if it is gone, or no longer finished
                path = kept.run.path if kept else self._store.path_of(folder)
                status = os.stat(path / "status.json")
                mark = (status.st_mtime_ns, status.st_size, status.st_ino)
                if kept is None or kept.mark != mark:
                    other = Run.at(path, folder)
                    if other.state != "finished":
                        continue
                    kept = _Kept(mark, other, {})
                known[folder] = kept
                self._finished.append(kept.run)
                self._siblings += kept.siblings(self._plan)
                self._unfinished.remove(folder)


class _Kept(NamedTuple):
    """A finished run.

    Attributes:
        mark: of its `status.json`, which is replaced when the run is trained again.
        run: as it was read.
        curves: plan of another run -> the curves that it has of this one, none or one.
    """

    mark: tuple[int, int, int]
    run: Run
    curves: dict[tuple[Any, ...], list[Curve]]

    def siblings(self, plan: RestOfRun) -> list[Curve]:
        """`siblings_of` with this run alone."""
        if plan.key not in self.curves:
            self.curves[plan.key] = siblings_of(plan, [self.run])
        return self.curves[plan.key]


#: Folder of the store -> its finished runs that this process has read, by their folders.
_FINISHED: dict[Path, dict[str, _Kept]] = {}


def _finished_runs(root: Path) -> dict[str, _Kept]:
    """Those read of one store: each run of a matrix asks for all. Other stores are forgotten."""
    root = root.absolute()
    if root not in _FINISHED:
        _FINISHED.clear()
    return _FINISHED.setdefault(root, {})


def hopeless(look: Look, least: float | None) -> dict[str, Any] | None:
    """The entry of `status.json` for a run that is ended for its small chance; None: it continues.

    Args:
        look: at the run.
        least: the least chance with which it continues; None ends no run.
    """
    if least is None or look.chance is None or look.chance >= least:
        return None
    if look.forecast.share < LEAST_SEEN:
        return None
    told = percent(look.chance)
    return {
        "chance": look.chance,
        "best": look.best,
        "forecast": [look.forecast.low, look.forecast.loss, look.forecast.high],
        "reason": f"chance {told} of ending below {look.best:.4g}, the best so far",
    }

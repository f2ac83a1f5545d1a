"""The runs of a lab as plain data for the page, read again only where files have changed."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from aelab.errors import StoreError, UserError
from aelab.lab import Lab, Only
from aelab.report.series import seed_axes
from aelab.runs.record import BrokenRun, Run
from aelab.ui.about import row
from aelab.ui.curves import curves_of, forecast_of, points_of_each, trend_of

#: Seconds after which the folder is looked through for new runs.
LOOK_SECONDS = 3.0
#: Curves up to which trends and forecasts are told too: of more, nobody could read them.
MOST_TOLD = 60
#: What is looked at for changes: the folder itself changes with every file that is replaced in it.
_WATCHED = ("", "status.json", "metrics.jsonl", "run.json")

Stamp = tuple[int, ...]


class Watched:
    """The runs of a lab. Safe to use from several threads.

    Args:
        lab: the workspace.
        only: a glob that a run's name must match, or several: one of them must.
    """

    def __init__(self, lab: Lab, only: Only = None) -> None:
        self.lab, self._only = lab, only
        self._lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        self._stamps: dict[str, Stamp] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        #: Folder -> what its files were, and what was made of them by name.
        self._made: dict[str, tuple[Stamp, dict[Any, Any]]] = {}
        self._looked = -math.inf

    def changed(self) -> list[str]:
        """Folders of runs that are new, gone, or have written something since the last call."""
        with self._lock:
            found: list[str] = []
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                listed = {run.folder: run for run in self._listed()}
                found += sorted(listed.keys() ^ self._runs.keys())
                for folder in self._runs.keys() - listed.keys():
                    self._forget(folder)
                for folder in listed:  # in the order of the list
                    self._runs.setdefault(folder, listed[folder])
            for folder, run in list(self._runs.items()):
                stamp = _stamp(run)
                if stamp != self._stamps.get(folder):
                    self._stamps[folder] = stamp
                    self._rows.pop(folder, None)
                    self._runs[folder] = _again(run)
                    if folder not in found:
                        found.append(folder)
            return found

    def _listed(self) -> list[Run]:
        if not self.lab.workspace.runs.is_dir():
            return []
        try:
            return self.lab.find((), only=self._only, may_be_empty=True)
        except UserError:  # `only` matches none of them yet
            return []

    def _forget(self, folder: str) -> None:
        for kept in (self._runs, self._stamps, self._rows, self._made):
            kept.pop(folder, None)

    def run(self, folder: str) -> Run:
        """A run of the list, by its folder; nothing else is ever opened.

        Raises:
            UserError: there is none.
        """
        with self._lock:
            if not self._runs:
                self.changed()
            if folder not in self._runs:
                raise UserError(f"there is no run {folder}", hint="reload the page")
            return self._runs[folder]

    def runs(self, folders: Iterable[str]) -> list[Run]:
        """Several runs; all where none is named."""
        named = list(folders)
        with self._lock:
            return [self.run(folder) for folder in named] if named else list(self._runs.values())

    def rows(self) -> list[dict[str, Any]]:
        """One entry a run, see `about.row`; the same object until its files change."""
        with self._lock:
            for folder, run in self._runs.items():
                if folder not in self._rows:
                    self._rows[folder] = row(run)
            return list(self._rows.values())

    def seeds(self) -> list[str]:
        """The axes that only repeat a setting."""
        with self._lock:
            return seed_axes([run for run in self._runs.values() if not _is_broken(run)])

    def curves(self, folders: Sequence[str], term: str, clock: str) -> dict[str, Any]:
        """Curves of some runs, the terms that they have logged, and how they end.

        Returns:
            `terms`, `curves`: folder -> split -> [x, y]; of up to `MOST_TOLD` runs also `trends`:
            folder -> words, and `forecasts`: folder -> see `curves.forecast_of`.
        """
        points = points_of_each(len(folders))
        terms: dict[str, None] = {"loss": None}
        curves, trends, forecasts = {}, {}, {}
        for folder in folders:
            run, made = self.run(folder), self._made_of(folder)
            key = (term, clock, points)
            if key not in made:
                made[key] = curves_of(run, term, clock, points)
            terms |= made[key]["terms"]
            curves[folder] = made[key]["curves"]
            if len(folders) > MOST_TOLD:
                continue
            if "trend" not in made:
                made["trend"] = trend_of(run)
            if "forecast" not in made:
                made["forecast"] = forecast_of(run, self.runs(()))
            trends[folder] = made["trend"]
            if made["forecast"]:
                forecasts[folder] = made["forecast"]
        return {"terms": list(terms), "curves": curves, "trends": trends, "forecasts": forecasts}

    def _made_of(self, folder: str) -> dict[Any, Any]:
        """What was made of a run as its files are now."""
        stamp = _stamp(self.run(folder))
        known = self._made.get(folder)
        if known is None or known[0] != stamp:
            known = self._made[folder] = (stamp, {})
        return known[1]


def _is_broken(run: Run) -> bool:
    return isinstance(run, BrokenRun)


def _again(run: Run) -> Run:
    """The run as it is now: its record grows while it starts."""
    try:
        return Run.at(run.path, run.folder)
    except StoreError as problem:
        return BrokenRun(run.path, run.folder, problem)


def _stamp(run: Run) -> Stamp:
    made: list[int] = []
    for name in _WATCHED:
        try:
            facts = os.stat(run.path / name)
            made += [facts.st_mtime_ns, facts.st_size]
        except OSError:
            made.append(0)
    return tuple(made)

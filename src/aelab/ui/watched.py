"""The runs of a lab as plain data for the page, read again only where files have changed."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from aelab.errors import StoreError, UserError
from aelab.lab import Lab
from aelab.report.pictures import originals, steps
from aelab.report.series import thin
from aelab.runs.record import BrokenRun, Run

#: Points of a curve that the page gets, at most.
POINTS = 1000
#: Seconds after which the folder is looked through for new runs.
LOOK_SECONDS = 3.0
#: Splits of pictures.
SPLITS = ("heldout", "train")
_CLOCKS = ("split", "images", "seconds", "epoch")


class Watched:
    """The runs of a lab. Safe to use from several threads.

    Args:
        lab: the workspace.
        only: a glob that a run's name must match.
    """

    def __init__(self, lab: Lab, only: str | None = None) -> None:
        self.lab, self._only = lab, only
        self._lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        #: Folder -> what its files were, and thinned curves by term and clock.
        self._curves: dict[str, tuple[tuple[int, ...], dict[Any, dict[str, Any]]]] = {}
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
                for folder in listed.keys() - self._runs.keys():
                    self._runs[folder] = listed[folder]
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
        for kept in (self._runs, self._stamps, self._rows, self._curves):
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
        """One entry a run: folder, matrix, state, images, losses, ..."""
        with self._lock:
            for folder, run in self._runs.items():
                if folder not in self._rows:
                    self._rows[folder] = _row(run)
            return list(self._rows.values())

    def curves(self, folders: Sequence[str], term: str, clock: str) -> dict[str, Any]:
        """Curves of some runs, and the terms that they have logged.

        Returns:
            `terms`, and `curves`: folder -> split -> [x, y], thinned to `POINTS`.
        """
        made: dict[str, Any] = {}
        terms: dict[str, None] = {"loss": None}
        for folder in folders:
            run, key = self.run(folder), (term, clock)
            stamp = _stamp(run)
            known = self._curves.get(folder)
            if known is None or known[0] != stamp:
                known = self._curves[folder] = (stamp, {})
            if key not in known[1]:
                known[1][key] = _curves(run.metrics(), term, clock)
            found = known[1][key]
            terms |= found["terms"]
            made[folder] = found["curves"]
        return {"terms": list(terms), "curves": made}

    def moments(self, folder: str) -> dict[str, dict[str, Any]]:
        """Split -> images seen of each stored row of reproductions, and a key of the originals.

        Rows of one key are of the same images.
        """
        run = self.run(folder)
        return {
            split: {
                "images": list(steps(run, split)),
                "originals": hashlib.sha256(self.picture(folder, split, None)).hexdigest()[:12],
            }
            for split in SPLITS
            if originals(run, split) is not None
        }

    def picture(self, folder: str, split: str, images: int | None) -> bytes:
        """A stored row of images as PNG: the originals, or the reproductions of a moment.

        Raises:
            UserError: there is none.
        """
        run = self.run(folder)
        found = originals(run, split) if images is None else steps(run, split).get(images)
        if split not in SPLITS or found is None:
            raise UserError(f"run {folder} has no such picture")
        return run.read_picture(f"images/{found.name}")


def _again(run: Run) -> Run:
    """The run as it is now: its record grows while it starts."""
    try:
        return Run.at(run.path, run.folder)
    except StoreError as problem:
        return BrokenRun(run.path, run.folder, problem)


def _stamp(run: Run) -> tuple[int, ...]:
    made = []
    for name in ("status.json", "metrics.jsonl", "run.json"):
        try:
            facts = os.stat(run.path / name)
            made += [facts.st_mtime_ns, facts.st_size]
        except OSError:
            made.append(0)
    return tuple(made)


def _curves(rows: Sequence[dict[str, Any]], term: str, clock: str) -> dict[str, Any]:
    """`terms` that were logged, and `curves`: split -> [x, y]."""
    curves = {}
    for split in ("train", "validation"):
        points = [
            (row[clock], row[term])
            for row in rows
            if row.get("split") == split and _finite(row.get(term)) and _finite(row.get(clock))
        ]
        kept = thin([float(y) for _, y in points], POINTS)
        curves[split] = [[points[i][place] for i in kept] for place in (0, 1)]
    terms = {key: None for row in rows for key in row if key not in _CLOCKS}
    return {"terms": terms, "curves": curves}


def _row(run: Run) -> dict[str, Any]:
    status, record = run.status, run.record
    last, best = status.get("last") or {}, status.get("best") or {}
    error = status.get("error") or {}
    return {
        "folder": run.folder,
        "matrix": {} if isinstance(run, BrokenRun) else record["matrix"],
        "state": "stopped early" if run.state_words == "stopped early" else run.state,
        "images": status.get("images") or 0,
        "max_images": record.get("max_inputs"),
        "loss": last.get("loss") if _finite(last.get("loss")) else None,
        "best": best.get("loss") if _finite(best.get("loss")) else None,
        "minutes": _minutes(status.get("seconds")),
        "parameters": (record.get("parameters") or {}).get("model"),
        "objective": record.get("objective"),
        "error": error.get("message") if isinstance(error, dict) else str(error),
    }


def _minutes(seconds: Any) -> float | None:
    return round(seconds / 60, 2) if _finite(seconds) else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

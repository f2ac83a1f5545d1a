"""Finds stored runs by experiment file, run folder, glob, or a part of a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from aelab import config
from aelab.errors import Problems, RefusedError, UserError
from aelab.runs.record import BrokenRun, Run
from aelab.runs.store import Store

#: Folder of the runs, unless another is named.
RUNS = Path("runs")

#: Experiment files, run folders, globs, or runs found before; one of them, or several.
Sources = str | Path | Run | Sequence[str | Path | Run]

#: Which runs: those that a glob matches, or one of several globs; None: every run.
Only = str | Sequence[str] | None


def find_runs(
    sources: Sources = (),
    store: Store | None = None,
    *,
    only: Only = None,
    may_be_empty: bool = False,
) -> list[Run]:
    """Stored runs of experiment files, run folders or globs, in that order, each once.

    Args:
        sources: the runs to find; empty means all stored runs.
        store: the store to search; `runs/` if left out.
        only: glob that a run's name must match, or several: one of them must.
        may_be_empty: do not raise if nothing is found.

    Raises:
        UserError: nothing was found.
    """
    store = store or Store(RUNS)
    if not store.root.exists() and not (may_be_empty and store.root == RUNS):
        raise UserError(
            f"there is no folder {store.root}, so there are no runs",
            hint="train some with: aelab run FILE; runs elsewhere: --runs FOLDER",
        )
    sources = [sources] if isinstance(sources, str | Path | Run) else list(sources)
    found: dict[str, Run] = {}
    for source in sources or [None]:  # type: ignore[list-item]
        for entry in runs_of(source, store):
            found.setdefault(entry.folder, entry)
    chosen = [
        entry for entry in found.values() if matches((entry.record["name"], entry.folder), only)
    ]
    if not chosen and not may_be_empty:
        what = ", ".join(map(str, sources)) or f"{store.root}/"
        raise UserError(
            f"no stored runs for {what}" + (f" that match {quoted(only)}" if only else ""),
            hint="train them with: aelab run FILE; see what is there with: aelab ls",
        )
    return chosen


def runs_of(source: str | Path | Run | None, store: Store) -> list[Run]:
    """The stored runs of an experiment file, a run folder or a glob; None means all of them.

    Raises:
        Problems: the experiment file is wrong.
        StoreError: no such run folder.
    """
    if source is None:
        return store.scan().every
    if isinstance(source, Run):
        return [source]
    path = Path(source)
    if path.suffix.lower() not in {".yml", ".yaml"} or path.is_dir():
        return list(store.select([source]))

    stored = {entry.folder: entry for entry in store.scan().every}
    try:
        named = [
            (spec.folder, *spec.old_folders, *(twin.folder for twin in spec.same))
            for spec in config.load(path).runs()
        ]
    except Problems as problems:
        made = [entry for entry in stored.values() if _made_with_trust(entry, path)]
        if not made or not all(isinstance(error, RefusedError) for error in problems.errors):
            raise
        return made  # readers need no --trust: the blocks were evaluated in training
    # Folders may be named with the slugs of the old runner, which had two forms.
    return [entry for folders in named for entry in _first_found(folders, stored)]


class Planned(NamedTuple):
    """A run that a file describes and that was never begun.

    Attributes:
        name, folder, matrix: of the run.
        experiment: name of the file.
        is_hole: a run after it in the file was begun.
    """

    name: str
    folder: str
    matrix: Mapping[str, object]
    experiment: str
    is_hole: bool


def planned_runs(sources: Sources, store: Store, only: Only = None) -> list[Planned]:
    """The runs of the experiment files among the sources that are not stored, in their order."""
    sources = [sources] if isinstance(sources, str | Path | Run) else list(sources)
    files = [
        Path(source)
        for source in sources
        if not isinstance(source, Run)
        and Path(source).suffix.lower() in {".yml", ".yaml"}
        and not Path(source).is_dir()
    ]
    planned: list[Planned] = []
    stored = {entry.folder: entry for entry in store.scan().every} if files else {}
    for file in files:
        try:
            specs = config.load(file).runs()
        except Problems:  # found by `find_runs`, or a file that only --trust reads
            continue
        begun = [
            bool(_first_found((s.folder, *s.old_folders, *(t.folder for t in s.same)), stored))
            for s in specs
        ]
        last = max((place for place, is_begun in enumerate(begun) if is_begun), default=-1)
        planned += [
            Planned(spec.name, spec.folder, spec.matrix, file.name, place < last)
            for place, (spec, is_begun) in enumerate(zip(specs, begun, strict=True))
            if not is_begun and matches((spec.name, spec.folder), only)
        ]
    return planned


def store_of(run: Run) -> Store:
    """The store that a run lies in, from the run's path and its name in it."""
    root = run.path
    for _ in Path(run.folder).parts:
        root = root.parent
    return Store(root)


def matches(names: Iterable[str], only: Only) -> bool:
    """Whether one of `only` matches a name, or its last part: as a glob, or as a part of it."""
    if only is None:
        return True
    return any(
        fnmatchcase(name, glob) or fnmatchcase(name, f"*/{glob}") or glob in name
        for name in names
        for glob in _globs(only)
    )


def quoted(only: str | Sequence[str]) -> str:
    """The globs for a message: `'a*' or 'b*'`."""
    return " or ".join(f"'{glob}'" for glob in _globs(only))


def _globs(only: str | Sequence[str]) -> list[str]:
    return [only] if isinstance(only, str) else list(only)


def _first_found(folders: Sequence[str], stored: Mapping[str, Run]) -> list[Run]:
    """The run of the first folder that is stored, or its trials (`--set trials=3`)."""
    for folder in folders:
        if folder in stored:
            return [stored[folder]]
        above = [entry for name, entry in stored.items() if folder.startswith(f"{name}/")]
        if above and isinstance(above[0], BrokenRun):  # a folder that cannot be read
            return above[:1]
        trials = [
            e for f, e in stored.items() if re.fullmatch(re.escape(folder) + r"_trial-\d+", f)
        ]
        if trials:
            return sorted(trials, key=lambda entry: int(entry.folder.rpartition("-")[2]))
    return []


def _made_with_trust(entry: Run, file: Path) -> bool:
    return bool(entry.record.get("trust")) and entry.record.get("experiment") == file.name

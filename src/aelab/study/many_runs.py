"""Metrics and figures of many stored runs; a run that cannot be opened does not end the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.assembly.parts import functions_of
from aelab.assembly.workspace import Workspace
from aelab.errors import AelabError, in_words
from aelab.outputs import refuse_to_replace, replacing
from aelab.report.tables import run_order
from aelab.runs.find import Only, Sources, find_runs
from aelab.runs.record import BrokenRun, Run
from aelab.study.evaluation import Evaluated, evaluate_run
from aelab.study.explorer import explorer_of
from aelab.study.figures.several_runs import draw_together
from aelab.study.figures.stored import draw_cheap, draw_of_files
from aelab.study.figures.table import find_figure
from aelab.study.reopen import reopen_run


def evaluate_runs(
    found: Iterable[Run],
    workspace: Workspace,
    names: Sequence[str],
    *,
    state: str,
    limit: int,
    options: Mapping[str, Mapping[str, Any]] | None,
    asked: bool,
) -> Iterator[Evaluated]:
    """Measures each run, see `evaluation.evaluate_run`; a failure becomes `Evaluated.problem`."""
    for entry in found:
        try:
            if isinstance(entry, BrokenRun):
                raise entry.problem
            opened = reopen_run(f"{entry.folder}@{state}", workspace)
            with functions_of(opened.spec):
                measured = evaluate_run(opened, names, limit=limit, options=options, asked=asked)
            yield measured
        except AelabError as error:
            yield Evaluated(entry, problem=str(error))
        except Exception as error:  # any error of torch, as the run may come from elsewhere
            yield Evaluated(entry, problem=in_words(error))


def draw_figure(
    name: str,
    reference: str,
    workspace: Workspace,
    *,
    out: str | Path | None,
    options: Mapping[str, Any] | None,
    limit: int,
    force: bool,
) -> Path:
    """Draws a figure of one run, see `Lab.figure`; loads the model only if the figure needs it."""
    target = None if out is None else Path(out)
    with replacing(force):
        if target is not None:
            refuse_to_replace(target)
        if find_figure(name).of_run:
            run, _ = workspace.store.resolve(reference)
            return draw_of_files(name, run, target, options or {})
        opened = reopen_run(reference, workspace)
        return opened.figure(name, out=target, options=options, limit=limit, force=force)


def draw_figure_together(
    name: str,
    sources: Sources,
    workspace: Workspace,
    *,
    out: str | Path | None,
    options: Mapping[str, Any] | None,
    only: Only,
    limit: int,
    force: bool,
    left_out: list[str] | None,
) -> Path:
    """Draws one sheet of several runs, see `Lab.figure_together`."""
    store = workspace.store
    sources = [sources] if isinstance(sources, str | Path | Run) else list(sources)
    references: dict[str, tuple[Run, str]] = {}
    for source in sources or [()]:  # type: ignore[list-item]
        if isinstance(source, str) and "@" in source:
            references[source] = store.resolve(source)[0], source
            continue
        for entry in sorted(find_runs(source, store, only=only), key=run_order):
            references[entry.folder] = entry, entry.folder
    target = workspace.runs / f"{name}.png" if out is None else Path(out)
    with replacing(force):
        refuse_to_replace(target)
        return draw_together(
            name,
            list(references.values()),
            lambda reference: reopen_run(reference, workspace),
            target,
            options or {},
            limit,
            left_out,
        )


def draw_figures(found: Iterable[Run], workspace: Workspace, *, limit: int) -> Iterator[str]:
    """Draws the cheap figures of every run; yields one line per run, see `Lab.figures`."""
    for entry in found:
        try:
            if isinstance(entry, BrokenRun):
                raise entry.problem
            written, failed = draw_cheap(reopen_run(entry.folder, workspace), limit)
        except Exception as error:  # a broken run must not end the others
            words = str(error) if isinstance(error, AelabError) else in_words(error)
            yield f"{entry.folder}: {words}"
            continue
        named: dict[str, list[str]] = {}
        for name, why in failed.items():
            named.setdefault(why, []).append(name)
        reasons = "".join(f"; not {', '.join(names)}: {why}" for why, names in named.items())
        yield f"{entry.folder}: {len(written)} figures{reasons}"


def explorers_of(
    found: Sequence[Run], workspace: Workspace, count: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Latent spaces of the best runs for the report: the best seed of each setting.

    Args:
        found: runs of the report.
        workspace: the folder of runs, and the folders that may be read.
        count: greatest number of spaces; runs that cannot be shown are skipped.

    Returns:
        The results of `explorer_of`, and a line for each skipped run.
    """
    seeds = seed_keys([run.record for run in found])
    ordered = sorted((run for run in found if not isinstance(run, BrokenRun)), key=_best_loss)
    made: list[dict[str, Any]] = []
    notes: list[str] = []
    settings = set()
    for run in ordered:
        setting = run.record.get("experiment"), matrix_key(run.record["matrix"], without=seeds)
        if len(made) == count or setting in settings:
            continue
        try:
            made.append(explorer_of(reopen_run(run.folder, workspace)))
            settings.add(setting)
        except Exception as error:  # a failure in one run must not end the report
            words = error.message if isinstance(error, AelabError) else in_words(error)
            if len(notes) < _MOST_NOTES:
                notes.append(f"{run.folder} has no latent space here: {words}")
    return made, notes


#: Most skipped runs that are named.
_MOST_NOTES = 3


def _best_loss(run: Run) -> float:
    loss: Any = (run.status.get("best") or run.status.get("last") or {}).get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else math.inf

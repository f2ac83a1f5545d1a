"""The main path, and the verbs of the command line as functions.

    A file names experiments. Each experiment is a run. A run trains a model on data under an
    objective, and leaves a directory. Reports read directories.

`check` and `run` read a file; `table`, `plot`, `report`, `ls` read directories without torch.
One run from text to directory is `session.train_run`; the loop itself is `train.fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aelab.lab.events import Event
from aelab.lab.inside import (
    ascii_art,
    ascii_frames,
    evaluate,
    figure,
    figure_together,
    figures,
    open_model,
    render,
)
from aelab.lab.select import RUNS, Sources, find_runs

if TYPE_CHECKING:
    from aelab.config import RunSpec
    from aelab.lab.plan import Plan
    from aelab.lab.session import Options
    from aelab.lab.stop import StopRequest
    from aelab.runs.record import Run
    from aelab.runs.store import Store


__all__ = [
    "RUNS",
    "Sources",
    "ascii_art",
    "ascii_frames",
    "check",
    "data",
    "evaluate",
    "figure",
    "figure_together",
    "figures",
    "find_runs",
    "ls",
    "open_model",
    "plot",
    "preparing",
    "render",
    "report",
    "rm",
    "run",
    "run_matrix",
    "show",
    "table",
]


def check(
    file: str | Path,
    *,
    only: str | None = None,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    changes: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Plan:
    """Expands the matrix, builds every model without memory for it, and reports costs and mistakes.

    Args:
        file: experiment file.
        only: glob that a run's name must match.
        runs: folder of the runs, for `load:`.
        data: further folders that data may be read from.
        changes: top-level keys that replace the file's.
        trust: evaluate blocks as plain Python.

    Returns:
        One plan a run; a run that cannot be trained says why in its `problems`.

    Raises:
        Problems: every mistake of the file itself, at once.
    """
    from aelab.lab.preflight import plan_runs
    from aelab.lab.select import specs_of

    specs, roots = specs_of(file, only, data, trust, changes or {})
    return plan_runs(specs, str(file), folders=roots, trust=trust, runs=Path(runs))


def run(
    file: str | Path,
    *,
    only: str | None = None,
    max_inputs: int | None = None,
    device: str = "auto",
    load: str | None = None,
    retry_failed: bool = False,
    restart: bool = False,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    changes: Mapping[str, Any] | None = None,
    trust: bool = False,
    stop: StopRequest | None = None,
) -> Iterator[Event]:
    """Trains every run of a file, one after the other; yields what happens.

    Finished runs are skipped, interrupted ones continue, a failing run does not end the others.

    Args:
        file: experiment file.
        only: glob that a run's name must match.
        max_inputs: train for this many images instead of the file's `max_inputs`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        load: start from the weights of RUN[@images], as the key `load`.
        retry_failed: begin failed runs again.
        restart: throw the stored results of the selected runs away.
        runs: folder of the runs.
        data: further folders that data may be read from.
        changes: further top-level keys that replace the file's, for instance `{"batch_size": 128}`.
        trust: evaluate blocks as plain Python.
        stop: asked between batches; a run in progress is then saved and the matrix ends.

    Raises:
        Problems, ConfigError: mistakes of the file, before anything is trained.
        StoreError: a name is taken by a different run, or the runs folder cannot be written.
    """
    from aelab.lab.build import choose_device
    from aelab.lab.preflight import refuse_if_nothing_can_run
    from aelab.lab.select import specs_of
    from aelab.lab.session import Options
    from aelab.lab.stop import StopRequest
    from aelab.runs.store import Store

    typed = {"max_inputs": max_inputs, "load": load}
    given = dict(changes or {}) | {k: v for k, v in typed.items() if v is not None}
    specs, roots = specs_of(file, only, data, trust, given)
    choose_device(device)
    store = Store(Path(runs))
    refuse_if_nothing_can_run(specs, folders=roots, trust=trust, runs=Path(runs))
    options = Options(device, restart, retry_failed, trust, roots)
    yield from run_matrix(specs, store, options, StopRequest() if stop is None else stop)


def run_matrix(
    specs: Sequence[RunSpec], store: Store, options: Options, stop: StopRequest
) -> Iterator[Event]:
    """Trains the given runs in order; yields their events between a start and an end."""
    from aelab.config.twins import once
    from aelab.lab import events as ev
    from aelab.lab.preflight import common_notes
    from aelab.lab.session import refuse_conflicts, train_run
    from aelab.lab.twins import begun, same_run

    store.make_root()
    trained = once(specs, [] if options.restart else begun(specs, store))
    refuse_conflicts([spec for spec in specs if trained[spec.folder] is spec], store, options)
    count = dict.fromkeys((ev.RunFinished, ev.RunSkipped, ev.RunErred), 0)
    impossible = failed_before = held = 0
    yield ev.MatrixStarted([spec.name for spec in specs], common_notes(specs))
    for number, spec in enumerate(specs, start=1):
        if stop:
            break
        same = same_run(spec, trained[spec.folder], store, restart=options.restart)
        happening: Iterable[Event] = (
            [ev.RunSkipped(spec.name, same)]
            if same
            else train_run(spec, store, options, stop, number)
        )
        for event in happening:
            if type(event) in count:
                count[type(event)] += 1
            impossible += isinstance(event, ev.RunErred) and event.impossible
            failed_before += isinstance(event, ev.RunSkipped) and event.failed_before
            held += isinstance(event, ev.RunSkipped) and event.held
            yield event
    finished, skipped, failed = count.values()
    yield ev.MatrixFinished(finished, skipped, failed, bool(stop), impossible, failed_before, held)


def table(
    sources: Sources = (),
    *,
    sort: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    average: str | None = None,
    average_std: Sequence[str] = (),
    each: bool = False,
    legacy_headers: bool = False,
    format: str = "markdown",
    text: bool = False,
    only: str | None = None,
    runs: str | Path = RUNS,
) -> str:
    """One row a run, as terminal text, Markdown, CSV, JSON or HTML; see `report.tables.table`.

    Args:
        sources: experiment files, run folders or globs; empty means every stored run.
        each: one row a run even where runs repeat each other.
        legacy_headers: the column names of the old runner.
        text: below the table an example of each run that writes ASCII art, beside its original.
    """
    from aelab.report import tables, texts

    found = find_runs(sources, only=only, runs=runs)
    below = f"\n{texts.below_table(found, format)}" if text else ""
    made = tables.table(
        found,
        sort=sort,
        include=include,
        exclude=exclude,
        average=average,
        average_std=average_std,
        each=each,
        legacy_headers=legacy_headers,
        format=format,
    )
    return made + below


def show(
    reference: str,
    *,
    split: str = "heldout",
    count: int = 4,
    images: int | None = None,
    runs: str | Path = RUNS,
) -> str:
    """Texts that a run which writes ASCII art has stored, beside their originals.

    Args:
        reference: the run's folder.
        split: `heldout` or `train`.
        count: at most so many of sixteen.
        images: as they were at so many images seen; None for the latest.
        runs: folder of the runs.

    Raises:
        UserError: unknown split, or the run has no text.
        StoreError: no such run.
    """
    from aelab.report import texts
    from aelab.runs.store import Store

    run = Store(Path(runs)).open(reference)
    return texts.show(run, split, count=count, images=images)


def plot(
    sources: Sources = (),
    *,
    out: str | Path = "plot.png",
    term: str = "loss",
    x: Literal["images", "seconds"] = "images",
    group: str | None = None,
    log_y: bool | None = None,
    log_x: bool | None = None,
    band: bool = True,
    only: str | None = None,
    runs: str | Path = RUNS,
    force: bool = False,
) -> Path:
    """Curves of a logged term as PNG or SVG; see `report.plots.plot`.

    `force`: replace a file `out` that aelab did not make.
    """
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.report import plots

    with replacing(force):
        refuse_to_replace(Path(out))
        found = find_runs(sources, only=only, runs=runs)
        drawn = plots.plot(found, term=term, x=x, group=group, log_y=log_y, log_x=log_x, band=band)
        return plots.save(drawn, Path(out))


def report(
    sources: Sources = (),
    *,
    out: str | Path = "report.html",
    title: str | None = None,
    only: str | None = None,
    runs: str | Path = RUNS,
    force: bool = False,
) -> Path:
    """One self-contained HTML page; see `report.page.page`.

    `force`: replace a file `out` that aelab did not make.
    """
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.report.page import page

    with replacing(force):
        refuse_to_replace(Path(out))
        return page(find_runs(sources, only=only, runs=runs), Path(out), title=title)


def ls(
    sources: Sources = (),
    *,
    only: str | None = None,
    runs: str | Path = RUNS,
    format: Literal["text", "json"] = "text",
) -> str:
    """Stored runs: state, images, best loss, age, size on disk.

    Raises:
        UserError: `only` matches none of them.
    """
    from aelab.report import tables

    found = find_runs(sources, only=only, runs=runs, may_be_empty=only is None)
    return tables.listing(found, format=format)


def data(
    name: str | None = None,
    *,
    resize: int | None = None,
    out: str | Path | None = None,
    data: Iterable[str | Path] = (),
    skip_corrupt: bool = False,
    background: str | None = None,
    tile: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    offset: int | tuple[int, int] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Every data set and where it was found, or one set's statistics and contact sheet.

    Args:
        name: a data set; None lists them all.
        resize: compare native, nearest and bilinear at this many pixels.
        out: PNG file of the contact sheet; default `NAME-contact-sheet.png`.
        data: further folders that data may be read from.
        skip_corrupt: leave unreadable files of a folder out.
        background: behind transparent pixels, see `image_folder_dataset`.
        tile, stride, offset: of a sheet, see `atlas_dataset`.
        force: replace a file `out` that aelab did not make; never what is read.
    """
    from aelab.lab.known_data import list_data, show_data
    from aelab.outputs import replacing

    roots = tuple(Path(folder) for folder in data)
    if name is None:
        return list_data(roots)
    with replacing(force):
        return show_data(
            name,
            resize=resize,
            out=Path(out) if out else None,
            roots=roots,
            reading={
                "skip_corrupt": skip_corrupt,
                "background": background,
                "tile": tile,
                "stride": stride,
                "offset": offset,
            },
        )


def rm(found: Iterable[Run], *, checkpoints_only: bool = False) -> None:
    """Deletes runs, or only their checkpoints."""
    from aelab.runs.store import Store

    for entry in found:
        root = entry.path
        for _ in Path(entry.folder).parts:
            root = root.parent
        Store(root).remove(entry, checkpoints_only=checkpoints_only)


def preparing(report: Callable[[str, int, int], None]) -> AbstractContextManager[None]:
    """While this holds, reading or rendering data for over two seconds is told to a function.

    Args:
        report: called as `report(what, done, total)` a few times a second.
    """
    from aelab.data.progress import reporting

    return reporting(report)

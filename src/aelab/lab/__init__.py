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

from aelab.errors import UserError
from aelab.lab.events import Event

if TYPE_CHECKING:
    from torch import nn

    from aelab.config import RunSpec
    from aelab.lab.evaluating import Evaluated
    from aelab.lab.plan import Plan
    from aelab.lab.rendering import Rendered
    from aelab.lab.session import Options
    from aelab.lab.stop import StopRequest
    from aelab.runs.record import Run
    from aelab.runs.store import Store

RUNS = Path("runs")

#: Experiment files, run folders or globs; one of them, or several.
Sources = str | Path | Sequence[str | Path]


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
    from aelab.lab import events as ev
    from aelab.lab.preflight import common_notes
    from aelab.lab.session import refuse_conflicts, train_run

    refuse_conflicts(specs, store, options)
    count = dict.fromkeys((ev.RunFinished, ev.RunSkipped, ev.RunErred), 0)
    impossible = failed_before = 0
    yield ev.MatrixStarted([spec.name for spec in specs], common_notes(specs))
    for number, spec in enumerate(specs, start=1):
        if stop:
            break
        for event in train_run(spec, store, options, stop, number):
            if type(event) in count:
                count[type(event)] += 1
            impossible += isinstance(event, ev.RunErred) and event.impossible
            failed_before += isinstance(event, ev.RunSkipped) and event.failed_before
            yield event
    finished, skipped, failed = count.values()
    yield ev.MatrixFinished(finished, skipped, failed, bool(stop), impossible, failed_before)


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
    only: str | None = None,
    runs: str | Path = RUNS,
) -> str:
    """One row a run, as terminal text, Markdown, CSV, JSON or HTML; see `report.tables.table`.

    Args:
        sources: experiment files, run folders or globs; empty means every stored run.
        each: one row a run even where runs repeat each other.
        legacy_headers: the column names of the old runner.
    """
    from aelab.report import tables

    return tables.table(
        find_runs(sources, only=only, runs=runs),
        sort=sort,
        include=include,
        exclude=exclude,
        average=average,
        average_std=average_std,
        each=each,
        legacy_headers=legacy_headers,
        format=format,
    )


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
) -> Path:
    """Curves of a logged term as PNG or SVG; see `report.plots.plot`."""
    from aelab.report import plots

    found = find_runs(sources, only=only, runs=runs)
    figure = plots.plot(found, term=term, x=x, group=group, log_y=log_y, log_x=log_x, band=band)
    return plots.save(figure, Path(out))


def report(
    sources: Sources = (),
    *,
    out: str | Path = "report.html",
    title: str | None = None,
    only: str | None = None,
    runs: str | Path = RUNS,
) -> Path:
    """One self-contained HTML page; see `report.page.page`."""
    from aelab.report.page import page

    return page(find_runs(sources, only=only, runs=runs), Path(out), title=title)


def ls(
    sources: Sources = (),
    *,
    only: str | None = None,
    runs: str | Path = RUNS,
    format: Literal["text", "json"] = "text",
) -> str:
    """Stored runs: state, images, best loss, age, size on disk."""
    from aelab.report import tables
    from aelab.runs.store import Store

    problems = [] if sources else Store(Path(runs)).scan().problems
    found = find_runs(sources, only=only, runs=runs, may_be_empty=True)
    return tables.listing(found, problems=problems, format=format)


def data(
    name: str | None = None,
    *,
    resize: int | None = None,
    out: str | Path | None = None,
    data: Iterable[str | Path] = (),
) -> dict[str, Any]:
    """Every data set and where it was found, or one set's statistics and contact sheet.

    Args:
        name: a data set; None lists them all.
        resize: compare native, nearest and bilinear at this many pixels.
        out: PNG file of the contact sheet; default `NAME.png`.
        data: further folders that data may be read from.
    """
    from aelab.lab.show import list_data, show_data

    roots = tuple(Path(folder) for folder in data)
    if name is None:
        return list_data(roots)
    return show_data(name, resize=resize, out=Path(out) if out else None, roots=roots)


def open_model(
    reference: str,
    *,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> nn.Module:
    """The trained model of a stored run, in evaluation mode.

    Its text is evaluated again under the restriction it was made with; arguments that the text
    leaves out come from the run's own record, so later defaults do not change it.

    Args:
        reference: RUN, RUN@best, RUN@latest or RUN@images; RUN alone means the best state.
        runs: folder of the runs.
        data: further folders that the run's text may name.
        trust: needed where the run was made with it.
        device: where to put it.

    Returns:
        `model(images)` gives `types.Output`; `model.encode` and `model.decode` its halves. Averaged
        weights (`ema`) are used where the run kept them.

    Raises:
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.reopen import reopen
    from aelab.runs.store import Store

    folders = [Path(folder) for folder in data]
    return reopen(reference, Store(Path(runs)), folders=folders, trust=trust, device=device)


def render(
    reference: str,
    *,
    sizes: Sequence[int | str] = (),
    zoom: str | Sequence[float] | None = None,
    images: int | None = None,
    split: Literal["train", "validation"] = "validation",
    out: str | Path = "renders",
    truth: bool | str = False,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> Rendered:
    """Images of a run at any size, beside enlargements of its reconstructions.

    Args:
        reference: RUN, RUN@best, RUN@latest or RUN@images; its decoder must render any size.
        sizes: `64` (width), `"96x64"` (width x height) or `"2x"`; 2x and 4x if left out.
        zoom: x0, y0, x1, y1 of the window to show: -1 is the centre of the image's first pixel, 1
            that of its last; None for the whole picture, border to border.
        images: how many; default 8, or 200 that are scored.
        split: images of the `validation` set or of `train`.
        out: folder for the PNG sheets.
        truth: score the renders against larger originals: True takes the run's own set with a
            larger shape in its globals, a text is an expression that gives a set.
        runs: folder of the runs.
        data: further folders that data may be read from; the first one is where relative paths of
            the experiment file start.
        trust: needed where the run was made with it.
        device: where to compute.

    Returns:
        The files written, and the scores where larger originals were given.

    Raises:
        StoreError: no such run or state, or it needs `trust`.
        UserError: the decoder has a fixed grid, or the sizes, the window or the set do not fit.
    """
    from aelab.lab.rendering import Request, region_of, render_run
    from aelab.lab.reopen import reopen_run
    from aelab.runs.store import Store

    window = None if zoom is None else region_of(zoom)
    request = Request(tuple(sizes), window, images, split, Path(out), truth)
    folders = [Path(folder) for folder in data]
    opened = reopen_run(reference, Store(Path(runs)), folders=folders, trust=trust, device=device)
    return render_run(opened, request)


def evaluate(
    sources: Sources = (),
    *,
    metrics: Sequence[str] = (),
    all_metrics: bool = False,
    state: str = "best",
    limit: int = 10_000,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    only: str | None = None,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "auto",
) -> Iterator[Evaluated]:
    """Measures stored runs on their held-out images; the numbers are kept beside each run.

    A run that lacks what a metric needs skips that metric; one that cannot be opened says why in
    its `problem`. Neither ends the others.

    Args:
        sources: experiment files, run folders or globs; empty means every stored run.
        metrics: names of `aelab.metrics.METRICS`; empty means the cheap ones.
        all_metrics: all of them instead.
        state: `best`, `latest`, or images seen.
        limit: at most so many held-out images a run.
        options: keyword arguments by metric.
        only: glob that a run's name must match.
        runs: folder of the runs.
        data: further folders that the runs' texts may name.
        trust: needed for runs that were made with it.
        device: where to compute.

    Raises:
        UserError: no such run, or no such metric.
    """
    from aelab.errors import AelabError
    from aelab.lab.evaluating import Evaluated, chosen_metrics, evaluate_run
    from aelab.lab.reopen import reopen_run
    from aelab.runs.store import Store

    names = chosen_metrics(metrics, all_metrics)
    store, folders = Store(Path(runs)), [Path(folder) for folder in data]
    for entry in find_runs(sources, only=only, runs=runs):
        try:
            opened = reopen_run(
                f"{entry.folder}@{state}", store, folders=folders, trust=trust, device=device
            )
            yield evaluate_run(opened, names, state=state, limit=limit, options=options)
        except AelabError as error:
            yield Evaluated(entry, problem=str(error))


def figure(
    name: str,
    reference: str,
    *,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int = 10_000,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "auto",
) -> Path:
    """A picture of a trained model: reproductions, samples, maps; see `lab.drawing.FIGURES`.

    Args:
        name: which.
        reference: RUN, RUN@best, RUN@latest or RUN@images.
        out: file to write; default `figures/NAME.png` in the run's folder, where the report
            finds it.
        options: keyword arguments of the figure, for instance `{"method": "tsne"}`.
        limit: at most so many held-out images.
        runs: folder of the runs.
        data: further folders that the run's text may name.
        trust: needed where the run was made with it.
        device: where to compute.

    Returns:
        The file written.

    Raises:
        UserError: no such figure or option, or the run lacks what it needs.
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.drawing.stored import draw_of_run
    from aelab.runs.store import Store

    folders = [Path(folder) for folder in data]
    opening = {"folders": folders, "trust": trust, "device": device}
    target = None if out is None else Path(out)
    return draw_of_run(name, reference, Store(Path(runs)), target, options or {}, limit, opening)


def figure_together(
    name: str,
    sources: Sources = (),
    *,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    only: str | None = None,
    limit: int = 2_000,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "auto",
) -> Path:
    """One sheet of several runs, a row a run: `reproductions`, `interpolation` or `sample`.

    Args:
        name: which.
        sources: RUN@best, RUN@latest or RUN@images, run folders, globs or experiment files; empty
            means every stored run.
        out: file to write; default `NAME.png` in the folder of the runs.
        options: keyword arguments of the figure, for instance `{"count": 8}`.
        only: glob that a run's name must match.
        limit: at most so many held-out images a run.
        runs, data, trust, device: as for `figure`.

    Returns:
        The file written.

    Raises:
        UserError: nothing was found, or there is no such figure or option of several runs.
        DataError: the images of the runs differ in size.
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.drawing.together import draw_together
    from aelab.runs.store import Store

    store = Store(Path(runs))
    opening = {"folders": [Path(f) for f in data], "trust": trust, "device": device}
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    references: dict[str, tuple[Run, str]] = {}
    for source in sources or [()]:  # type: ignore[list-item]
        if isinstance(source, str) and "@" in source:
            references[source] = store.resolve(source)[0], source
            continue
        for entry in find_runs(source, only=only, runs=runs):
            references[entry.folder] = entry, entry.folder
    target = Path(runs) / f"{name}.png" if out is None else Path(out)
    return draw_together(
        name, list(references.values()), store, target, options or {}, limit, opening
    )


def figures(
    sources: Sources = (),
    *,
    limit: int = 2_000,
    only: str | None = None,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "auto",
) -> Iterator[str]:
    """Every figure that takes seconds, of every run, where the report finds them.

    Args:
        sources: experiment files, run folders or globs; empty means every stored run.
        limit: at most so many held-out images a run.
        only, runs, data, trust, device: as for `evaluate`.

    Yields:
        A line a run: how many figures, and what could not be drawn and why.
    """
    from aelab.errors import AelabError
    from aelab.lab.drawing.stored import draw_cheap
    from aelab.runs.store import Store

    opening = {"folders": [Path(f) for f in data], "trust": trust, "device": device}
    for entry in find_runs(sources, only=only, runs=runs):
        try:
            written, failed = draw_cheap(entry.folder, Store(Path(runs)), limit, opening)
        except AelabError as error:
            yield f"{entry.folder}: {error}"
            continue
        reasons = "".join(f"; {why}" for why in dict.fromkeys(failed.values()))
        yield f"{entry.folder}: {len(written)} figures{reasons}"


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


def find_runs(
    sources: Sources = (),
    *,
    only: str | None = None,
    runs: str | Path = RUNS,
    may_be_empty: bool = False,
) -> list[Run]:
    """Stored runs of experiment files, run folders or globs, in that order, each once.

    Raises:
        UserError: nothing was found.
    """
    from aelab.lab.select import matches, runs_of
    from aelab.runs.store import Store

    store = Store(Path(runs))
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    found: dict[str, Run] = {}
    for source in sources or [None]:  # type: ignore[list-item]
        for entry in runs_of(source, store):
            found.setdefault(entry.folder, entry)
    chosen = [
        entry for entry in found.values() if matches((entry.record["name"], entry.folder), only)
    ]
    if not chosen and not may_be_empty:
        what = ", ".join(map(str, sources)) or f"{runs}/"
        raise UserError(
            f"no stored runs for {what}" + (f" that match '{only}'" if only else ""),
            hint="train them with: aelab run FILE; see what is there with: aelab ls",
        )
    return chosen

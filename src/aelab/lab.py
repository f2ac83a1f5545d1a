"""The main path: a workspace, and the verbs of the command line as its methods.

    A file describes a matrix of runs. A run trains a model on data with an objective, and writes a
    directory. Reports read directories. An opened run is a trained model with its data.

`Lab` takes the folder of the runs, the folders that may be read, and the device once. `Lab.open`
returns an `OpenedRun`. The functions below `Lab` are the same verbs; each makes its own `Lab`.
`execute.session.train_run` trains one run into its directory; the loop itself is `train.fit`.

Code that needs torch is imported inside the verb, so `table`, `plot`, `report` and `ls` work
without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aelab.assembly.workspace import Workspace
from aelab.doctor.experiment import look_into_run, rehearse, specs_of
from aelab.errors import UserError
from aelab.execute.jobs import Options
from aelab.execute.matrix import run_matrix
from aelab.execute.stop import StopRequest
from aelab.outputs import refuse_to_replace, replacing
from aelab.preparation import reporting
from aelab.report import plots, texts
from aelab.report.query import DEFAULT, TableQuery
from aelab.report.two_settings import compare_settings
from aelab.runs import find as stored
from aelab.runs.find import RUNS, Only, Sources, store_of
from aelab.runs.notes import NONE, Notes, read_notes, write_notes

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from aelab.doctor.plan import Plan
    from aelab.execute.engines.ray import Cluster
    from aelab.execute.engines.slurm import Array
    from aelab.execute.events import Event
    from aelab.report.two_settings import TwoSettings
    from aelab.runs.record import Run
    from aelab.study.evaluation import Evaluated
    from aelab.study.neighbours import Neighbours
    from aelab.study.opened import OpenedRun
    from aelab.study.rendering import Rendered

__all__ = [
    "RUNS", "Lab", "Only", "Sources", "TableQuery", "Workspace", "check", "compare", "data",
    "encode", "evaluate", "export", "figure", "figure_together", "figures", "find_runs", "frame",
    "interpolate", "ls", "neighbours", "open_model", "open_run", "plot", "preparing", "reconstruct",
    "render", "report", "rm", "run", "sample", "show", "table", "write", "write_between",
]  # fmt: skip


class Lab:
    """A workspace and its verbs.

    Args:
        runs: folder of the runs.
        data: further folders that data may be read from; the experiment file's own is always one.
        trust: evaluate blocks as plain Python, and open runs made this way; only for your own.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Attributes:
        workspace: these four settings, as all rooms take them.

    `sources` are experiment files, run folders, globs, or `Run` objects; empty means every
    stored run. `only` is a glob that a run's name must match, or several: one of them must.
    `force` also replaces files that aelab did not make.
    """

    def __init__(
        self,
        runs: str | Path = RUNS,
        data: Iterable[str | Path] = (),
        trust: bool = False,
        device: str = "auto",
    ) -> None:
        self.workspace = Workspace.of(runs, data, trust, device)

    def check(
        self, file: str | Path, *, only: Only = None, changes: Mapping[str, Any] | None = None
    ) -> Plan:
        """Expands the matrix, builds every model without memory, reports costs and mistakes.

        Args:
            changes: top-level keys that replace the file's, for instance `{"batch_size": 128}`.

        Returns:
            One plan per run; a run that cannot be trained gives the reasons in its `problems`.

        Raises:
            Problems: all mistakes of the file itself.
        """
        from aelab.doctor.preflight import plan_runs

        return plan_runs(specs_of(file, self.workspace, only, changes), str(file), self.workspace)

    def run(
        self,
        file: str | Path,
        *,
        only: Only = None,
        max_images: int | None = None,
        load: str | None = None,
        retry_failed: bool = False,
        restart: bool = False,
        changes: Mapping[str, Any] | None = None,
        stop: StopRequest | None = None,
        jobs: int | None = 1,
        threads: int | None = None,
        wait: bool = False,
        stop_hopeless: float | None = None,
        budget: float | None = None,
        slurm: Array | None = None,
        ray: Cluster | None = None,
    ) -> Iterator[Event]:
        """Trains every run of a file; yields events.

        Finished runs are skipped, interrupted ones continue, a failing run does not end the others.

        Args:
            max_images: train for this many images instead of the file's `max_images`.
            load: start from the weights of RUN[@images], as the key `load`.
            retry_failed: train failed runs again.
            restart: delete the stored results of the selected runs.
            changes: further top-level keys that replace the file's.
            stop: checked between batches; if set, every run in training is saved and the matrix
                ends.
            jobs: runs trained at once. From 2 on in worker processes, which know the parts of
                installed packages, but not what this program registered. None: on a CPU as many
                as free cores and memory allow.
            threads: CPU threads of a run; None: OMP_NUM_THREADS, else 1 with several jobs, else
                the free cores.
            wait: wait for runs that other processes train, and take over what these leave.
            stop_hopeless: end a run whose chance of ending below the best finished run of the file
                is below this (0.01 is 1 %). It keeps its state, and continues when the file is
                run without this.
            budget: seconds for the whole file, in rounds over the runs that may still be the best,
                each round twice as far. Every run keeps what it reached.
            slurm: train in tasks of a Slurm array instead; how to submit them.
            ray: train on a Ray cluster instead; where, and what a run needs.

        Raises:
            Problems, ConfigError: mistakes of the file, before anything is trained.
            StoreError: a name is taken by a different run, or the folder cannot be written.
        """
        typed = {"max_images": max_images, "load": load}
        typed = {key: value for key, value in typed.items() if value is not None}
        for key in typed.keys() & dict(changes or {}).keys():
            raise UserError(f"{key} is given twice, also as a changed key (--set); give it once")
        given = dict(changes or {}) | typed
        specs = specs_of(file, self.workspace, only, given)
        yield from run_matrix(
            specs,
            self.workspace,
            Options(restart, retry_failed, threads, wait, stop_hopeless, examine=look_into_run),
            StopRequest() if stop is None else stop,
            rehearse,
            jobs,
            slurm,
            ray,
            budget=budget,
        )

    def find(
        self, sources: Sources = (), *, only: Only = None, may_be_empty: bool = False
    ) -> list[Run]:
        """Stored runs, each once.

        Raises:
            UserError: nothing was found.
        """
        return stored.find_runs(sources, self.workspace.store, only=only, may_be_empty=may_be_empty)

    def table(
        self, sources: Sources = (), query: TableQuery = DEFAULT, *, only: Only = None
    ) -> str:
        """One row per run, as terminal text, Markdown, CSV, JSON or HTML; HTML in a notebook."""
        from aelab.report.shown import TableText
        from aelab.report.tables import table

        found = self.find(sources, only=only)
        return TableText(table(found, query), lambda: table(found, replace(query, format="html")))

    def frame(
        self, sources: Sources = (), query: TableQuery = DEFAULT, *, only: Only = None
    ) -> pandas.DataFrame:
        """The result table as a data frame of pandas; see `report.frames.frame`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        from aelab.report.frames import frame

        return frame(self.find(sources, only=only), query)

    def compare(self, first: Sources, second: Sources) -> TwoSettings:
        """The difference of two settings with its interval, and the seeds that would settle it.

        Args:
            first, second: the runs of one setting each, which differ in their seed: a run, a list
                of runs, or a glob such as `kld/lr-0.001_seed-*`.

        Raises:
            UserError: no finished run on a side, or the losses do not compare.
        """
        return compare_settings(self.find(first), self.find(second))

    def _repr_html_(self) -> str:
        from aelab.report.shown import runs_html

        runs = self.workspace.runs
        return runs_html(self.find(may_be_empty=True) if runs.is_dir() else [], str(runs))

    def show(
        self,
        reference: str,
        *,
        split: str = "heldout",
        count: int = 4,
        images: int | None = None,
    ) -> str:
        """Stored texts of a run that outputs ASCII art, beside their originals.

        Args:
            reference: the run's folder.
            split: `heldout` or `train`.
            count: number of texts, at most sixteen.
            images: the texts at or before this many images seen; None for the latest.

        Raises:
            UserError: unknown split, or the run has no text.
            StoreError: no such run.
        """
        return texts.examples_text(
            self.workspace.store.open(reference), split, count=count, images=images
        )

    def plot(
        self,
        sources: Sources = (),
        *,
        out: str | Path | None = None,
        term: str = "loss",
        x: Literal["images", "seconds"] = "images",
        group: str | None = None,
        log_y: bool | None = None,
        log_x: bool | None = None,
        band: bool = True,
        only: Only = None,
        force: bool = False,
    ) -> Figure | Path:
        """Curves of a logged term; see `report.plots.plot`.

        Args:
            out: PNG or SVG file to write.

        Returns:
            A matplotlib figure, or the file `out` where one is given.
        """
        with replacing(force):
            if out is not None:
                refuse_to_replace(Path(out))
            found = self.find(sources, only=only)
            drawn = plots.plot(
                found, term=term, x=x, group=group, log_y=log_y, log_x=log_x, band=band
            )
            return drawn if out is None else plots.save_figure(drawn, Path(out))

    def report(
        self,
        sources: Sources = (),
        *,
        out: str | Path = "report.html",
        title: str | None = None,
        explorer: bool | int = False,
        only: Only = None,
        force: bool = False,
    ) -> Path:
        """One self-contained HTML page; see `report.page.page`.

        Args:
            explorer: also the latent spaces of the best runs, which can be dragged offline: of
                three, or of this number; one run of each setting.
        """
        from aelab.report.page import page

        with replacing(force):
            refuse_to_replace(Path(out))
            found = self.find(sources, only=only)
            if not explorer:
                return page(found, Path(out), title=title)
            from aelab.study.many_runs import explorers_of

            count = 3 if explorer is True else explorer
            explorers, notes = explorers_of(found, self.workspace, count)
            return page(found, Path(out), title=title, explorers=explorers, explorer_notes=notes)

    def ls(
        self,
        sources: Sources = (),
        *,
        only: Only = None,
        format: Literal["text", "json"] = "text",
    ) -> str:
        """Stored runs: state, images, best loss, age, size on disk.

        With an experiment file also those of its runs that were never begun, and how many runs
        are in which state.

        Raises:
            UserError: `only` matches none of them.
        """
        from aelab.report.listing import listing

        planned = stored.planned_runs(sources, self.workspace.store, only)
        found = self.find(sources, only=only, may_be_empty=only is None or bool(planned))
        return listing(found, planned=planned, format=format)

    def note(
        self, reference: str, text: str | None = None, tags: Iterable[str] = (), *,
        clear: bool = False,
    ) -> Notes:  # fmt: skip
        """Writes a note and further tags about a run, or only reads them.

        Args:
            reference: the run's folder.
            text: replaces the text; None keeps it.
            tags: single words, added to those there are.
            clear: first remove the text and the tags there are.

        Raises:
            UserError: a text or a tag is not allowed.
            StoreError: no such run, or it cannot be written.
        """
        run = self.workspace.store.open(reference)
        found = NONE if clear else read_notes(run)
        tags = tuple(tags)
        if text is None and not tags and not clear:
            return found
        return write_notes(run, found.text if text is None else text, [*found.tags, *tags])

    def rm(self, found: Iterable[Run], *, checkpoints_only: bool = False) -> None:
        """Deletes runs that `find` returned, or only their checkpoints."""
        for entry in found:
            store_of(entry).remove(entry, checkpoints_only=checkpoints_only)

    def data(
        self,
        name: str | None = None,
        *,
        resize: int | None = None,
        out: str | Path | None = None,
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
            skip_corrupt: leave unreadable files of a folder out.
            background: colour behind transparent pixels, see `image_folder_dataset`.
            tile, stride, offset: for a sheet, see `atlas_dataset`.
            force: replace a file `out` that aelab did not make, but never a file that is read.
        """
        from aelab.doctor.data_listing import list_data, show_data

        if name is None:
            return list_data(self.workspace)
        reading = {"skip_corrupt": skip_corrupt, "background": background, "tile": tile,
                   "stride": stride, "offset": offset}  # fmt: skip
        with replacing(force):
            to = Path(out) if out else None
            return show_data(name, self.workspace, resize=resize, out=to, reading=reading)

    def open(self, reference: str) -> OpenedRun:
        """A stored run with its trained model, in evaluation mode.

        Args:
            reference: RUN, RUN@best, RUN@latest or RUN@images; RUN alone means the best state.

        Raises:
            StoreError: no such run or state, or it needs `trust`.
        """
        from aelab.study.reopen import reopen_run

        return reopen_run(reference, self.workspace)

    def open_model(self, reference: str) -> nn.Module:
        """Only the model of `open`: `model(images)` returns `types.Output`.

        Its images are uint8, or floats as the run's data set holds them.
        """
        from aelab.study.reopen import take_bytes

        opened = self.open(reference)
        take_bytes(opened.model, opened.value_range)
        return opened.model

    def evaluate(
        self,
        sources: Sources = (),
        *,
        metrics: Sequence[str] = (),
        all_metrics: bool = False,
        state: str = "best",
        limit: int = 10_000,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        only: Only = None,
    ) -> Iterator[Evaluated]:
        """Measures stored runs on their held-out images; the numbers are stored with each run.

        If a run lacks what a metric needs, the metric is skipped. A run that cannot be opened gives
        the reason in its `problem`. The other runs are measured in both cases.

        Args:
            metrics: names of `aelab.metrics.METRICS`; empty means the cheap ones.
            all_metrics: all of them instead.
            state: `best`, `latest`, or images seen.
            limit: at most this many held-out images per run.
            options: keyword arguments by metric.

        Raises:
            UserError: no such run, or no such metric.
        """
        from aelab.study.evaluation import chosen_metrics, metric_options
        from aelab.study.many_runs import evaluate_runs

        names = chosen_metrics(metrics, all_metrics)
        yield from evaluate_runs(
            self.find(sources, only=only),
            self.workspace,
            names,
            state=state,
            limit=limit,
            options=metric_options(options, names),
            asked=bool(metrics),
        )

    def figure(
        self,
        name: str,
        reference: str,
        *,
        out: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        limit: int = 10_000,
        force: bool = False,
    ) -> Path:
        """Draws a figure of a trained model: reproductions, samples, maps; see `FIGURES`.

        Args:
            name: the figure.
            reference: as for `open`.
            out: file to write; default `figures/NAME.png` in the run's folder, where the report
                finds it.
            options: keyword arguments of the figure, for instance `{"method": "tsne"}`.
            limit: at most this many held-out images.

        Returns:
            The file written.

        Raises:
            UserError: no such figure or option, or the run lacks what it needs.
            StoreError: no such run or state, or it needs `trust`.
        """
        from aelab.study.many_runs import draw_figure

        return draw_figure(
            name, reference, self.workspace, out=out, options=options, limit=limit, force=force
        )

    def figure_together(
        self,
        name: str,
        sources: Sources = (),
        *,
        out: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        only: Only = None,
        limit: int = 2_000,
        force: bool = False,
        left_out: list[str] | None = None,
    ) -> Path:
        """Draws one sheet of several runs, a row each: `reproductions`, `interpolation`, `sample`.

        Args:
            name: the figure.
            sources: also RUN@best, RUN@latest or RUN@images.
            out: file to write; default `NAME.png` in the folder of the runs.
            options: keyword arguments of the figure, for instance `{"count": 8}`.
            limit: at most this many held-out images per run.
            left_out: a run that cannot be opened is named here with the reason, and the others are
                drawn; left out, it is raised.

        Returns:
            The file written.

        Raises:
            UserError: nothing was found, or there is no such figure or option of several runs.
            DataError: the images of the runs differ in size.
            StoreError: no such run or state, or it needs `trust`.
        """
        from aelab.study.many_runs import draw_figure_together

        return draw_figure_together(
            name, sources, self.workspace, out=out, options=options, only=only, limit=limit,
            force=force, left_out=left_out,
        )  # fmt: skip

    def figures(
        self, sources: Sources = (), *, limit: int = 2_000, only: Only = None
    ) -> Iterator[str]:
        """Draws every cheap figure of every run, in the folders where the report finds them.

        Yields:
            One line per run: the number of figures, and which could not be drawn and why.
        """
        from aelab.study.many_runs import draw_figures

        yield from draw_figures(self.find(sources, only=only), self.workspace, limit=limit)


def preparing(report: Callable[[str, int, int], None]) -> AbstractContextManager[None]:
    """Context manager: calls `report(what, done, total)` if loading data takes over two seconds.

    Args:
        report: called a few times a second while data are read or rendered.
    """
    return reporting(report)


_R = TypeVar("_R")


def _function(method: Callable[..., _R], device: str = "auto") -> Callable[..., _R]:
    """Makes a function of a verb of `Lab`; it also takes the arguments of `Lab`, by keyword."""

    @wraps(method)
    def verb(
        *arguments: Any,
        runs: str | Path = RUNS,
        data: Iterable[str | Path] = (),
        trust: bool = False,
        device: str = device,
        **options: Any,
    ) -> _R:
        """See `method`."""
        return method(Lab(runs, data, trust, device), *arguments, **options)

    _, *theirs = signature(method).parameters.values()
    ours = signature(verb, follow_wrapped=False).parameters.values()
    both = [*theirs, *(parameter for parameter in ours if parameter.kind == parameter.KEYWORD_ONLY)]
    verb.__signature__ = Signature(both)  # type: ignore[attr-defined]  # what `help` shows
    return verb


check = _function(Lab.check)
run = _function(Lab.run)
find_runs = _function(Lab.find)
show = _function(Lab.show)
plot = _function(Lab.plot)
compare = _function(Lab.compare)
report = _function(Lab.report)
ls = _function(Lab.ls)
rm = _function(Lab.rm)
data = _function(Lab.data)
open_run = _function(Lab.open, device="cpu")
open_model = _function(Lab.open_model, device="cpu")
evaluate = _function(Lab.evaluate)
figure = _function(Lab.figure)
figure_together = _function(Lab.figure_together)
figures = _function(Lab.figures)


def table(
    sources: Sources = (), *, only: Only = None, runs: str | Path = RUNS, **query: Any
) -> str:
    """`Lab.table`, with the fields of its `TableQuery` as keywords."""
    return Lab(runs).table(sources, TableQuery(**query), only=only)


def frame(
    sources: Sources = (), *, only: Only = None, runs: str | Path = RUNS, **query: Any
) -> pandas.DataFrame:
    """`Lab.frame`, the fields of its `TableQuery` as keywords."""
    return Lab(runs).frame(sources, TableQuery(**query), only=only)


def render(reference: str, **options: Any) -> Rendered:
    """`OpenedRun.render` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).render(**options)


def write(source: str | Path, reference: str, **options: Any) -> Any:
    """`OpenedRun.write` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).write(source, **options)


def write_between(
    first: str | Path, second: str | Path, reference: str, **options: Any
) -> list[list[str]]:
    """`OpenedRun.write_between` of a reference; the rest as for `write`."""
    return open_run(reference, **_of_lab(options)).write_between(first, second, **options)


def encode(reference: str, images: Any, **options: Any) -> Tensor:
    """`OpenedRun.encode` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).encode(images, **options)


def reconstruct(reference: str, images: Any, **options: Any) -> Tensor:
    """`OpenedRun.reconstruct` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).reconstruct(images, **options)


def neighbours(reference: str, images: Any, **options: Any) -> Neighbours:
    """`OpenedRun.neighbours` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).neighbours(images, **options)


def sample(reference: str, count: int = 16, **options: Any) -> Tensor:
    """`OpenedRun.sample` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).sample(count, **options)


def export(reference: str, out: str | Path = "exported", **options: Any) -> list[Path]:
    """`OpenedRun.export` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).export(out, **options)


def interpolate(reference: str, first: Any, second: Any, **options: Any) -> Tensor:
    """`OpenedRun.interpolate` of a reference; `runs`, `data`, `trust` and `device` as for `Lab`."""
    return open_run(reference, **_of_lab(options)).interpolate(first, second, **options)


def _of_lab(options: dict[str, Any]) -> dict[str, Any]:
    """Removes the keywords of `Lab` from `options`, and returns them."""
    return {key: options.pop(key) for key in ("runs", "data", "trust", "device") if key in options}

"""The verbs that open a trained model: evaluate, figure, render, and `open_model` itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aelab.lab.select import RUNS, Sources, find_runs

if TYPE_CHECKING:
    from torch import nn

    from aelab.lab.evaluating import Evaluated
    from aelab.lab.rendering import Rendered
    from aelab.lab.writing import AsciiArt
    from aelab.runs.record import Run


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
    force: bool = False,
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
        force: replace files of these names that aelab did not make.

    Returns:
        The files written, and the scores where larger originals were given.

    Raises:
        StoreError: no such run or state, or it needs `trust`.
        UserError: the decoder has a fixed grid, or the sizes, the window or the set do not fit.
    """
    from aelab.lab.build import functions_of
    from aelab.lab.rendering import Request, region_of, render_run
    from aelab.lab.reopen import reopen_run
    from aelab.outputs import replacing
    from aelab.runs.store import Store

    window = None if zoom is None else region_of(zoom)
    request = Request(tuple(sizes), window, images, split, Path(out), truth)
    folders = [Path(folder) for folder in data]
    opened = reopen_run(reference, Store(Path(runs)), folders=folders, trust=trust, device=device)
    with replacing(force), functions_of(opened.spec):
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
    from aelab.lab.build import functions_of
    from aelab.lab.evaluating import Evaluated, chosen_metrics, evaluate_run
    from aelab.lab.reopen import reopen_run
    from aelab.runs.record import BrokenRun
    from aelab.runs.store import Store

    names = chosen_metrics(metrics, all_metrics)
    store, folders = Store(Path(runs)), [Path(folder) for folder in data]
    for entry in find_runs(sources, only=only, runs=runs):
        try:
            if isinstance(entry, BrokenRun):
                raise entry.problem
            opened = reopen_run(
                f"{entry.folder}@{state}", store, folders=folders, trust=trust, device=device
            )
            with functions_of(opened.spec):
                found = evaluate_run(
                    opened, names, state=state, limit=limit, options=options, asked=bool(metrics)
                )
            yield found
        except AelabError as error:
            yield Evaluated(entry, problem=str(error))
        except Exception as error:  # of torch, for a run that somebody else made
            yield Evaluated(entry, problem=f"{type(error).__name__}: {error}")


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
    force: bool = False,
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
        force: replace a file `out` that aelab did not make.

    Returns:
        The file written.

    Raises:
        UserError: no such figure or option, or the run lacks what it needs.
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.drawing.stored import draw_of_run
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.runs.store import Store

    folders = [Path(folder) for folder in data]
    opening = {"folders": folders, "trust": trust, "device": device}
    target = None if out is None else Path(out)
    with replacing(force):
        if target is not None:
            refuse_to_replace(target)
        return draw_of_run(
            name, reference, Store(Path(runs)), target, options or {}, limit, opening
        )


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
    force: bool = False,
    left_out: list[str] | None = None,
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
        runs, data, trust, device, force: as for `figure`.
        left_out: a run that cannot be opened is named here with the reason, and the others are
            drawn; left out, it is raised.

    Returns:
        The file written.

    Raises:
        UserError: nothing was found, or there is no such figure or option of several runs.
        DataError: the images of the runs differ in size.
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.drawing.together import draw_together
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.report.tables import run_order
    from aelab.runs.record import Run
    from aelab.runs.store import Store

    store = Store(Path(runs))
    opening = {"folders": [Path(f) for f in data], "trust": trust, "device": device}
    sources = [sources] if isinstance(sources, str | Path | Run) else list(sources)
    references: dict[str, tuple[Run, str]] = {}
    for source in sources or [()]:  # type: ignore[list-item]
        if isinstance(source, str) and "@" in source:
            references[source] = store.resolve(source)[0], source
            continue
        for entry in sorted(find_runs(source, only=only, runs=runs), key=run_order):
            references[entry.folder] = entry, entry.folder
    target = Path(runs) / f"{name}.png" if out is None else Path(out)
    with replacing(force):
        refuse_to_replace(target)
        return draw_together(
            name, list(references.values()), store, target, options or {}, limit, opening, left_out
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
    from aelab.runs.record import BrokenRun
    from aelab.runs.store import Store

    opening = {"folders": [Path(f) for f in data], "trust": trust, "device": device}
    for entry in find_runs(sources, only=only, runs=runs):
        try:
            if isinstance(entry, BrokenRun):
                raise entry.problem
            written, failed = draw_cheap(entry.folder, Store(Path(runs)), limit, opening)
        except Exception as error:  # one run, whoever made it, does not end the others
            words = (
                str(error) if isinstance(error, AelabError) else f"{type(error).__name__}: {error}"
            )
            yield f"{entry.folder}: {words}"
            continue
        named: dict[str, list[str]] = {}
        for name, why in failed.items():
            named.setdefault(why, []).append(name)
        reasons = "".join(f"; not {', '.join(names)}: {why}" for why, names in named.items())
        yield f"{entry.folder}: {len(written)} figures{reasons}"


def ascii_art(
    source: str | Path,
    reference: str,
    *,
    out: str | Path | None = None,
    columns: int | None = None,
    invert: bool = False,
    match: Literal["strokes", "areas", "brightness", "edges"] = "strokes",
    beside: bool = False,
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "cpu",
    force: bool = False,
) -> AsciiArt:
    """A picture or a text as ASCII art, by encoding and decoding it with a stored run.

    Args:
        source: a picture in any format of Pillow, or a text of printable ASCII.
        reference: RUN, RUN@best, RUN@latest or RUN@images; it must have learned ASCII art.
        out: `.txt`, or `.png` that shows it in a font; None writes nothing.
        columns: width in characters; wider than the run's grid, parts are encoded one by one. None
            fits the picture into one grid.
        invert: light becomes dark: for drawings on black.
        match: the glyph that looks most like a cell under a slight blur, so that no thin line is
            lost (`strokes`), like its very pixels (`areas`), like it once black is as light as
            the darkest glyph (`brightness`, for photographs), or like its outlines (`edges`).
        beside: write `matched   |   written` into `out`.
        runs, data, trust, device: as for `open_model`.
        force: replace a file `out` that aelab did not make; never `source`.

    Returns:
        The characters matched to the picture, and what the model writes.

    Raises:
        UserError: no such file, neither picture nor text, or the run paints pictures.
        StoreError: no such run or state, or it needs `trust`.
    """
    from aelab.lab.reopen import reopen_run
    from aelab.lab.writing import Matching, art_of, save
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.runs.store import Store

    folders = [Path(folder) for folder in data]
    with replacing(force):
        if out is not None:
            refuse_to_replace(Path(out), inputs=[source])
        store = Store(Path(runs))
        opened = reopen_run(reference, store, folders=folders, trust=trust, device=device)
        art = art_of(opened, Path(source), Matching(columns, invert, match))
        if out is not None:
            save([art.beside() if beside else art.written], Path(out))
    return art


def ascii_frames(
    first: str | Path,
    second: str | Path,
    reference: str,
    *,
    out: str | Path | None = None,
    steps: int = 8,
    path: Literal["linear", "spherical"] = "linear",
    invert: bool = False,
    match: Literal["strokes", "areas", "brightness", "edges"] = "strokes",
    runs: str | Path = RUNS,
    data: Iterable[str | Path] = (),
    trust: bool = False,
    device: str = "cpu",
    force: bool = False,
) -> list[list[str]]:
    """Texts on the way from one picture or text to another, through the latent of a stored run.

    Args:
        first, second: files as for `ascii_art`.
        reference: RUN, RUN@best, RUN@latest or RUN@images; it must have learned ASCII art.
        out: `.txt`, `.png` (side by side), `.gif` or `.webp` (a film); None writes nothing.
        steps: frames, both ends included; the weights of the ends sum to 1 (`linear`).
        path: straight (`linear`) or along the great circle (`spherical`).
        invert, match: as for `ascii_art`.
        runs, data, trust, device: as for `open_model`.
        force: as for `ascii_art`.

    Returns:
        Each frame's lines.

    Raises:
        UserError, StoreError: as for `ascii_art`.
    """
    from aelab.lab.reopen import reopen_run
    from aelab.lab.writing import Matching, frames_of, save
    from aelab.outputs import refuse_to_replace, replacing
    from aelab.runs.store import Store

    folders = [Path(folder) for folder in data]
    ends = (Path(first), Path(second))
    with replacing(force):
        if out is not None:
            refuse_to_replace(Path(out), inputs=ends)
        store = Store(Path(runs))
        opened = reopen_run(reference, store, folders=folders, trust=trust, device=device)
        frames = frames_of(opened, ends, Matching(None, invert, match), steps=steps, path=path)
        if out is not None:
            save(frames, Path(out))
    return frames

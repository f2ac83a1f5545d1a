"""Draws figures of stored runs into the folder where the report finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aelab.assembly.parts import functions_of
from aelab.errors import AelabError, UserError
from aelab.files import own_picture
from aelab.metrics.table import lacking_needs
from aelab.outputs import refuse_to_replace, write_output
from aelab.study.evaluation import subject_of
from aelab.study.figures.film import KINDS
from aelab.study.figures.table import FIGURES, FigureFile, drawn_figure, find_figure, made_figure

if TYPE_CHECKING:
    from aelab.runs.record import Run
    from aelab.study.opened import OpenedRun

#: Name of the subfolder in a run's directory.
FOLDER = "figures"


def draw_of_run(
    name: str, opened: OpenedRun, out: Path | None, options: Mapping[str, Any], limit: int
) -> Path:
    """Draws one figure of an opened run into its `figures` folder or to `out`.

    Args:
        name: of `FIGURES`.
        opened: the run.
        out: None: the folder where the report finds it.
        options: keyword arguments of the figure.
        limit: at most this many held-out images.

    Raises:
        UserError: no such figure or option, the run lacks what it needs, or `out` is refused.
    """
    if find_figure(name).of_run:
        return draw_of_files(name, opened.run, out, options)
    if out is not None:
        refuse_to_replace(out)
    with functions_of(opened.spec):
        drawn = drawn_figure(name, subject_of(opened, limit=limit, every_class=True), options)
    return write_figure(opened.run, name, drawn, out)


def shown_of_run(name: str, opened: OpenedRun, options: Mapping[str, Any], limit: int) -> Any:
    """A figure of an opened run for a notebook: a matplotlib figure, or a Pillow image.

    Arguments as for `draw_of_run`.
    """
    of_run = find_figure(name).of_run
    with functions_of(opened.spec):
        source = opened.run if of_run else subject_of(opened, limit=limit, every_class=True)
        made = made_figure(name, source, dict(options))
    return own_picture(made) if isinstance(made, bytes) else made


def draw_of_files(name: str, run: Run, out: Path | None, options: Mapping[str, Any]) -> Path:
    """As `draw_of_run`, for a figure that needs only the stored files."""
    if out is not None:
        refuse_to_replace(out)
    ending = "" if out is None else out.suffix.lower().removeprefix(".")
    if ending in KINDS and "kind" not in options:
        options = {**options, "kind": ending}
    return write_figure(run, name, drawn_figure(name, run, options), out)


def draw_cheap(opened: OpenedRun, limit: int) -> tuple[list[Path], dict[str, str]]:
    """Draws every cheap figure of one run.

    Returns:
        The files written, and figure -> why it could not be drawn.
    """
    with functions_of(opened.spec):
        subject = subject_of(opened, limit=limit, every_class=True)
    written, failed = list[Path](), dict[str, str]()
    for name, figure in FIGURES.items():
        if figure.cost == "slow" or figure.medium not in ("", subject.medium.name):
            continue
        lacking = lacking_needs(subject, figure.needs, figure.medium)
        if lacking:
            failed[name] = lacking
            continue
        try:
            with functions_of(opened.spec):
                drawn = drawn_figure(name, opened.run if figure.of_run else subject)
            written.append(write_figure(opened.run, name, drawn, None))
        except AelabError as error:
            failed[name] = error.message
    return written, failed


def write_figure(run: Run, name: str, drawn: FigureFile, out: Path | None) -> Path:
    """Writes a figure into the run's `figures` folder, or to `out`.

    Raises:
        UserError: the file cannot be written, or has another suffix.
    """
    if out is None:
        return run.write_bytes(f"{FOLDER}/{name}{drawn.suffix}", drawn.content)
    return write_figure_file(drawn, out)


def write_figure_file(drawn: FigureFile, out: Path) -> Path:
    """Writes a figure to a file; creates its folders.

    Raises:
        UserError: the file cannot be written, or has another suffix.
    """
    if out.suffix.lower() != drawn.suffix:
        hint = f"type: --out {out.with_suffix(drawn.suffix)}"
        raise UserError(f"{out}: this figure is a {drawn.suffix} file", hint=hint)
    return write_output(out, drawn.content)

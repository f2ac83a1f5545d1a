"""`aelab figure`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aelab.cli.options import Force, Limit, Only, key_values, of_lab
from aelab.cli.output import print_or_write, tabulated
from aelab.errors import UserError, visible
from aelab.lab import Lab


@of_lab
def figure(
    lab: Lab,
    name: Annotated[
        str | None, typer.Argument(help="The figure; --list shows all.", show_default=False)
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="RUN, RUN@best, RUN@latest or RUN@IMAGES; several, or a glob: one row per run.",
            show_default=False,
        ),
    ] = None,
    list_figures: Annotated[bool, typer.Option("--list", help="Say what there is.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="KEY=VALUE, for instance method=tsne. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; default: in the run, for the report."),
    ] = None,
    only: Only = None,
    limit: Limit = 10_000,
    force: Force = False,
) -> None:
    """Draw a picture of a trained model: reproductions, samples, interpolations, maps, a film."""
    if list_figures or name is None:
        print_or_write(_list_text(), None)
        return
    if run is None and only is None:
        raise UserError(
            "which run?", hint=f"type: aelab figure {name} RUN; aelab ls lists the runs"
        )
    shared: dict[str, Any] = {
        "out": out,
        "options": key_values("--option", option or (), "method=tsne"),
        "limit": limit,
        "force": force,
    }
    if run is not None and len(run) == 1 and only is None and not _names_several(run[0]):
        path = lab.figure(name, run[0], **shared)
    else:
        left_out: list[str] = []
        path = lab.figure_together(name, run or (), only=only, left_out=left_out, **shared)
        for words in left_out:
            print(visible(words), file=sys.stderr)
    print_or_write(str(path), None)


def _names_several(run: str) -> bool:
    """Whether an argument means several runs: a glob, or an experiment file."""
    return any(sign in run for sign in "*?[") or run.endswith((".yml", ".yaml"))


def _list_text() -> str:

    from aelab.study.figures import FIGURES
    from aelab.study.figures.several_runs import TOGETHER

    rows = []
    for name, entry in FIGURES.items():
        parameters = list(inspect.signature(entry.make).parameters.values())[1:]
        options = " ".join(f"{p.name}={p.default}" for p in parameters)
        rows.append([name, entry.summary, options, "yes" if name in TOGETHER else ""])
    return tabulated(rows, ["figure", "shows", "options", "of several runs"])

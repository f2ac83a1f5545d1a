"""`aelab figure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aelab.cli.options import Data, Runs, Trust
from aelab.cli.output import write
from aelab.errors import UserError


def figure(
    name: Annotated[
        str | None, typer.Argument(help="Which figure; --list tells.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Argument(help="RUN, RUN@best, RUN@latest or RUN@IMAGES.", show_default=False),
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
    limit: Annotated[
        int, typer.Option("--limit", min=2, help="At most so many held-out images.")
    ] = 10_000,
    runs: Runs = Path("runs"),
    data: Data = None,
    trust: Trust = False,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
) -> None:
    """Draw a picture of a trained model: reproductions, samples, interpolations, maps, a film."""
    from aelab import lab

    if list_figures or name is None:
        write(_list_text(), None)
        return
    if run is None:
        raise UserError(
            "which run?", hint=f"type: aelab figure {name} RUN; aelab ls shows the runs there are"
        )
    path = lab.figure(
        name,
        run,
        out=out,
        options=_options(option or []),
        limit=limit,
        runs=runs,
        data=data or (),
        trust=trust,
        device=device,
    )
    write(str(path), None)


def _options(given: list[str]) -> dict[str, str]:
    options = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UserError(f"--option {text}: expected KEY=VALUE", hint="as in: -o method=tsne")
        options[key.strip()] = value.strip()
    return options


def _list_text() -> str:
    import inspect

    from tabulate import tabulate

    from aelab.lab.figures import FIGURES

    rows = []
    for name, entry in FIGURES.items():
        parameters = list(inspect.signature(entry.make).parameters.values())[1:]
        options = " ".join(f"{p.name}={p.default}" for p in parameters)
        rows.append([name, entry.summary, options])
    return str(tabulate(rows, ["figure", "shows", "options"], tablefmt="simple"))

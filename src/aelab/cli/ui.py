"""`aelab ui`."""

from __future__ import annotations

import shlex
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from aelab.cli.options import Data, Device, Jobs, Only, Runs, Trust, jobs_of
from aelab.cli.output import print_or_write
from aelab.errors import MissingExtra, UserError
from aelab.lab import Lab


def ui(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the runs.", show_default=False)
    ] = None,
    runs: Runs = Path("runs"),
    only: Only = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8080,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; others than this machine need a token."),
    ] = "127.0.0.1",
    train: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Experiment file that the page trains, with a stop button. Repeatable.",
        ),
    ] = None,
    jobs: Jobs = "1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    data: Data = None,
    trust: Trust = False,
    device: Device = "cpu",
) -> None:
    """Show runs in a browser while they train, compare them, write notes, start and stop."""
    source = None if folder is None else context.get_parameter_source("runs")
    if source is not None and source.name == "COMMANDLINE":
        raise UserError(f"two folders of runs, {folder} and --runs {runs}: give one of them")
    try:
        import starlette  # noqa: F401  # an extra: the web page
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("aelab ui", str(error.name), "ui") from None
    from aelab.ui.server import serve

    def ready(address: str) -> None:
        print_or_write(f"{address}  (Ctrl-C ends it)", None)
        if browser:
            webbrowser.open(address)

    def saving(names: list[str]) -> None:
        again = " ".join(f"--run {shlex.quote(name)}" for name in names)
        print(f"saving the runs; continue with: aelab ui {again}", file=sys.stderr, flush=True)

    for path in train or ():
        if not path.is_file():
            raise UserError(f"--run {path}: there is no such file", hint="name an experiment file")
    serve(
        Lab(folder or runs, data or (), trust, device),
        only=only,
        host=host,
        port=port,
        train=train or (),
        jobs=jobs_of(jobs),
        ready=ready,
        saving=saving,
    )

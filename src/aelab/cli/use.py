"""Verbs that use a trained run on one's own images: `aelab encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aelab.cli.options import Data, Device, Force, Runs, Trust
from aelab.cli.output import print_or_write
from aelab.cli.progress import showing_progress
from aelab.lab import Lab

Reference = Annotated[
    str, typer.Argument(help="RUN, RUN@best, RUN@latest or RUN@IMAGES.", show_default=False)
]
Given = Annotated[
    str,
    typer.Argument(
        help="Folder, picture, data set (mnist:validation), an expression, or train / validation.",
        show_default=False,
    ),
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Folders: leave unreadable files out.")
]
Background = Annotated[
    str,
    typer.Option("--background", help="Colour behind transparent pixels: white, #rrggbb, checker."),
]


def encode(
    run: Reference,
    images: Given,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="CSV, NPZ or Parquet file, by its ending."),
    ] = Path("codes.csv"),
    skip_corrupt: SkipCorrupt = False,
    background: Background = "black",
    runs: Runs = Path("runs"),
    data: Data = None,
    trust: Trust = False,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Encode images with a trained run: file name, class and code of each, as a table."""
    with showing_progress():
        Lab(runs, data or (), trust, device).open(run).encode(
            images, out=out, skip_corrupt=skip_corrupt, background=background, force=force
        )
    print_or_write(str(out), None)

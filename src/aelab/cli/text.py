"""`aelab show`: the stored texts of runs whose images are texts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aelab.cli.options import Runs
from aelab.cli.output import print_or_write
from aelab.lab import Lab


class Shown(StrEnum):
    """A set of texts of a run."""

    heldout = "heldout"
    train = "train"


def show(
    run: Annotated[str, typer.Argument(help="Folder of a run.", show_default=False)],
    split: Annotated[
        Shown, typer.Option("--split", help="Texts to show: heldout or train.")
    ] = Shown.heldout,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="Number of texts, at most 16.")
    ] = 4,
    images: Annotated[
        int | None, typer.Option("--images", min=0, help="The texts at or before this many images.")
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Print a run's ASCII art beside the originals: held-out or training examples."""
    print_or_write(Lab(runs).show(run, split=split.value, count=count, images=images), None)

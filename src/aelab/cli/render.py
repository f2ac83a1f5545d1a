"""`aelab render`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from aelab.cli.options import Force, OneValueEach, Reference, Split, of_lab
from aelab.cli.output import print_or_write
from aelab.lab import Lab

_SIZE = re.compile(r"\d+(x\d*)?")


class ManySizes(OneValueEach):
    """Accepts `--resolution 64 128` for `--resolution 64 --resolution 128`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option before each further size."""
        spread: list[str] = []
        inside = False
        for word in args:
            if inside and spread[-1] not in ("--resolution", "-r") and _SIZE.fullmatch(word):
                spread.append("--resolution")
            spread.append(word)
            inside = word in ("--resolution", "-r") or (inside and bool(_SIZE.fullmatch(word)))
        return super().parse_args(ctx, spread)


@of_lab
def render(
    lab: Lab,
    run: Reference,
    resolution: Annotated[
        list[str] | None,
        typer.Option("--resolution", "-r", help="Sizes: 64 (width), 96x64, 2x. Default: 2x 4x."),
    ] = None,
    zoom: Annotated[
        str | None,
        typer.Option("--zoom", help="x0,y0,x1,y1: a window; -1,-1,1,1 is the whole picture."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help="Number of images; default 8, or 200 for scores.")
    ] = None,
    split: Annotated[
        Split, typer.Option("--split", help="Images to use: train or validation.")
    ] = Split.validation,
    truth: Annotated[
        bool,
        typer.Option("--truth", help="Score against the run's own set at a larger size."),
    ] = False,
    truth_set: Annotated[
        str | None,
        typer.Option("--truth-set", help="Score against this set of larger originals."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures.")] = Path(
        "renders"
    ),
    force: Force = False,
) -> None:
    """Draw a run's images at any size, if its decoder can; score them against true originals."""
    rendered = lab.open(run).render(
        sizes=resolution or (),
        zoom=zoom,
        images=images,
        split=split.value,
        out=out,
        truth=truth_set if truth_set is not None else truth,
        force=force,
    )
    if rendered.scores:
        from aelab.study.superresolution_score import scores_table

        print_or_write(scores_table(rendered.scores), None)
    for path in rendered.files:
        print_or_write(str(path), None)

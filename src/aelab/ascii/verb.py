"""`aelab ascii`: converts pictures to ASCII art with a trained run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from aelab.cli.options import Data, Device, Force, Runs, Trust, Way
from aelab.cli.output import print_or_write
from aelab.errors import UserError
from aelab.lab import Lab


class Match(StrEnum):
    """The way in which glyphs are compared with a picture."""

    strokes = "strokes"
    areas = "areas"
    brightness = "brightness"
    edges = "edges"


def ascii_art(
    image: Annotated[
        Path | None, typer.Argument(help="Picture, or text file.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="RUN, RUN@best, RUN@latest or RUN@IMAGES.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="FILE.txt or .png; frames also .gif or .webp."),
    ] = None,
    columns: Annotated[
        int | None, typer.Option("--columns", help="Width in characters; default: the run's.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Light becomes dark: for drawings on black.")
    ] = False,
    match: Annotated[
        Match, typer.Option("--match", help="How glyphs are matched.")
    ] = Match.strokes,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show the model's input beside its output.")
    ] = False,
    between: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--between", help="Interpolate between two files."),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="With --between: frames, both ends included.")
    ] = 8,
    path: Annotated[
        Way, typer.Option("--path", help="With --between: linear or spherical.")
    ] = Way.linear,
    runs: Runs = Path("runs"),
    data: Data = None,
    trust: Trust = False,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Turn a picture into ASCII art with a trained run, or interpolate between two pictures."""
    run = _named(run, image, between)
    if between is not None and (columns is not None or beside):
        raise UserError(
            "--columns and --beside show one picture, not frames", hint="leave them out"
        )
    opened = Lab(runs, data or (), trust, device).open(run)
    shared: dict[str, Any] = {"out": out, "invert": invert, "match": match.value, "force": force}
    if between is not None:
        frames = opened.write_between(*between, steps=steps, path=path.value, **shared)
        text = "\n\n".join("\n".join(lines) for lines in frames)
    else:
        art = opened.write(image or "", columns=columns, beside=beside, **shared)
        text = art.shown(beside)
    print_or_write(text if out is None else str(out), None)


def _named(run: str | None, image: Path | None, between: tuple[Path, Path] | None) -> str:
    """The run, after checking that an input is given."""
    if run is None:
        raise UserError("which run?", hint="type: aelab ascii IMAGE --run RUN; aelab ls shows them")
    if (image is None) == (between is None):
        raise UserError(
            "give one picture, or two with --between",
            hint=f"type: aelab ascii IMAGE --run {run}, or "
            f"aelab ascii --between FIRST SECOND --run {run}",
        )
    return run

"""Verbs that use a trained run: `encode`, `reconstruct`, `neighbours`, `sample`, `interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aelab.cli.options import Background, Force, Given, Reference, SkipCorrupt, Way, of_lab
from aelab.cli.output import print_or_write
from aelab.cli.progress import showing_progress
from aelab.lab import Lab

OfClass = Annotated[
    str | None,
    typer.Option(
        "--class", help="The class of all images, for models of classes; default: the subfolders."
    ),
]


@of_lab
def encode(
    lab: Lab,
    run: Reference,
    images: Given,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="CSV, NPZ or Parquet file, by its ending."),
    ] = Path("codes.csv"),
    of_class: OfClass = None,
    skip_corrupt: SkipCorrupt = False,
    background: Background = "black",
    force: Force = False,
) -> None:
    """Encode images with a trained run: file name, class and code of each, as a table."""
    with showing_progress():
        lab.open(run).encode(
            images,
            classes=of_class,
            out=out,
            skip_corrupt=skip_corrupt,
            background=background,
            force=force,
        )
    print_or_write(str(out), None)


@of_lab
def reconstruct(
    lab: Lab,
    run: Reference,
    images: Given,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures.")] = Path(
        "reconstructions"
    ),
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Pictures of so many of the worst; default all."),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show the original to the left in each file.")
    ] = False,
    of_class: OfClass = None,
    skip_corrupt: SkipCorrupt = False,
    background: Background = "black",
    force: Force = False,
) -> None:
    """Encode and decode images with a trained run: one PNG each, the worst first, and a table."""
    with showing_progress():
        lab.open(run).reconstruct(
            images,
            classes=of_class,
            out=out,
            count=count,
            beside=beside,
            skip_corrupt=skip_corrupt,
            background=background,
            force=force,
        )
    print_or_write(f"{out / 'errors.csv'}\n{out / 'worst.png'}", None)


@of_lab
def neighbours(
    lab: Lab,
    run: Reference,
    images: Given,
    among: Annotated[
        str | None,
        typer.Option(
            "--among", help="Find the nearest in this set; default: among the images themselves."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="Pairs that are printed and drawn.")
    ] = 20,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the table and the sheet.")
    ] = Path("neighbours"),
    skip_corrupt: SkipCorrupt = False,
    background: Background = "black",
    force: Force = False,
) -> None:
    """Find duplicates and near duplicates: pairs of images with similar codes, a table, a sheet."""
    with showing_progress():
        found = lab.open(run).neighbours(
            images,
            among=among,
            count=count,
            out=out,
            skip_corrupt=skip_corrupt,
            background=background,
            force=force,
        )
    print_or_write(found.text(count), None)
    print_or_write(f"{out / 'neighbours.csv'}\n{out / 'neighbours.png'}", None)


@of_lab
def sample(
    lab: Lab,
    run: Reference,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of images.")] = 16,
    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="auto, prior, gaussian, mixture, flow, or run:RUN2, which was trained on "
            "latents_of this run.",
        ),
    ] = "auto",
    of_class: Annotated[
        str | None, typer.Option("--class", help="Only images of this class of the run's sets.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other images.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the PNG files.")] = Path(
        "samples"
    ),
    force: Force = False,
) -> None:
    """Draw new images from a trained run: one PNG file each, with transparency where it has it."""
    with showing_progress():
        lab.open(run).sample(count, sampler, of_class=of_class, seed=seed, out=out, force=force)
    print_or_write(str(out), None)


@of_lab
def interpolate(
    lab: Lab,
    run: Reference,
    first: Annotated[str, typer.Argument(help="A picture.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another picture.", show_default=False)],
    steps: Annotated[int, typer.Option("--steps", min=2, help="Images, both ends included.")] = 16,
    path: Annotated[Way, typer.Option("--path", help="linear or spherical.")] = Way.linear,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="FILE.gif, .webp, .mp4, .png, or a folder of PNG files."),
    ] = Path("interpolation.gif"),
    background: Background = "black",
    force: Force = False,
) -> None:
    """Interpolate between two pictures through the codes of a trained run: a film, or frames."""
    lab.open(run).interpolate(
        first,
        second,
        steps=steps,
        path=path.value,
        out=out,
        background=background,
        force=force,
    )
    print_or_write(str(out), None)

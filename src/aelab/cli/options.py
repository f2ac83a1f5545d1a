"""Arguments and options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(help="Experiment file (YAML).", show_default=False)]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Experiment file, run folders or globs; default: every run.", show_default=False
    ),
]


class XAxis(StrEnum):
    """The unit of the x axis."""

    images = "images"
    seconds = "seconds"


class Way(StrEnum):
    """The path from one latent to another."""

    linear = "linear"
    spherical = "spherical"


class Split(StrEnum):
    """A set of images of a run."""

    train = "train"
    validation = "validation"


Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs.", envvar="AELAB_RUNS")]
Only = Annotated[str | None, typer.Option("--only", help="Only runs whose name matches this glob.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Evaluate blocks as plain Python: only for your own files.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Limit = Annotated[
    int,
    typer.Option(
        "--limit", min=2, help="At most this many held-out images per run, drawn at random."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="KEY=VALUE: replaces a key of the file, also globals.NAME=VALUE. Repeatable.",
    ),
]
Data = Annotated[
    list[Path] | None, typer.Option("--data", help="Another folder that data may be read from.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing file that aelab did not make.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")
]


def with_address(words: Sequence[str]) -> list[str]:
    """The words of a command, with the address `auto` added to a bare `--ray`.

    typer has no options with an optional value. An address is `auto`, `local` or has a colon.
    """
    found: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        has_address = re.fullmatch(r"auto|local|[^\s:]+:.+", following)
        found.append("--ray=auto" if word == "--ray" and not has_address else word)
    return found

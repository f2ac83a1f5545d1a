"""Arguments and options that several verbs share, each once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from aelab.errors import UserError
from aelab.lab import Lab

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
Jobs = Annotated[
    str,
    typer.Option(
        "--jobs",
        "-j",
        envvar="AELAB_JOBS",
        show_envvar=False,
        metavar="N|auto",
        help="Runs trained at once. auto: as many as free cores and memory allow.",
    ),
]
Data = Annotated[
    list[Path] | None, typer.Option("--data", help="Another folder that data may be read from.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing file that aelab did not make.")
]
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
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")
]


def of_lab(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds `--runs`, `--data`, `--trust` and `--device` to a verb, which takes them as one `Lab`.

    Args:
        verb: its first argument is the `Lab`; typer sees the others, and these four.
    """
    shared: dict[str, tuple[Any, Any]] = {
        "runs": (Runs, Path("runs")),
        "data": (Data, None),
        "trust": (Trust, False),
        "device": (Device, "auto"),
    }

    @wraps(verb)
    def typed(
        *, runs: Path, data: list[Path] | None, trust: bool, device: str, **given: Any
    ) -> None:
        """See `verb`."""
        verb(Lab(runs, data or (), trust, device), **given)

    _, *own = signature(verb, eval_str=True).parameters.values()
    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own]
    named += [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in shared.items()
    ]
    typed.__signature__ = Signature(named)  # type: ignore[attr-defined]  # what typer reads
    typed.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
    return typed


def with_address(words: Sequence[str]) -> list[str]:
    """The words of a command, with the address `auto` added to a bare `--ray`.

    typer has no options with an optional value. An address is `auto`, `local` or has a colon.
    """
    found: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        has_address = re.fullmatch(r"auto|local|[^\s:]+:.+", following)
        found.append("--ray=auto" if word == "--ray" and not has_address else word)
    return found


def jobs_of(text: str) -> int | None:
    """Converts `auto` to None, other texts to a number."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise UserError(f"--jobs {text}: write --jobs auto, or a number from 1, as in --jobs 2")
    return int(text)

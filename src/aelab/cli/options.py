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
from typer.core import TyperCommand, TyperOption

from aelab.errors import UserError
from aelab.lab import Lab

File = Annotated[Path, typer.Argument(help="Experiment file (YAML).", show_default=False)]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Experiment file, run folders or globs; default: every run.", show_default=False
    ),
]


class OneValueEach(TyperCommand):
    """A verb that refuses an option of one value given twice: one of the two would be ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Counts the options before they are read."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option in (each for each in given if isinstance(each, TyperOption)):
            is_switch = option.is_flag and not option.secondary_opts  # twice the same
            if given.count(option) > 1 and not option.multiple and not is_switch:
                names = " / ".join([*option.opts, *option.secondary_opts])
                way_out = "give one of them" if option.secondary_opts else "give it once"
                ctx.fail(f"{names} is given {given.count(option)} times; {way_out}")
        return super().parse_args(ctx, args)


class Verbs(typer.Typer):
    """The verbs: each refuses an option that would be ignored."""

    def command(self, name: str | None = None, **given: Any) -> Callable[[Any], Any]:
        """As in typer, for verbs of the class `OneValueEach`."""
        return super().command(name, **{"cls": OneValueEach} | given)


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
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only runs whose name matches this glob. Repeatable."),
]
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
    list[Path] | None,
    typer.Option("--data", help="Another folder that data may be read from. Repeatable."),
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


def comma_separated(texts: Sequence[str] | None) -> list[str]:
    """Converts `["a,b", "c"]` to `["a", "b", "c"]`."""
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]


def key_values(option: str, texts: Sequence[str], example: str) -> dict[str, str]:
    """Converts `["batch_size=128"]` to `{"batch_size": "128"}`.

    Args:
        option: for messages, as in `--set`.
        example: a KEY=VALUE for messages.

    Raises:
        UserError: a text is not KEY=VALUE, or a key is given two values.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not key:
            raise UserError(f"{option} {text}: write {option} KEY=VALUE, as in {option} {example}")
        if found.get(key, value) != value:
            raise UserError(
                f"{option}: {key} is given twice, as {found[key]} and as {value}",
                hint=f"give it once, as in {option} {example}",
            )
        found[key] = value
    return found


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

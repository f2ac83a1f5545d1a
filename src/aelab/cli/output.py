"""Writes the answer of a verb to standard output or to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aelab.errors import UserError, visible
from aelab.outputs import replacing, write_output

if TYPE_CHECKING:
    from rich.console import Console

#: The real standard output, while everything except answers goes to standard error.
_answers: list[TextIO] = []


@contextlib.contextmanager
def answers_only() -> Iterator[None]:
    """Context manager: sends everything printed inside, above all by blocks, to standard error.

    The output of `print_or_write` still goes to standard output.
    """
    _answers.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _answers.pop()


def spoken() -> contextlib.AbstractContextManager[object]:
    """Context manager: prints to the real standard output, also inside `answers_only`."""
    return contextlib.redirect_stdout(_answers[-1] if _answers else sys.stdout)


def tabulated(rows: Any, headers: Sequence[str] | str = (), **options: Any) -> str:
    """Rows as lines of text with aligned columns; `options` are those of the package tabulate."""
    from tabulate import tabulate

    return str(tabulate(rows, headers, **{"tablefmt": "simple", **options}))


def terminal() -> Console | None:
    """Standard error as a screen of the package rich; None if it is no terminal."""
    # rich also asks these two variables.
    if not (sys.stderr.isatty() or {"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys()):
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None


def print_or_write(text: str, out: Path | None, *, force: bool = False) -> None:
    """Prints `text`, or writes it to `out` and prints its path.

    A closed pipe (`aelab table | head`) is no error.

    Raises:
        UserError: the system refuses (full disk, permissions), or `out` is a file that aelab did
            not make, without `force`.
    """
    if out is not None:
        with replacing(force):
            write_output(out, text.rstrip("\n") + "\n")
        text = str(out)
    try:
        with spoken():
            print(text, flush=True)
    except OSError as error:
        _drop_the_rest()
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"cannot write to standard output: {error.strerror}") from error


def tell_damage(found: Sequence[Any], *, listed: bool = False) -> None:
    """Reports damage of stored runs on standard error, once each.

    Args:
        found: the runs that a verb has read.
        listed: the verb's output already lists the unreadable runs.
    """
    for run in found:
        problem = getattr(run, "problem", None)
        if problem is not None:
            told = [] if listed else [f"left out: {problem}"]
        else:
            note = run.status.get("note")
            told = [words for words in (note, run.lacks_metrics()) if words] + run.damage
        for words in told:
            print(visible(f"{run.folder}: {words}"), file=sys.stderr, flush=True)


def _drop_the_rest() -> None:
    """Discards further standard output, which Python would otherwise flush again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

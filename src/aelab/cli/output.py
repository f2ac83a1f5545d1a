"""Writing what a verb has to say: to standard output, or to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from aelab.errors import UserError, visible
from aelab.outputs import replacing, write_output

#: Standard output while everything but answers goes to standard error.
_answers: list[TextIO] = []


@contextlib.contextmanager
def answers_only() -> Iterator[None]:
    """Whatever is printed inside, by blocks of a file above all, goes to standard error.

    What `write` writes does not.
    """
    _answers.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _answers.pop()


def spoken() -> contextlib.AbstractContextManager[object]:
    """Where answers go, also inside of `answers_only`."""
    return contextlib.redirect_stdout(_answers[-1] if _answers else sys.stdout)


def print_or_write(text: str, out: Path | None, *, force: bool = False) -> None:
    """Prints `text`, or writes it to `out` and prints its path.

    A reader who has seen enough (`aelab table | head`) is no error.

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
    """Says on standard error what of the stored runs could not be read, once each.

    Args:
        found: runs that a verb has looked at.
        listed: what the verb has written names the unreadable ones already.
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
    """Standard output goes nowhere from here on, or Python would try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

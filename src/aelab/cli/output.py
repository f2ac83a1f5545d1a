"""Writing what a verb has to say: to standard output, or to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aelab.errors import UserError, visible


def write(text: str, out: Path | None, *, force: bool = False) -> None:
    """Prints `text`, or writes it to `out` and prints its path.

    A reader who has seen enough (`aelab table | head`) is no error.

    Raises:
        UserError: the system refuses (full disk, permissions), or `out` is a file that aelab did
            not make, without `force`.
    """
    if out is not None:
        from aelab.outputs import replacing, write_output

        with replacing(force):
            write_output(out, text.rstrip("\n") + "\n")
        text = str(out)
    try:
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

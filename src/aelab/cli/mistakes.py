"""Reports errors of verbs as text, and as JSON if that was requested."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

from aelab._version import __version__
from aelab.errors import AelabError, Problems, in_words, visible

#: Environment variable: show the traceback of an error in aelab, instead of writing a file.
SHOW = "AELAB_TRACEBACK"
_LESS_MEMORY = "take fewer images (--limit) or fewer runs at once, or close other programs"


def asks_for_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def print_error(error: AelabError, *, as_json: bool) -> int:
    """Prints an error to standard error, and as JSON to standard output; returns the exit code."""
    print(f"aelab: {error}", file=sys.stderr)
    if as_json:
        errors = error.errors if isinstance(error, Problems) else [error]
        _print_json([_entry(one) for one in errors], error.exit_code)
    return error.exit_code


def tell_usage(message: str, *, as_json: bool) -> None:
    """Prints a wrong option or argument as JSON, after the message on standard error."""
    if as_json:
        _print_json([_entry(AelabError(message, hint="see: aelab VERB --help"))], 2)


def tell_own_fault(error: BaseException, *, as_json: bool) -> int:
    """Reports an error in aelab itself: one line, and details in a file; returns exit code 1."""
    if isinstance(error, MemoryError):
        return print_error(AelabError("out of memory", hint=_LESS_MEMORY), as_json=as_json)
    if os.environ.get(SHOW):
        traceback.print_exception(error)
    words = in_words(error)
    message = f"this is a fault in aelab itself, not yours: {words}"
    hint = f"please report it, with the file {_details(error)}"
    print(f"aelab: {visible(message)}\n  {hint}", file=sys.stderr)
    if as_json:
        _print_json([_entry(AelabError(message, hint=hint))], 1)
    return 1


def _details(error: BaseException) -> str:
    """Writes command, version and traceback to a new file and returns its path."""
    head = f"aelab {__version__}, Python {sys.version.split()[0]}\n{' '.join(sys.argv)}\n\n"
    try:
        handle, path = tempfile.mkstemp(prefix="aelab-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(head + "".join(traceback.format_exception(error)))
    except OSError:
        return f"that {SHOW}=1 aelab ... prints"
    return path


def _entry(error: AelabError) -> dict[str, Any]:
    where = error.where
    return {
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "key": where.key if where else None,
        "message": visible(error.message),
        "hint": visible(error.hint) if error.hint else None,
    }


def _print_json(errors: list[dict[str, Any]], code: int) -> None:
    print(json.dumps({"errors": errors, "exit_code": code}, indent=2), flush=True)

"""Errors that functions and classes of a file raise after its blocks were evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

from aelab.config.blocks import Block, failing_place
from aelab.config.connection import failed_download
from aelab.errors import ConfigError, Where, did_you_mean, in_words


def mistake_of(
    error: BaseException, blocks: Mapping[str, Block], where: Where | None
) -> ConfigError:
    """Turns an error raised later by a function or class of a file into a mistake in that file.

    Args:
        error: the error with its traceback.
        blocks: blocks of the run, by key.
        where: the place to report if the traceback goes through none of the blocks.
    """
    place = where
    files = {str(block.where.file) for block in blocks.values()}
    for file in files:
        found = failing_place(error.__traceback__, Where(file))
        if found.line is not None:
            key = _block_at(found.line, file, blocks)
            place = found.at(key=key or (where.key if where else None))
    message, hint = failed_download(error) or (_said(error), None)
    return ConfigError(f"{message}{_own_module(error, files)}", where=place, hint=hint)


def _said(error: BaseException) -> str:
    """The message of a late error; for an unknown name with the most similar visible name."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if not isinstance(error, NameError) or isinstance(error, UnboundLocalError) or trace is None:
        return in_words(error)
    known = [name for name in trace.tb_frame.f_globals if not name.startswith("_")]
    name = error.name or str(error)
    return f"'{name}' is neither a part nor defined before{did_you_mean(name, known)}"


def passes_through(error: BaseException, blocks: Mapping[str, Block]) -> bool:
    """Whether an exception was raised in a function defined in one of the blocks."""
    files = {str(block.where.file) for block in blocks.values()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in files:
            return True
        trace = trace.tb_next
    return False


def _block_at(line: int, file: str, blocks: Mapping[str, Block]) -> str | None:
    """The key of the block that contains a line of the file."""
    starts = {
        key: block.where.line
        for key, block in blocks.items()
        if str(block.where.file) == file and block.where.line and block.where.line <= line
    }
    return max(starts, key=lambda key: starts[key]) if starts else None


def _own_module(error: BaseException, files: Iterable[str]) -> str:
    """Text ` (mymodel.py, line 12)` if the error comes from the user's own module, else empty."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        path = Path(code.co_filename)
        if code.co_filename not in files and not _is_installed(path):
            last = f" ({path.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return last


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to aelab, to Python's own library, or to an installed package."""
    homes = (Path(__file__).parents[1], Path(ast.__file__).parent)
    installed = "site-packages" in path.parts or any(path.is_relative_to(home) for home in homes)
    return installed or not path.is_absolute()  # `<frozen importlib>`

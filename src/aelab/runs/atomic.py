"""Writes files atomically: neither a crash nor a full disk leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

from aelab.errors import StoreError
from aelab.runs import disk

#: Values that JSON cannot represent; written as text and read back as numbers.
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_CONTINUE = "then repeat the command; nothing already written is lost"
_WAYS_OUT = {
    errno.ENOSPC: ("the disk is full", f"free some space, {_CONTINUE}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space, {_CONTINUE}"),
    errno.EFBIG: ("the file exceeds the allowed size", f"raise `ulimit -f`, {_CONTINUE}"),
    errno.EACCES: ("permission denied", f"make the folder writable or choose another, {_CONTINUE}"),
    errno.EPERM: ("not permitted", f"make the folder writable or choose another, {_CONTINUE}"),
    errno.EROFS: ("the file system is read-only", f"choose another runs folder, {_CONTINUE}"),
    errno.ENOTDIR: ("a file is in the way of a folder", "move the file or rename the experiment"),
    errno.EEXIST: ("a file is in the way of a folder", "move the file or rename the experiment"),
    errno.EISDIR: ("a folder is in the way of a file", "move the folder or rename the experiment"),
    errno.ENAMETOOLONG: ("the name is too long", "shorten `experiment_name`"),
    errno.ENOENT: (
        "a folder of it does not exist",
        "type a path in a folder that exists; a run's own may have been deleted",
    ),
    errno.ELOOP: ("the links form a loop", "remove the link"),
    errno.EIO: ("the disk reports an error", f"check the disk, {_CONTINUE}"),
}


_TO_READ = {
    errno.EACCES: "make it readable (chmod u+rX), or ask its owner",
    errno.EPERM: "make it readable (chmod u+rX), or ask its owner",
    errno.ENOENT: "the run may be incomplete or deleted; aelab ls shows what is there",
    errno.EIO: "check the disk, or restore the file from a copy",
}
#: Errors of the disk that concern every run, not only this one.
_OF_THE_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE,
}  # fmt: skip


def concerns_every_run(error: BaseException) -> bool:
    """Whether an error of the system concerns the whole disk, not only one directory."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _OF_THE_DISK


def explain(error: OSError, path: Path, doing: str = "write") -> StoreError:
    """Makes the error for a file operation that the system refused.

    Args:
        error: the system's error.
        path: the file or folder concerned.
        doing: the operation as a verb: `write`, `read`, `remove`.
    """
    reason, hint = _WAYS_OUT.get(error.errno or 0, (error.strerror or str(error), None))
    if doing == "read":
        hint = _TO_READ.get(error.errno or 0)
    return StoreError(f"cannot {doing} {path}: {reason}", hint=hint)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte of `data`; the system may take them in several pieces."""
    view = memoryview(data)
    while view:
        view = view[disk.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data` in one step: readers see the old content or the new, never a mix.

    Args:
        path: the file; its folder must exist.
        data: the whole new content.
        durable: wait until it is on the disk; False for values that are rewritten every second.

    Raises:
        StoreError: if the system refuses (full disk, permissions); `path` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = disk.open(temporary, flags, 0o666)
        try:
            write_all(descriptor, data)
            if durable:
                disk.fsync(descriptor)
        finally:
            os.close(descriptor)
        disk.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        if isinstance(error, OSError):
            raise explain(error, path) from error
        raise
    if durable:
        sync_folder(path.parent)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace `path` by `value` as legible JSON; see `to_json` for what is allowed."""
    write_bytes(path, to_json(value, indent=2).encode(errors="backslashreplace"), durable=durable)


def make_folder(path: Path) -> None:
    """Make `path` and its parents durably; an existing folder is fine.

    Raises:
        StoreError: if the system refuses.
    """
    missing = []
    try:
        for folder in (path, *path.parents):
            if folder.is_dir():
                break
            missing.append(folder)
        for folder in reversed(missing):
            try:
                disk.mkdir(folder)
            except FileExistsError:  # made by another process meanwhile; or it is no folder
                if not folder.is_dir():
                    raise
            else:
                sync_folder(folder.parent)
    except OSError as error:
        raise explain(error, path) from error


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: tuples become lists, sets sorted lists, paths text, NaN and infinities text."""
    end = "\n" if indent else ""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent, default=_plain)
    except ValueError:
        text = json.dumps(
            _finite(value), allow_nan=False, ensure_ascii=False, indent=indent, default=_plain
        )
    return text + end


def with_numbers(value: Any) -> Any:
    """Converts the texts that `to_json` writes for NaN and infinities back, at any depth."""
    if isinstance(value, str):
        return NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: with_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_numbers(entry) for entry in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if hasattr(value, "tolist"):  # numbers and arrays of numpy
        return _finite(value.tolist())
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value

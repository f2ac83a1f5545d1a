"""Reads files of a run safely, because a run may come from a stranger or be damaged.

Only regular files inside the run are opened: a FIFO would block forever, a device has no end, and a
link may lead to any file of the reader. Files above the greatest plausible size are not read.
Folders are walked without recursion, because they can be nested deeper than Python's stack.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aelab.config.slugs import DEEPEST
from aelab.errors import StoreError
from aelab.roots import lies_inside
from aelab.runs import disk
from aelab.runs.atomic import explain

#: Greatest plausible sizes in bytes; files written by aelab are far smaller.
LARGEST_JSON = 64 << 20
LARGEST_TEXT = 16 << 20
LARGEST_PICTURE = 64 << 20
LARGEST_METRICS = 1 << 30
LARGEST_TENSORS = 16 << 30

_MEND = "restore the file from a copy, or move the run's folder away and run again"
#: Flags so that opening a FIFO does not block, and a terminal does not become the controlling one.
_HARMLESS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read(path: Path, home: Path, largest: int) -> bytes:
    """Reads all bytes of one file of the run in `home`.

    Args:
        path: a path below `home`; may be a link that stays in the run.
        home: the run's directory.
        largest: greatest allowed size in bytes.

    Raises:
        FileNotFoundError: there is none.
        StoreError: no regular file, a link out of the run, too large, or the system refuses.
    """
    refuse_to_follow(path, home)
    try:
        refuse_other_kinds(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | _HARMLESS)
        try:
            facts = os.fstat(descriptor)
            refuse_other_kinds(path, facts)
            if facts.st_size > largest:
                raise _too_large(path, largest)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(largest + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explain(error, path, "read") from error
    if len(data) > largest:
        raise _too_large(path, largest)
    return data


def read_json(path: Path, home: Path | None = None) -> dict[str, Any]:
    """Reads the JSON object stored in `path`.

    Args:
        path: a file of a run.
        home: the run's directory; left out, the file's own folder.

    Raises:
        StoreError: if the file is missing, unreadable, or holds no JSON object.
    """
    try:
        value = json.loads(read(path, home or path.parent, LARGEST_JSON))
    except FileNotFoundError as error:
        raise explain(error, path, "read") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"cannot read {path}: it is not valid JSON ({error})", hint=_MEND
        ) from error
    if not isinstance(value, dict):
        raise StoreError(
            f"cannot read {path}: expected an object, found {type(value).__name__}", hint=_MEND
        )
    return value


def open_regular(path: Path, flags: int) -> int:
    """Opens a regular file for writing and returns its descriptor; made if `flags` say so.

    Raises:
        OSError: the system refuses.
        StoreError: it exists and is no regular file.
    """
    with contextlib.suppress(FileNotFoundError):
        refuse_other_kinds(path, os.stat(path))
    descriptor = disk.open(path, flags | _HARMLESS, 0o666)
    try:
        refuse_other_kinds(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_regular(path: Path, home: Path) -> bool:
    """Whether `path`, with links followed, is a regular file inside the run in `home`."""
    with contextlib.suppress(OSError, StoreError):
        refuse_to_follow(path, home)
        return stat.S_ISREG(os.stat(path).st_mode)
    return False


def refuse_to_follow(path: Path, home: Path) -> None:
    """Raises if a path of a run leads out of it through a link.

    Raises:
        StoreError: the file, or a folder on the way to it, is such a link.
    """
    place = Path(home)
    for part in path.relative_to(home).parts:
        if part == "..":
            raise StoreError(f"{path} is not inside the run {home}")
        place = place / part
        if place.is_symlink() and not lies_inside(path, home):
            raise StoreError(f"{place} is a link out of the run; it is not followed")


def refuse_other_kinds(path: Path, facts: os.stat_result) -> None:
    """Raises for a FIFO, a socket, a device or a folder in place of a file.

    Raises:
        StoreError: naming what it is.
    """
    kinds = {
        stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    kind = stat.S_IFMT(facts.st_mode)
    if kind != stat.S_IFREG:
        raise StoreError(
            f"cannot read {path}: it is {kinds.get(kind, 'something else')}, not a file", hint=_MEND
        )


def walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every entry below a folder, at most `DEEPEST` folders deep; links are not followed.

    Folders that cannot be read are skipped.
    """
    waiting = [(os.fspath(folder), 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as found:
                entries = list(found)
        except OSError:
            continue
        for entry in entries:
            yield entry
            if depth < DEEPEST and is_folder(entry):
                waiting.append((entry.path, depth + 1))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder and not a link to one."""
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def remove_tree(top: Path) -> None:
    """Removes a folder with everything below it, at any depth, without following links.

    Inner folders are first moved up to `top`, so that no path is longer than the system allows.

    Raises:
        StoreError: the system refuses; as much as possible has been removed.
    """
    refused: OSError | None = None
    waiting, number = [top], 0
    while waiting:
        folder = waiting.pop()
        try:
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                if not is_folder(entry):
                    disk.unlink(entry.path)
                    continue
                number += 1
                moved = top / f".{number}-{os.getpid()}"
                with contextlib.suppress(OSError):
                    os.chmod(entry.path, 0o700)  # otherwise it cannot be moved
                disk.rename(entry.path, moved)
                waiting.append(moved)
            if folder != top:
                disk.rmdir(folder)
        except OSError as error:
            refused = error
    try:
        disk.rmdir(top)
    except OSError as error:
        raise explain(refused or error, top, "remove") from error


def _too_large(path: Path, largest: int) -> StoreError:
    return StoreError(
        f"cannot read {path}: it has more than {largest:,} bytes, which no such file has",
        hint=_MEND,
    )

"""How much memory a set would take, asked before it is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from aelab.errors import DataError

_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_bytes() -> int | None:
    """Memory of this machine, or of the container it stands for; None where nobody tells."""
    found = []
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on every system
        pass
    for path in _GROUP_LIMITS:
        try:
            found.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or the word `max`
            continue
    return min(found) if found else None


def refuse_too_large(bytes_needed: int, what: str, hint: str = "") -> None:
    """Before memory is asked for: what the whole machine does not have.

    Args:
        bytes_needed: of the pixels alone.
        what: a set in words.
        hint: what to change.

    Raises:
        DataError: with both numbers.
    """
    there = machine_bytes()
    if there is not None and bytes_needed > there:
        raise DataError(
            f"{what} needs {bytes_needed / 2**30:,.1f} GB of memory for its pixels, this machine "
            f"has {there / 2**30:,.1f} GB",
            hint=hint or "take fewer images (.limit) or a smaller shape",
        )


def refuse_full_disk(target: Path, bytes_needed: int) -> None:
    """Before hours of writing.

    Args:
        target: the file that will be written, in the cache.
        bytes_needed: of it.

    Raises:
        DataError: the disk of the cache has not so much room.
    """
    place = next((above for above in target.parents if above.is_dir()), None)
    if place is None:
        return
    free = shutil.disk_usage(place).free
    if free < bytes_needed:
        raise DataError(
            f"the pixels need {bytes_needed / 2**30:,.1f} GB in the cache {target.parent}, "
            f"{free / 2**30:,.1f} GB are free",
            hint="give a smaller shape=, free space there, or set AELAB_CACHE to another folder",
        )

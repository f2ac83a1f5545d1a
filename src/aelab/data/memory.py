"""Checks that a set fits into memory or onto the disk, before it is made."""

from __future__ import annotations

import shutil
from pathlib import Path

from aelab.errors import DataError
from aelab.hardware import machine_bytes

#: Sets of more bytes, or of more than this share of the machine's memory, lie in a mapped file.
MAPPED_BYTES, MAPPED_SHARE = 2 << 30, 0.25


def mapped_above() -> int:
    """The size in bytes from which a set is kept in a memory-mapped file."""
    there = machine_bytes()
    return MAPPED_BYTES if there is None else min(MAPPED_BYTES, int(MAPPED_SHARE * there))


def refuse_too_large(bytes_needed: int, what: str, hint: str = "") -> None:
    """Raise if a set needs more memory than the whole machine has, before allocating it.

    Args:
        bytes_needed: of the pixels alone.
        what: the set in words, for the message.
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
    """Raise if a file does not fit onto the disk, before hours of writing.

    Args:
        target: the file that will be written, in the cache.
        bytes_needed: its size.

    Raises:
        DataError: the disk of the cache has less free space than that.
    """
    # The folder itself may not exist yet; its nearest existing parent lies on the same disk.
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

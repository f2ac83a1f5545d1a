"""Downloads public files into the cache and checks their decompressed content by SHA-256."""

from __future__ import annotations

import contextlib
import gzip
import logging
from collections.abc import Sequence
from pathlib import Path

import pooch

from aelab.data.sources.idx import check_sha256
from aelab.errors import DataError

_SECONDS = 30


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    sha256: str,
    looked_at: Sequence[Path],
    packed: bool = False,
) -> Path:
    """Download a file from the first address that has the right content.

    Args:
        addresses: the same file at several places, tried in order.
        target: the file to write.
        sha256: SHA-256 of the decompressed content.
        looked_at: places already searched, for the message.
        packed: `sha256` is that of the downloaded file instead.

    Returns:
        `target`.

    Raises:
        DataError: no address works; the message names the file and where to put it.
    """
    reasons = []
    for address in addresses:
        try:
            return _fetch_one(address, target, sha256, packed)
        except DataError as error:
            reasons.append(f"{address}: {error.message}")
        except Exception as error:
            # Anything a network can do: refused, no name, time-out, certificates, disk full.
            reasons.append(f"{address}: {type(error).__name__}: {str(error)[:120]}")
    places = "\n    ".join(str(place) for place in looked_at[:8])
    tried = "\n    ".join(reasons) or "no address is known"
    raise DataError(
        f"{target.name} was not found on this machine and could not be downloaded\n"
        f"  looked at:\n    {places}\n"
        f"  tried:\n    {tried}",
        hint=f"put the file at {target}, or set AELAB_DATA to a folder that has "
        f"{target.parent.name}/{target.name}",
    )


def _fetch_one(address: str, target: Path, sha256: str, packed: bool = False) -> Path:

    pooch.get_logger().setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed only after the check: an interrupted download never looks complete.
    partial = target.with_name(target.name + ".partial")
    with contextlib.suppress(OSError):
        partial.unlink()
    try:
        pooch.retrieve(
            address,
            known_hash=None,  # mirrors compress differently; the content is checked below
            fname=partial.name,
            path=partial.parent,
            downloader=pooch.HTTPDownloader(timeout=_SECONDS, progressbar=False),
        )
        content = partial.read_bytes()
        check_sha256(target, content if packed else gzip.decompress(content), sha256)
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return target

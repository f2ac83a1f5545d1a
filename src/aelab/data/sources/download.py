"""Downloads public files into the cache and checks their decompressed content by SHA-256."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from aelab import roots
from aelab.data.sources.idx import check_sha256
from aelab.errors import DataError

_SECONDS = 30
#: Bytes hashed at once.
_PART = 1 << 22


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: of the file.
        addresses: folders on the network to which the name is appended, tried in order; an address
            that does not end with `/` is used as it is.
        digest: of the file as published: `sha256:...`, or `md5:...` where only that is published;
            empty: none is published, so that only the size is checked.
        size_bytes: of the file; None if it is not published.
        folder: its folder in the cache.
    """

    name: str
    addresses: tuple[str, ...]
    digest: str
    size_bytes: int | None
    folder: str

    @property
    def home(self) -> str:
        """The first address, for lists of sets."""
        return self.addresses[0]

    def fetch(self, looked_at: Sequence[Path]) -> Path:
        """Downloads the file into the cache, checks it, and returns its path.

        Raises:
            DataError: no address gives the published file.
        """
        return fetch(
            [place + self.name if place.endswith("/") else place for place in self.addresses],
            roots.cache_folder() / self.folder / self.name,
            digest=self.digest,
            size_bytes=self.size_bytes,
            looked_at=looked_at,
        )


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    looked_at: Sequence[Path],
    sha256: str | None = None,
    digest: str = "",
    size_bytes: int | None = None,
) -> Path:
    """Download a file from the first address that has the right content.

    Args:
        addresses: the same file at several places, tried in order.
        target: the file to write.
        looked_at: places already searched, for the message.
        sha256: SHA-256 of the decompressed content, where mirrors compress differently.
        digest, size_bytes: of the file as downloaded, see `Remote`.

    Returns:
        `target`.

    Raises:
        DataError: no address works; the message names the file and where to put it.
    """
    reasons = []
    for address in addresses:
        try:
            return _fetch_one(address, target, sha256, digest, size_bytes)
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


def _fetch_one(
    address: str,
    target: Path,
    sha256: str | None,
    digest: str = "",
    size_bytes: int | None = None,
) -> Path:

    pooch.get_logger().setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed only after the check: an interrupted download never looks complete.
    partial = target.with_name(target.name + ".partial")
    with contextlib.suppress(OSError):
        partial.unlink()
    try:
        pooch.retrieve(
            address,
            known_hash=None,  # checked below: by the content, or with the size
            fname=partial.name,
            path=partial.parent,
            downloader=pooch.HTTPDownloader(timeout=_SECONDS, progressbar=False),
        )
        if sha256 is not None:
            check_sha256(target, gzip.decompress(partial.read_bytes()), sha256)
        check_file(partial, target.name, digest, size_bytes)
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return target


def check_file(path: Path, name: str, digest: str, size_bytes: int | None) -> None:
    """Raise if a file is not the published one.

    Args:
        path: the file, of any size: it is hashed part by part.
        name: for the message.
        digest, size_bytes: see `Remote`.

    Raises:
        DataError: another size or digest.
    """
    size = path.stat().st_size
    if size_bytes is not None and size != size_bytes:
        raise DataError(f"{name} has {size:,} bytes, the published file {size_bytes:,}")
    kind, _, expected = digest.partition(":")
    if not kind:
        return
    # MD5 guards against damage, not against forgery; some sets publish nothing else.
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(_PART):
            found.update(part)
    if found.hexdigest() != expected:
        raise DataError(f"{name} is not the published file: its {kind} is {found.hexdigest()}, "
                        f"expected {expected}")  # fmt: skip

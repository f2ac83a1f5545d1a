"""IDX files, as MNIST comes: magic, sizes, bytes; gzipped or not.

Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from aelab.errors import DataError


def load_idx(path: Path, *, sha256: str | None = None, dimensions: int | None = None) -> Tensor:
    """The bytes of an IDX file of type uint8.

    Args:
        path: a file, gzipped or not, whatever its name.
        sha256: of the decompressed file, if it must be a certain one.
        dimensions: how many the data must have, 3 for images, 1 for labels.

    Returns:
        uint8 tensor of the sizes in the file.

    Raises:
        DataError: unreadable, wrong magic number, wrong length, wrong checksum; with the path,
            what was found, what was expected, and what to do.
    """
    content = _decompressed(path)
    sizes = _sizes(path, content, dimensions)
    start = 4 + 4 * len(sizes)
    expected = 1
    for size in sizes:
        expected *= size
    if len(content) - start != expected:
        word = "cut off" if len(content) - start < expected else "too long"
        raise DataError(
            f"{path} is {word}: {len(content) - start:,} bytes of data, its header "
            f"{'x'.join(map(str, sizes))} promises {expected:,}",
            hint="delete the file; it is fetched again, or copy it again from its source",
        )
    if sha256 is not None:
        check_sha256(path, content, sha256)
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(sizes)


def idx_sizes(path: Path) -> tuple[int, ...]:
    """Only the sizes, from the first bytes of the file."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return _sizes(path, file.read(64), None)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def check_sha256(path: Path, content: bytes, expected: str) -> None:
    """Raise DataError if the content is not the expected one."""
    given = hashlib.sha256(content).hexdigest()
    if given != expected:
        raise DataError(
            f"{path} is not the expected file: sha256 of its content is {given}, "
            f"expected {expected}",
            hint="delete it, then it is fetched again; for your own images in this format give "
            "path=... to idx_dataset, which expects no checksum",
        )


def _sizes(path: Path, content: bytes, dimensions: int | None) -> tuple[int, ...]:
    magic = struct.unpack(">I", content[:4])[0] if len(content) >= 4 else None
    rank = content[3] if magic is not None else 0
    wanted = f"0x{0x0800 + dimensions:08x}" if dimensions else "0x000008NN"
    if magic is None or magic >> 8 != 0x08 or not rank or dimensions not in (None, rank):
        found = f"only {len(content)} bytes" if magic is None else f"0x{magic:08x}"
        raise DataError(
            f"{path} is not an IDX file of {'images' if dimensions == 3 else 'bytes'}: "
            f"its magic number is {found}, expected {wanted}",
            hint="images and labels may be exchanged, or a web page was saved instead of the file",
        )
    if len(content) < 4 + 4 * rank:
        raise DataError(f"{path} is cut off within its header", hint="copy it again")
    return struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])


def _decompressed(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(
        f"cannot read {path}: {reason}",
        hint="a file that was cut off is best deleted; it is fetched or copied again",
    )

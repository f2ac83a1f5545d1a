"""IDX files, the format of MNIST: magic number, sizes, bytes; gzipped or not.

Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from torch import Tensor

from aelab.data.memory import refuse_too_large
from aelab.errors import DataError
from aelab.files import open_file

#: Bytes unpacked at once.
_PART = 1 << 20


def load_idx(path: Path, *, sha256: str | None = None, dimensions: int | None = None) -> Tensor:
    """Reads an IDX file of type uint8.

    Args:
        path: a file, gzipped or not; its name does not matter.
        sha256: expected SHA-256 of the decompressed file; None for no check.
        dimensions: the expected number of dimensions: 3 for images, 1 for labels.

    Returns:
        uint8 tensor with the sizes of the header.

    Raises:
        DataError: unreadable, wrong magic number, wrong length or wrong checksum; with the path,
            the found and the expected value, and a way out.
    """
    digest = hashlib.sha256()
    with _opened(path) as (file, size):
        sizes, head = _header(path, file, dimensions)
        _refuse_promise(path, sizes, None if size is None else size - len(head))
        expected = math.prod(sizes)
        content = _read_up_to(file, expected + 1)
    if len(content) != expected:
        raise _wrong_length(path, sizes, len(content))
    if sha256 is not None:
        digest.update(head)
        digest.update(content)
        _compare_sha256(path, digest.hexdigest(), sha256)
    return torch.frombuffer(content, dtype=torch.uint8).reshape(sizes)


def idx_sizes(path: Path) -> tuple[int, ...]:
    """Reads only the sizes, from the first bytes of the file."""
    with _opened(path) as (file, size):
        sizes, head = _header(path, file, None)
        _refuse_promise(path, sizes, None if size is None else size - len(head))
        return sizes


def _refuse_promise(path: Path, sizes: tuple[int, ...], found: int | None) -> None:
    """Raise if the sizes in a header cannot be true.

    Raises:
        DataError: no images, another number of bytes than `found` (None: packed), or more than
            this machine's memory.
    """
    expected = math.prod(sizes)
    if expected == 0:
        raise DataError(
            f"{path} holds no images: its header says {'x'.join(map(str, sizes))}",
            hint="copy it again from its source, or leave it out",
        )
    if found is not None and found != expected:
        raise _wrong_length(path, sizes, found)
    refuse_too_large(expected, f"{path}", "the header may be damaged: copy it again")


#: Type byte of the values and their dtype, big-endian.
_TYPES = {"uint8": (0x08, ">u1"), "int32": (0x0C, ">i4")}


def idx_of(where: object, file: IO[bytes], kind: Literal["uint8", "int32"] = "uint8") -> Tensor:
    """Reads an IDX file that is already open, packed with gzip or xz, or plain.

    Args:
        where: its name, for messages.
        file: at its start.
        kind: type of the values.

    Returns:
        A tensor of that type with the sizes of the header.

    Raises:
        DataError: wrong magic number or length, or damaged.
    """
    packed = file.read(6)
    file.seek(0)
    content: IO[bytes] = file
    if packed[:2] == b"\x1f\x8b":
        content = gzip.open(file)  # type: ignore[assignment]  # reads bytes
    elif packed == b"\xfd7zXZ\x00":
        content = lzma.open(file)
    number, dtype = _TYPES[kind]
    name = Path(str(where))
    try:
        head = content.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] != number or not head[3]:
            raise DataError(
                f"{where} is not an IDX file of {kind}: it begins with {head.hex() or 'nothing'}",
                hint="images and labels may be exchanged; else copy it again from its source",
            )
        sizes = struct.unpack(f">{head[3]}I", content.read(4 * head[3]))
        expected = math.prod(sizes) * int(dtype[-1])
        _refuse_promise(name, sizes, None)
        refuse_too_large(expected, f"{where}", "the header may be damaged: copy it again")
        values = _read_up_to(content, expected + 1)
    except (OSError, EOFError, struct.error, zlib.error, lzma.LZMAError) as error:
        raise _unreadable(name, error) from None
    if len(values) != expected:
        raise _wrong_length(name, sizes, len(values))
    array = np.frombuffer(values, dtype).reshape(sizes)
    return torch.from_numpy(array.astype(dtype[1:], copy=kind != "uint8"))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int | None]]:
    """Opens the unpacked bytes; also returns the file's size, None if it is gzipped."""
    try:
        with open_file(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.open(raw) as file:
                    yield file, None  # type: ignore[misc]  # gzip's file reads bytes
            else:
                yield raw, path.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _header(path: Path, file: IO[bytes], dimensions: int | None) -> tuple[tuple[int, ...], bytes]:
    """The sizes and the bytes of the header; reads no further than that."""
    head = file.read(4)
    # The fourth byte is the number of dimensions, each a big-endian uint32.
    head += file.read(4 * head[3]) if len(head) == 4 else b""
    return _sizes(path, head, dimensions), head


def _read_up_to(file: IO[bytes], most: int) -> bytearray:
    """Reads at most `most` bytes: a small gzipped file may unpack to any size."""
    content = bytearray()
    while len(content) < most:
        part = file.read(min(_PART, most - len(content)))
        if not part:
            break
        content += part
    return content


def _wrong_length(path: Path, sizes: tuple[int, ...], found: int) -> DataError:
    expected = math.prod(sizes)
    short = found < expected
    return DataError(
        f"{path} is {'cut off' if short else 'too long'}: "
        f"{f'{found:,} bytes of data' if short else 'it continues after its data'}, its header "
        f"{'x'.join(map(str, sizes))} promises {expected:,}",
        hint="delete the file; it is downloaded again, or copy it again from its source",
    )


def check_sha256(path: Path, content: bytes, expected: str) -> None:
    """Raise DataError if the content has another SHA-256."""
    _compare_sha256(path, hashlib.sha256(content).hexdigest(), expected)


def _compare_sha256(path: Path, given: str, expected: str) -> None:
    if given != expected:
        raise DataError(
            f"{path} is not the expected file: sha256 of its content is {given}, "
            f"expected {expected}",
            hint="delete it, then it is downloaded again; for your own images in this format give "
            "path=... to idx_dataset, which expects no checksum",
        )


def _sizes(path: Path, content: bytes, dimensions: int | None) -> tuple[int, ...]:
    # Magic number: two zero bytes, the type (0x08 is uint8), the number of dimensions.
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


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(
        f"cannot read {path}: {reason}",
        hint="a file that was cut off should be deleted; it is downloaded or copied again",
    )

"""Image files by hand: what Pillow cannot write, with values that are known."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Kind of colour in a PNG header by the number of channels.
_PNG_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    check = zlib.crc32(name + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + name + data + check


def png(values: Array, bits: int, *extra: bytes, palette: bool = False) -> bytes:
    """(H, W, C) whole numbers of `bits` as a PNG file.

    Args:
        values: below 2**bits.
        bits: 1, 2, 4, 8 or 16.
        extra: chunks between header and data.
        palette: the values are numbers of a palette in `extra`.
    """
    height, width, channels = values.shape
    kind = 3 if palette else _PNG_KINDS[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    rows = [b"\0" + _packed(row.reshape(-1), bits) for row in values]
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(b"".join(rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def _packed(row: Array, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    if bits == 12:
        digits = np.unpackbits(row.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    else:
        digits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(digits.reshape(-1)).tobytes()


def tiff(
    values: Array,
    bits: int,
    *,
    order: str = "<",
    sample_format: int = 1,
    photometric: int | None = None,
    extra_samples: tuple[int, ...] = (),
    orientation: int | None = None,
) -> bytes:
    """(H, W, C) as an uncompressed TIFF file of one strip.

    Args:
        values: of any type; stored as `bits` of `sample_format` (1 whole, 2 signed, 3 float).
        order: `<` little-endian, `>` big-endian.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK, 8 LAB.
        extra_samples: 1 associated alpha, 2 alpha, of the last channels.
        orientation: as EXIF numbers it.
    """
    height, width, channels = values.shape
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    if bits >= 8 and bits != 12:
        data = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:
        data = b"".join(_packed(row.reshape(-1), bits) for row in values)
    photometric = photometric if photometric is not None else (2 if channels >= 3 else 1)
    tags: list[tuple[int, tuple[int, ...]]] = [
        (256, (width,)), (257, (height,)), (258, (bits,) * channels), (259, (1,)),
        (262, (photometric,)), (273, (0,)), (277, (channels,)), (278, (height,)),
        (279, (len(data),)),
    ]  # fmt: skip
    tags += [(274, (orientation,))] if orientation else []
    tags += [(338, extra_samples)] if extra_samples else []
    tags += [(339, (sample_format,) * channels)]
    tags.sort()
    size = 8 + 2 + 12 * len(tags) + 4
    tail = b""
    entries = b""
    offsets = size + sum(4 * len(v) for _, v in tags if len(v) > 1)
    for tag, found in tags:
        found = (offsets,) if tag == 273 else found
        if len(found) == 1:
            value = struct.pack(f"{order}I", *found)
        else:
            value = struct.pack(f"{order}I", size + len(tail))
            tail += struct.pack(f"{order}{len(found)}I", *found)
        entries += struct.pack(f"{order}HHI", tag, 4, len(found)) + value
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + b"\0\0\0\0" + tail + data

"""Room for the pixels of a set in the making.

A set is read or made part by part. Parts kept in a list and joined at the end would be in memory
twice; here each part goes to its place at once. A large set lies in a file that is mapped into
memory, so that it may be larger than the memory is.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aelab import roots
from aelab.data.memory import refuse_full_disk, refuse_too_large
from aelab.data.shared import LEAST_BYTES, current_shelf, lies_in
from aelab.errors import DataError

#: A larger set is kept in a memory-mapped file.
MAPPED_BYTES = 2 << 30

#: For sets that never lie in a file.
NEVER = 1 << 62

#: Bytes that are changed or copied at once.
PART_BYTES = 4 << 20


class PixelRoom:
    """Takes parts of a set and gives them as one tensor.

    Parts of different types become float32 of 0..1, as `join` makes them.

    Args:
        count: how many images there will be, or at most; None where nobody knows.
        what: the set in words, for messages.
        mapped_above: a set of more bytes lies in a file; `MAPPED_BYTES` if left out.
    """

    def __init__(self, count: int | None, what: str, *, mapped_above: int | None = None) -> None:
        self._count, self._what = count, what
        self._mapped_above = MAPPED_BYTES if mapped_above is None else mapped_above
        self._filled = 0
        self._all: Tensor | None = None  # (capacity, C, H, W)
        self._buffer: np.ndarray | None = None  # what `_all` shows, where it is in memory
        self._private: Tensor | None = None  # the same file, where it is one

    @property
    def mapped(self) -> bool:
        """Whether the set is so large that it lies in a file."""
        return self._all is not None and self._all.nbytes > self._mapped_above

    def promise(self, item: tuple[int, ...], dtype: torch.dtype) -> None:
        """Asks for the room before the first image is made.

        Args:
            item: (C, H, W) of an image.
            dtype: of the pixels.

        Raises:
            DataError: neither memory nor the disk of the cache has room for the set.
        """
        self._make(torch.Size(item), dtype)

    def add(self, part: Tensor, rows: Tensor | None = None) -> None:
        """Puts images behind those that are there, or at `rows`.

        Args:
            part: (n, C, H, W), of one shape in all calls; it is copied.
            rows: (n,) int64, where they go; all rows up to `count` must be given in the end.

        Raises:
            DataError: neither memory nor the disk of the cache has room for the set.
        """
        if self._all is None:
            self._make(part.shape[1:], part.dtype)
        elif part.dtype != self._all.dtype and self._all.dtype != torch.float32:
            self._become_floats()
        assert self._all is not None
        part = part if part.dtype == self._all.dtype else _floats(part)
        if rows is None:
            end = self._filled + len(part)
            if end > len(self._all):
                self._grow(end)
            self._all[self._filled : end] = part
        else:
            self._all[rows] = part
        self._filled += len(part)

    def done(self) -> Tensor:
        """(n, C, H, W): the images that were given. The room is empty then."""
        pixels = self._all
        if pixels is None:
            return torch.empty(0)
        if self._private is not None:
            pixels = self._private if self._filled == len(pixels) else self._private[: self._filled]
        elif self._filled < len(pixels):
            pixels = self._resized(self._filled)
        self._all = self._buffer = self._private = None
        return pixels

    def _make(self, item: torch.Size, dtype: torch.dtype) -> None:
        count = 0 if self._count is None else self._count
        size = count * math.prod(item) * dtype.itemsize
        self._buffer = self._private = None
        shelf = current_shelf()
        if shelf is not None and size >= LEAST_BYTES:
            # The only copy of all workers; a full folder leaves the set in this one's memory.
            with contextlib.suppress(OSError):
                self._open_file(shelf, size, item, dtype, keep=True)
                return
        if size > self._mapped_above:
            folder = roots.cache_folder() / "large"
            refuse_full_disk(folder / "set", size)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._open_file(folder, size, item, dtype, keep=False)
            except OSError as error:
                raise DataError(
                    f"cannot write the pixels of {self._what} to {folder}: "
                    f"{error.strerror or error}",
                    hint="free space there, or set AELAB_CACHE to another folder",
                ) from None
            return
        refuse_too_large(size, self._what)
        self._buffer = np.empty(size, np.uint8)
        self._all = _as_images(self._buffer, item, dtype)

    def _open_file(
        self, folder: Path, size: int, item: torch.Size, dtype: torch.dtype, *, keep: bool
    ) -> None:
        path = folder / f"{os.getpid()}-{secrets.token_hex(6)}.partial"
        try:
            with path.open("xb+") as file:
                if hasattr(os, "posix_fallocate"):  # a full disk must not show while it is written
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
                memory = mmap.mmap(file.fileno(), size)
                # The same pages once more, as private memory: whoever writes into the set later
                # changes only its own.
                private = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._all, self._private = (
            torch.frombuffer(one, dtype=dtype).view(-1, *item) for one in (memory, private)
        )
        if keep:
            lies_in(self._private, path)
        else:
            path.unlink(missing_ok=True)  # its pages stay until the last tensor goes

    def _grow(self, least: int) -> None:
        """More room in memory, an eighth at a time: the system moves pages instead of copying."""
        assert self._buffer is not None and self._all is not None, "more images than promised"
        refuse_too_large(least * self._all[:1].nbytes, self._what)
        self._all = self._resized(max(least, len(self._all) * 9 // 8))

    def _resized(self, count: int) -> Tensor:
        assert self._buffer is not None and self._all is not None
        item, dtype = self._all.shape[1:], self._all.dtype
        self._all = None  # nothing else may look at the buffer while it moves
        self._buffer.resize(count * math.prod(item) * dtype.itemsize, refcheck=False)
        return _as_images(self._buffer, item, dtype)

    def _become_floats(self) -> None:
        before, private = self._all, self._private  # held until its numbers are copied
        assert before is not None
        self._make(before.shape[1:], torch.float32)
        assert self._all is not None
        if len(self._all) < len(before):  # the number of images is not known
            self._grow(len(before))
        for some in parts_of(len(before), 4 * before[0].numel()):
            self._all[some] = _floats(before[some])
        del before, private


def parts_of(count: int, item_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Slices of a set, of some megabytes each.

    Args:
        count: of the images.
        item_bytes: what one of them takes.
        multiple: each slice but the last has a multiple of so many images.
    """
    step = max(1, PART_BYTES // max(1, item_bytes * multiple)) * multiple
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _as_images(buffer: np.ndarray, item: torch.Size, dtype: torch.dtype) -> Tensor:
    if not buffer.size:
        return torch.empty(0, *item, dtype=dtype)
    return torch.from_numpy(buffer).view(dtype).view(-1, *item)


def _floats(part: Tensor) -> Tensor:
    return part.float() / 255.0 if part.dtype == torch.uint8 else part.float()

"""The buffer for the pixels of a set while it is read or made.

A set is read or made part by part. Parts kept in a list and joined at the end would be in memory
twice; here each part is copied to its final place at once. A large set lies in a file that is
mapped into memory, so it may be larger than the memory.
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
from aelab.data.memory import mapped_above, refuse_full_disk, refuse_too_large
from aelab.data.shared import LEAST_BYTES, current_shelf, lies_in
from aelab.errors import DataError

#: For sets that never lie in a file.
NEVER = 1 << 62

#: Bytes that are changed or copied at once: some megabytes, so that temporary copies stay small.
PART_BYTES = 4 << 20


class PixelRoom:
    """Collects parts of a set and returns them as one tensor.

    If parts have different dtypes, all become float32 in 0..1.

    Args:
        count: the number of images, or an upper bound; None if not known.
        what: the set in words, for error messages.
        mapped: a set with more bytes is kept in a file; `memory.mapped_above()` if left out.
    """

    def __init__(self, count: int | None, what: str, *, mapped: int | None = None) -> None:
        self._count, self._what = count, what
        self._mapped_above = mapped_above() if mapped is None else mapped
        self._filled = 0
        self._all: Tensor | None = None  # (capacity, C, H, W)
        self._buffer: np.ndarray | None = None  # the memory behind `_all`, unless it is a file
        self._private: Tensor | None = None  # a private mapping of the same file, if there is one

    @property
    def mapped(self) -> bool:
        """Whether the set is large enough to be kept in a file."""
        return self._all is not None and self._all.nbytes > self._mapped_above

    def promise(self, item: tuple[int, ...], dtype: torch.dtype) -> None:
        """Allocates the buffer before the first image is made.

        Args:
            item: (C, H, W) of an image.
            dtype: of the pixels.

        Raises:
            DataError: neither memory nor the disk of the cache has room for the set.
        """
        self._make(torch.Size(item), dtype)

    def add(self, part: Tensor, rows: Tensor | None = None) -> None:
        """Copies images behind those already added, or to `rows`.

        Args:
            part: (n, C, H, W), of one shape in all calls; it is copied.
            rows: (n,) int64, their places; in the end all rows up to `count` must have been given.

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
        """(n, C, H, W): the images that were added. The buffer is empty afterwards."""
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
        # Without a count it starts at 0 bytes and grows with `add`.
        size = count * math.prod(item) * dtype.itemsize
        self._buffer = self._private = None
        shelf = current_shelf()
        if shelf is not None and size >= LEAST_BYTES:
            # One copy for all workers; if the folder is full, the set stays in this process's
            # memory.
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
                if hasattr(os, "posix_fallocate"):  # fails here if the disk is full
                    os.posix_fallocate(file.fileno(), 0, size)
                # Also without `posix_fallocate`: a file must have its size before it can be mapped.
                file.truncate(size)
                memory = mmap.mmap(file.fileno(), size)
                # The same pages again as a private mapping (copy on write): later writes into the
                # set change only this process's copy.
                private = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        # Both are views (n, C, H, W) of the same pages; no bytes are copied.
        self._all, self._private = (
            torch.frombuffer(one, dtype=dtype).view(-1, *item) for one in (memory, private)
        )
        if keep:
            lies_in(self._private, path)
        else:
            path.unlink(missing_ok=True)  # its pages stay until the last tensor is freed

    def _grow(self, least: int) -> None:
        """Enlarges the buffer by at least an eighth; the system moves pages instead of copying."""
        assert self._buffer is not None and self._all is not None, "more images than promised"
        refuse_too_large(least * self._all[:1].nbytes, self._what)
        self._all = self._resized(max(least, len(self._all) * 9 // 8))

    def _resized(self, count: int) -> Tensor:
        assert self._buffer is not None and self._all is not None
        item, dtype = self._all.shape[1:], self._all.dtype
        self._all = None  # no tensor may point into the buffer while it moves
        # refcheck=False: a caller may still hold the old tensor, which it replaces by this one.
        self._buffer.resize(count * math.prod(item) * dtype.itemsize, refcheck=False)
        return _as_images(self._buffer, item, dtype)

    def _become_floats(self) -> None:
        before, private = self._all, self._private  # kept until the values are copied
        assert before is not None
        self._make(before.shape[1:], torch.float32)
        assert self._all is not None
        if len(self._all) < len(before):  # the number of images is not known
            self._grow(len(before))
        for some in parts_of(len(before), 4 * before[0].numel()):
            self._all[some] = _floats(before[some])
        del before, private


def parts_of(count: int, item_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Yields slices of a set, of some megabytes each.

    Args:
        count: number of images.
        item_bytes: bytes of one image.
        multiple: the number of images in each slice, except the last, is a multiple of this.
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

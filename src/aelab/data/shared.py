"""Sharing one copy of each data set among several worker processes.

Within `sharing_sets`, a set that one process has read lies in files of a common folder: the raw
pixels, and a file with everything else. Pixels that are made part by part (`PixelRoom`) are made in
such a file. All processes map the pixels, including the one that read them, so the system keeps
one copy in memory for any number of processes. Mappings are private: a process that writes into a
set writes into its own copy, as without sharing.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from aelab.types import Images

#: Smaller sets are read by each process: a shared file would cost more.
LEAST_BYTES = 1 << 20

_shelves: list[Path] = []

#: The file of each tensor that already lies in the folder, by the tensor's `id`.
_places: dict[int, Path] = {}


@contextlib.contextmanager
def sharing_sets(folder: Path) -> Iterator[None]:
    """Context manager: shares sets loaded inside with all processes that name the same folder.

    Args:
        folder: accessible to this user only, because its files are unpickled; removed by its owner.
    """
    _shelves.append(folder)
    try:
        yield
    finally:
        _shelves.remove(folder)


def current_shelf() -> Path | None:
    """The folder of `sharing_sets`; None outside."""
    return _shelves[-1] if _shelves else None


def lies_in(pixels: Tensor, path: Path) -> None:
    """Records that a tensor is the content of a file, which is removed with the tensor.

    Once a set with these pixels is shared, the file stays.
    """
    _places[id(pixels)] = path
    weakref.finalize(pixels, _forget, id(pixels))


def _forget(number: int) -> None:
    path = _places.pop(number, None)
    if path is not None:
        path.unlink(missing_ok=True)


def shared(fingerprint: str, read: Callable[[], Images]) -> Images:
    """Returns the images of a description: mapped if another process has read them, else read now.

    Args:
        fingerprint: equal texts mean equal images.
        read: reads the images.
    """
    if not _shelves:
        return read()
    from filelock import FileLock

    # 32 digits are 128 bits: no two descriptions collide, and the name stays short.
    about = _shelves[-1] / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:32]}.set"
    lock = FileLock(about.with_suffix(".lock"))
    try:
        lock.acquire()  # a second process waits until the first has read the set
    except (OSError, NotImplementedError):
        return read()
    try:
        found = _found(about)
        if found is None:
            found = _stored(about, read())
        return found
    finally:
        lock.release()


def _found(about: Path) -> Images | None:
    """The images stored by another process; None if there are none or they are unusable."""
    try:
        images, dtype, shape = pickle.loads(about.read_bytes())
        assert isinstance(images, Images)
        # Pickle is safe here: the folder is accessible to this user only.
        return replace(images, pixels=_mapped(_pixels_file(about, images), dtype, shape))
    except (OSError, EOFError, ValueError, pickle.UnpicklingError):
        return None


def _stored(about: Path, images: Images) -> Images:
    """Stores a set in the folder and returns it with mapped pixels; unchanged if not worth it."""
    pixels = images.pixels
    made_here = _places.get(id(pixels))
    if not images.content_sha256 or pixels.device.type != "cpu":
        return images
    if made_here is None and (images.facts.get("memory_mapped") or pixels.nbytes < LEAST_BYTES):
        return images
    try:
        file = _pixels_file(about, images)
        if made_here is not None:
            os.replace(_places.pop(id(pixels)), file)
        else:
            if not file.exists():  # the same pixels may have other changes, or another name
                _write(file, pixels.contiguous().view(torch.uint8).numpy().data)
            images = replace(images, pixels=_mapped(file, pixels.dtype, tuple(pixels.shape)))
    except (OSError, ValueError):  # the folder is full or gone
        return images
    # A change made of a function of the experiment file cannot be pickled. Then the other processes
    # read the set too, and get the same pixels.
    with contextlib.suppress(OSError, pickle.PicklingError, AttributeError, TypeError):
        rest = replace(images, pixels=torch.empty(0))
        _write(about, pickle.dumps((rest, pixels.dtype, tuple(pixels.shape))))
    return images


def _pixels_file(about: Path, images: Images) -> Path:
    """The file of the pixels, named by content, so that equal pixels are stored once."""
    return about.with_name(f"{images.content_sha256}.pixels")


def _write(path: Path, data: bytes | memoryview) -> None:
    """Writes a whole file in one step, so that no reader sees a half-written one."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _mapped(path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(memory, dtype=dtype).reshape(shape)

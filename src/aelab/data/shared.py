"""One copy of each data set for several worker processes.

Within `sharing`, a set that one process has read lies in files of a common folder: its pixels as
they are, everything else beside them. Pixels that are made part by part (`PixelRoom`) are made in
such a file. All processes map the pixels, the one that read them too, so
the system keeps one copy in memory, however many there are. Mappings are private: whoever writes
into a set writes into its own copy, as without sharing.
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

#: Smaller sets are read by each process: a file each would cost more.
LEAST_BYTES = 1 << 20

_shelves: list[Path] = []

#: Files of the folder that tensors lie in already, by the tensor's `id`.
_places: dict[int, Path] = {}


@contextlib.contextmanager
def sharing_sets(folder: Path) -> Iterator[None]:
    """Context manager: sets loaded inside are shared with all who name the same folder.

    Args:
        folder: of this user alone, because what lies there is unpickled; removed by its owner.
    """
    _shelves.append(folder)
    try:
        yield
    finally:
        _shelves.remove(folder)


def current_shelf() -> Path | None:
    """The folder of `sharing`; None outside."""
    return _shelves[-1] if _shelves else None


def lies_in(pixels: Tensor, path: Path) -> None:
    """Tells that a tensor is the whole of a file of the folder, which goes with the tensor.

    Once a set with these pixels is shared, the file stays.
    """
    _places[id(pixels)] = path
    weakref.finalize(pixels, _forget, id(pixels))


def _forget(number: int) -> None:
    path = _places.pop(number, None)
    if path is not None:
        path.unlink(missing_ok=True)


def shared(fingerprint: str, read: Callable[[], Images]) -> Images:
    """The images of a description: mapped if another process has read them, else read now.

    Args:
        fingerprint: equal texts mean equal images.
        read: makes them.
    """
    if not _shelves:
        return read()
    from filelock import FileLock

    about = _shelves[-1] / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:32]}.set"
    lock = FileLock(about.with_suffix(".lock"))
    try:
        lock.acquire()  # who comes second waits until the first has read the set
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
    """What another process has put there; None where there is nothing to be used."""
    try:
        images, dtype, shape = pickle.loads(about.read_bytes())
        assert isinstance(images, Images)
        return replace(images, pixels=_mapped(_pixels_file(about, images), dtype, shape))
    except (OSError, EOFError, ValueError, pickle.UnpicklingError):
        return None


def _stored(about: Path, images: Images) -> Images:
    """Puts a set on the shelf and returns it with mapped pixels; as it is where that is no use."""
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
    # A change that is a function of the file itself cannot be handed on: then the others read the
    # set too, and end with the same pixels.
    with contextlib.suppress(OSError, pickle.PicklingError, AttributeError, TypeError):
        rest = replace(images, pixels=torch.empty(0))
        _write(about, pickle.dumps((rest, pixels.dtype, tuple(pixels.shape))))
    return images


def _pixels_file(about: Path, images: Images) -> Path:
    """Named by the content, so that equal pixels lie there once."""
    return about.with_name(f"{images.content_sha256}.pixels")


def _write(path: Path, data: bytes | memoryview) -> None:
    """The whole file in one step."""
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

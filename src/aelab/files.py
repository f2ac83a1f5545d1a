"""Opening files that others made: only regular ones, pictures in listed formats, one error for all.

A pipe would be waited for without end, and a device may give bytes without end. Pillow left to
itself opens formats that start other programs (EPS runs Ghostscript) or read further files. So
nobody else in aelab opens a picture or reads a data file.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from aelab.errors import AelabError, DataError

#: What Pillow may take a file for, whatever its name.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NoPicture(DataError):
    """A file that is no picture of the formats that are read."""


def irregular(path: Path) -> str:
    """What a path is in words where it is no regular file (`a pipe (FIFO)`), else an empty text.

    Raises:
        OSError: there is nothing, or it may not be looked at.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((words for test, words in _KINDS if test(mode)), "no regular file")


def open_file(path: Path) -> BinaryIO:
    """A regular file to be read, links followed; never waits for a pipe or a device.

    Raises:
        DataError: there is no such file, it is none, or it may not be read.
    """
    try:
        words = irregular(path)
        if not words:
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags)
            # Looked at again: it may have been exchanged in between.
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
            words = "no regular file"
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', '') or error}") from None
    raise DataError(f"{path} is {words}, not a file", hint="give the path of a file, or remove it")


def read_file(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        DataError: see `open_file`; or reading fails.
    """
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from None


@contextmanager
def open_picture(path: Path, formats: Sequence[str] = FORMATS) -> Iterator[Image.Image]:
    """A picture as Pillow opens it, not decoded yet; what goes wrong inside of `with` is one error.

    Args:
        path: a regular file; its content decides about its format, not its name.
        formats: of Pillow.

    Raises:
        NoPicture: the content is of none of these formats.
        DataError: the file is missing, no regular file, damaged, or unpacks to far too much.
    """
    with open_file(path) as file, warnings.catch_warnings():
        # Large pictures up to Pillow's limit are fine; odd metadata are not looked at.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=tuple(formats)) as image:
                yield image
        except AelabError:
            raise
        except UnidentifiedImageError:
            raise NoPicture(f"cannot read the image {path}: it is not a readable image") from None
        except Exception as error:
            # Pillow answers damaged files with nearly every exception that Python has.
            reason = str(error).replace(repr(file), "it").strip() or type(error).__name__
            raise DataError(f"cannot read the image {path}: {reason}", hint=DAMAGED) from None


DAMAGED = "repair or remove the file; skip_corrupt=True leaves such files out"

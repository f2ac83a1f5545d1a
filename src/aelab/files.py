"""Opens foreign files safely: only regular files, images only in listed formats, one error type.

Reading a pipe could block forever, and a device could return bytes forever. By default Pillow also
opens formats that start other programs (EPS runs Ghostscript) or read further files. So all images
and data files in aelab are opened here.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from PIL import Image, UnidentifiedImageError

from aelab.errors import AelabError, DataError

#: Formats that Pillow may recognise, independent of the file name.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NoPicture(DataError):
    """A file that is not an image in one of the accepted formats."""


def irregular(path: Path) -> str:
    """The kind of a path in words (`a pipe (FIFO)`); empty for a regular file.

    Raises:
        OSError: it does not exist, or cannot be accessed.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((words for test, words in _KINDS if test(mode)), "no regular file")


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading, follows links; never blocks on a pipe or a device.

    Raises:
        DataError: it does not exist, is not a regular file, or cannot be read.
    """
    try:
        words = irregular(path)
        if not words:
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags)
            # Checked again: the path may have been replaced in between.
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
    """Reads all bytes of a regular file.

    Raises:
        DataError: see `open_file`; or reading fails.
    """
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def own_picture(content: bytes) -> Image.Image:
    """The bytes of a picture that aelab has drawn, as a Pillow image."""
    return _image(io.BytesIO(content), ("PNG", "WEBP", "GIF"))


def _image(file: IO[bytes], formats: Sequence[str]) -> Image.Image:
    return Image.open(file, formats=tuple(formats))


@contextmanager
def open_picture(
    path: Path, formats: Sequence[str] = FORMATS, content: IO[bytes] | None = None
) -> Iterator[Image.Image]:
    """Context manager: opens an image with Pillow; any failure inside becomes a DataError.

    Args:
        path: a regular file; its content decides the format, not its name.
        formats: accepted formats of Pillow.
        content: an image inside of another file, which is opened already; `path` then names it.

    Raises:
        NoPicture: the content has none of these formats.
        DataError: the file is missing, not regular, damaged, or a decompression bomb.
    """
    with content or open_file(path) as file, warnings.catch_warnings():
        # Ignores warnings about large images (up to Pillow's limit) and odd metadata.
        warnings.simplefilter("ignore")
        try:
            with _image(file, formats) as image:
                yield image
        except AelabError:
            raise
        except UnidentifiedImageError:
            raise NoPicture(f"cannot read the image {path}: it is not a readable image") from None
        except Exception as error:
            # For damaged files Pillow raises almost any exception class.
            reason = str(error).replace(repr(file), "it").strip() or type(error).__name__
            raise DataError(f"cannot read the image {path}: {reason}", hint=DAMAGED) from None


DAMAGED = "repair or remove the file; skip_corrupt=True leaves such files out"

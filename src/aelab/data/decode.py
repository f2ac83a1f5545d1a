"""Image files to uint8 tensors: PNG, JPEG, WebP, GIF, BMP; palettes and alpha included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from torch import Tensor

from aelab.errors import DataError

Frames = Literal["first", "all"]

#: What Pillow may take a file for, whatever its name. Left to itself it also opens formats that
#: start other programs (EPS runs Ghostscript) or read further files.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: Endings that a folder is searched for.
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


def decode(path: Path, frames: Frames = "first") -> Iterator[Tensor]:
    """The pictures of one file.

    Args:
        path: an image file; the content decides about its format, not the name.
        frames: `first`, or `all` frames of an animation.

    Yields:
        (1 or 3, H, W) uint8 each: one channel for grey files; alpha is composited on black; a
        photograph is turned upright as its EXIF data say; 16 bit grey is brought to 8.

    Raises:
        DataError: if the file is missing or corrupt, naming it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.format == "JPEG"
            for frame in ImageSequence.Iterator(image):
                yield to_tensor(ImageOps.exif_transpose(frame) if turned else frame)
                if frames == "first":
                    break
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UnidentifiedImageError:
        raise _corrupt(path, "it is no image that can be read") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        # Pillow answers damaged files with each of these.
        raise _corrupt(path, str(error)) from None


def decode_rgba(path: Path) -> Tensor:
    """(4, H, W) uint8 of one file, colours not yet multiplied by alpha.

    Raises:
        DataError: if the file is missing or corrupt, naming it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _tensor(np.asarray(image.convert("RGBA")))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _corrupt(path, str(error)) from None


def image_shape(path: Path) -> tuple[int, int, int]:
    """(C, H, W) of a file from its header only, C being 1 or 3."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if image.format == "JPEG" and image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
            return (1 if _is_grey(image) else 3), height, width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _corrupt(path, str(error)) from None


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as (1 or 3, H, W) uint8, on black where it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        return _tensor(_to_eight_bit(np.asarray(image)))
    grey = _is_grey(image)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
        colour = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return _tensor(colour[..., :1] if grey else colour)
    return _tensor(np.asarray(image.convert("L" if grey else "RGB")))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in {"1", "L", "LA", "La", "F"} or image.mode.startswith("I")


def _to_eight_bit(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """16 bit files are shifted; floats are taken as 0..1."""
    if values.dtype.kind == "f":
        return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)


def _tensor(values: np.ndarray[Any, Any]) -> Tensor:
    array = values[..., None] if values.ndim == 2 else values
    return torch.from_numpy(np.array(array.transpose(2, 0, 1)))  # a writable, contiguous copy


def _corrupt(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot read the image {path}: {reason}",
        hint="mend or remove the file; skip_corrupt=True leaves such files out",
    )

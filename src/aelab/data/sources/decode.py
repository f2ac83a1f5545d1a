"""Image files to uint8 tensors: PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, of 1 to 32 bits.

Each value becomes 8 bits by the black and white that its type defines, never by the least and
greatest value in a file: whole numbers of 2 to 16 bits by their range (of 16 bits the upper 8 are
kept), floats as 0..1. Types without a defined black and white (32 bit whole numbers, signed ones,
LAB, floats outside 0..1, NaN) are refused, and the message names the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from aelab.data.sources.background import BLACK, Background, composite
from aelab.data.sources.file_types import file_type_of
from aelab.errors import DataError
from aelab.files import FORMATS, NoPicture, open_picture

__all__ = ["EXTENSIONS", "FORMATS", "Frames", "decode", "decode_rgba", "file_shape"]

Frames = Literal["first", "all"]
Array = np.ndarray[Any, Any]

#: Endings of the files that are read from a folder.
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

#: How far floats may lie outside 0..1: rounding may cause that.
_TOLERANCE = 1e-3

# Numbers of TIFF tags (BitsPerSample, PhotometricInterpretation, SampleFormat) and of EXIF.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _ORIENTATION = 258, 262, 339, 0x0112
_RANGE_HINT = "save it with 8 or 16 bits, or as floats in 0..1"


class _Stored(NamedTuple):
    """The storage format of a file's values, which is known only before decoding.

    Attributes:
        bits: of each value.
        raw: Pillow's name of the layout, for instance `RGB;16B`.
        white_is_zero: true for TIFF files in which 0 is white.
        signed: true for whole numbers with a sign.
        orientation: the EXIF number, 1 for upright.
    """

    bits: int
    raw: str
    white_is_zero: bool
    signed: bool
    orientation: int


class _Values(NamedTuple):
    """Colour (H, W, 1 or 3) uint8 and, if anything is transparent, alpha (H, W) uint8."""

    colour: Array
    alpha: Array | None


@dataclass
class Noticed:
    """Counts kept while pictures are read.

    Attributes:
        animated: animated files of which only the first frame was used.
        clear: number of pixels that are not fully opaque.
        pixels: number of all pixels.
    """

    animated: list[str] = field(default_factory=list)
    clear: int = 0
    pixels: int = 0

    def count(self, alpha: Array | None, pixels: int) -> None:
        """Counts one more picture."""
        self.pixels += pixels
        self.clear += 0 if alpha is None else int((alpha < 255).sum())

    def transparent_share(self) -> float:
        """The share of pixels that are not fully opaque, 0..1."""
        return self.clear / self.pixels if self.pixels else 0.0


def decode(
    path: Path,
    frames: Frames = "first",
    background: Background = BLACK,
    alpha: bool = False,
    noticed: Noticed | None = None,
    content: IO[bytes] | None = None,
) -> Iterator[Tensor]:
    """Yields the pictures of one file.

    Args:
        path: an image file; its content decides the format, not its name.
        frames: `first`, or `all` frames or pages.
        background: the colour behind transparent pixels.
        alpha: keep the transparency instead, as a fourth channel.
        noticed: counts of animated files and transparent pixels are added here.
        content: the bytes of a picture inside of an archive; `path` then only names it.

    Yields:
        (1 or 3, H, W) uint8 each: one channel for grey files, composited on `background`, and
        turned upright by EXIF orientation. With `alpha`: (4, H, W) red, green, blue (not
        multiplied, but black where alpha is 0) and alpha (255 if the file has none).

    Raises:
        DataError: the file is missing or corrupt, or of a type without a fixed black and white;
            names the file.
    """
    with _opened(path, content) as image:
        for frame in ImageSequence.Iterator(image):
            values = _read(frame, path)
            if noticed is not None:
                if frames == "first" and _is_animated(image):
                    noticed.animated.append(str(path))
                noticed.count(values.alpha, values.colour.shape[0] * values.colour.shape[1])
            yield _tensor(_with_alpha(values) if alpha else composite(*values, background))
            if frames == "first":
                break


def decode_rgba(path: Path) -> Tensor:
    """Reads one file as (4, H, W) uint8, colours not multiplied by alpha.

    Raises:
        DataError: see `decode`.
    """
    return next(decode(path, alpha=True))


def file_shape(path: Path, content: IO[bytes] | None = None) -> tuple[int, int, int]:
    """(C, H, W) of a file, or of its `content`, from the header only; C is 1 or 3.

    Raises:
        DataError: see `decode`.
    """
    with _opened(path, content) as image:
        width, height = image.size
        stored = _stored(image)
        if stored.orientation >= 5:
            width, height = height, width
        return (1 if _is_grey(image, stored) else 3), height, width


def is_animated(path: Path) -> bool:
    """Whether a file is a picture with further frames or pages."""
    try:
        with open_picture(path) as image:
            return _is_animated(image)
    except DataError:
        return False


@contextmanager
def _opened(path: Path, content: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """`open_picture`, with a message that names the kind of a file that is no picture."""
    try:
        with open_picture(path, content=content) as image:
            yield image
    except NoPicture:
        raise _another_kind(path, content) from None


def _another_kind(path: Path, content: IO[bytes] | None) -> DataError:
    kind = file_type_of(path, content)
    if kind is None:
        return NoPicture(
            f"cannot read the image {path}: it is not a readable image",
            hint="repair or remove the file; skip_corrupt=True leaves such files out",
        )
    return NoPicture(f"{path} is no image that can be read: it is {kind.name}", hint=kind.way_out)


def _is_animated(image: Image.Image) -> bool:
    """Whether there are further frames; previews in photographs (MPO) do not count."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:
        # The later frames are damaged, the first is not. Pillow may raise nearly any exception.
        return False


def _stored(image: Image.Image) -> _Stored:
    tiles = getattr(image, "tile", None) or []
    args = tiles[0][3] if tiles else ""
    raw = str(args[0] if isinstance(args, tuple) and args else args or "")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        formats = tags.get(_SAMPLE_FORMAT, (1,))
        bits = tags.get(_BITS, (1,))
        # Pillow turns TIFF files upright itself, the size in its header included.
        return _Stored(max(bits), raw, tags.get(_PHOTOMETRIC) == 0, 2 in tuple(formats), 1)
    bits_of = {"1": 1, "L;2": 2, "L;4": 4}
    bits_here = bits_of.get(raw, 16 if "16" in raw or image.mode.startswith("I") else 8)
    return _Stored(bits_here, raw, False, False, _orientation(image))


def _orientation(image: Image.Image) -> int:
    if image.format not in ("JPEG", "MPO", "PNG", "WEBP"):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Damaged EXIF data do not make a picture unreadable. Pillow may raise nearly any exception.
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _is_grey(image: Image.Image, stored: _Stored) -> bool:
    if stored.raw.startswith("LA"):  # 16 bits with alpha: Pillow has no such mode
        return True
    return image.mode in {"1", "L", "LA", "La", "F"} or image.mode.startswith("I")


def _read(image: Image.Image, path: Path) -> _Values:
    """Reads one frame and turns it upright.

    Raises:
        DataError: its type has no fixed black and white.
    """
    stored = _stored(image)
    _refuse_by_kind(image, stored, path)
    grey = _is_grey(image, stored)
    # Read before decoding: Pillow may drop it while decoding.
    key = image.info.get("transparency") if image.format == "PNG" else None
    if image.mode.startswith("I") or image.mode == "F":
        deep = np.asarray(image)
        colour = _to_eight_bit(deep, stored, path)[..., None]
        alpha = _alpha_of_key(deep == key) if isinstance(key, int) else None
    elif image.mode in ("1", "L", "RGB") and key is not None:
        if "16" in stored.raw:
            raise _refused(
                path, "one of its 16 bit colours is transparent (tRNS)", "save it with 8 bits"
            )
        colour, alpha = _keyed(image, key, stored)
    elif _is_transparent(image):
        rgba = np.asarray(_to_rgba(image))
        colour, alpha = rgba[..., : 1 if grey else 3], rgba[..., 3]
    else:
        plain = np.asarray(image.convert("L" if grey else "RGB"))
        colour, alpha = plain[..., None] if plain.ndim == 2 else plain, None
    turned = None if alpha is None else _upright(alpha, stored.orientation)
    return _Values(_upright(colour, stored.orientation), turned)


def _refuse_by_kind(image: Image.Image, stored: _Stored, path: Path) -> None:
    if stored.signed:
        raise _refused(
            path, f"whole numbers of {stored.bits} bits with a sign have no fixed black and white"
        )
    if image.mode == "I" and stored.bits > 16:
        values = np.asarray(image)
        values = values if values.min() >= 0 else values.view(np.uint32)
        low, high = int(values.min()), int(values.max())
        raise _refused(
            path,
            f"whole numbers of {stored.bits} bits have no fixed white; its values go from "
            f"{low:,} to {high:,}",
        )
    if image.mode == "LAB":
        raise _refused(path, "its colours are LAB", "save it in RGB")


def _is_transparent(image: Image.Image) -> bool:
    return image.getbands()[-1] in ("A", "a") or "transparency" in image.info


def _to_rgba(image: Image.Image) -> Image.Image:
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _keyed(image: Image.Image, key: Any, stored: _Stored) -> tuple[Array, Array]:
    """Colour and alpha of a PNG file with one transparent colour, given in the file's bit depth."""
    if image.mode == "RGB":
        colour = np.asarray(image)
        return colour, _alpha_of_key((colour == np.array(key)).all(2))
    grey = np.asarray(image.convert("L"))
    # Pillow scales grey values of 2 and 4 bits to 0..255, but not the key.
    value = key * (255 // (2**stored.bits - 1)) if image.mode == "L" else key
    return grey[..., None], _alpha_of_key(grey == value)


def _alpha_of_key(clear: Array) -> Array:
    return np.where(clear, 0, 255).astype(np.uint8)


def _to_eight_bit(values: Array, stored: _Stored, path: Path) -> Array:
    """Converts to 8 bits: whole numbers by the range of their bits, floats as 0..1."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise _refused(path, f"{count:,} of its values are NaN or infinite", "replace them")
        low, high = float(values.min()), float(values.max())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise _refused(
                path,
                f"floats are read as 0..1, and its values go from {low:g} to {high:g}",
                "divide by the value of white (255 for bytes, 65535 for 16 bits), save it again",
            )
        # + 0.5 and truncation round to the nearest.
        made = (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    else:
        made = (values.astype(np.int64) >> max(0, stored.bits - 8)).clip(0, 255).astype(np.uint8)
    # Pillow itself inverts files of fewer bits.
    return 255 - made if stored.white_is_zero else made


def _upright(values: Array, orientation: int) -> Array:
    """Turns and mirrors (H, W, ...) by the EXIF number."""
    if orientation >= 5:
        # 5 to 8 exchange rows and columns, then the flips below; 1 to 4 need no exchange.
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _with_alpha(values: _Values) -> Array:
    colour = np.broadcast_to(values.colour, (*values.colour.shape[:2], 3))
    alpha = np.full(colour.shape[:2], 255, np.uint8) if values.alpha is None else values.alpha
    # (H, W, 4); invisible colours become black.
    return np.concatenate([np.where(alpha[..., None] > 0, colour, 0), alpha[..., None]], axis=2)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values.transpose(2, 0, 1)))  # a writable, contiguous copy


def _refused(path: Path, what: str, way_out: str = _RANGE_HINT) -> DataError:
    return DataError(
        f"cannot read the image {path}: {what}",
        hint=f"{way_out}; skip_corrupt=True leaves such files out",
    )

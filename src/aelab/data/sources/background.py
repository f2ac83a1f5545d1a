"""The background of transparent pixels: a colour, or the checkerboard of paint programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ImageColor
from torch import Tensor

from aelab.errors import DataError
from aelab.ops.color import GREYS, SQUARE, over_checker, over_colour

Array = np.ndarray[Any, Any]
#: A colour as (red, green, blue) in 0..255, or the word `checker`.
Background = tuple[int, int, int] | str

BLACK: Background = (0, 0, 0)
CHECKER = "checker"


def background_of(given: Any) -> Background:
    """Reads a background: a name (`white`), `#rrggbb`, (red, green, blue) in 0..255, or `checker`.

    Raises:
        DataError: none of these.
    """
    try:
        if isinstance(given, str):
            word = given.strip().lower()
            if word == CHECKER:
                return CHECKER
            red, green, blue = ImageColor.getrgb(word)[:3]
        else:
            red, green, blue = (_byte(value) for value in given)
        return red, green, blue
    except (ValueError, TypeError):
        raise DataError(
            f"background {given!r} is not a colour",
            hint="possible: a name such as white, '#rrggbb', (red, green, blue) of whole numbers "
            "0..255, or 'checker'",
        ) from None


def _byte(value: Any) -> int:
    if isinstance(value, bool) or value != int(value) or not 0 <= value <= 255:
        raise ValueError(value)
    return int(value)


def composite(colour: Array, alpha: Array | None, background: Background) -> Array:
    """Composites a picture over a background.

    Args:
        colour: (H, W, 1 or 3) uint8, not multiplied by alpha.
        alpha: (H, W) uint8, or None if nothing is transparent.
        background: see `background_of`.

    Returns:
        (H, W, C) uint8; C is 1 if the colour and the background are grey.
    """
    if alpha is None:
        return colour
    behind = _behind(background, colour.shape[0], colour.shape[1])
    if colour.shape[2] == 1 and (behind == behind[..., :1]).all():
        behind = behind[..., :1]
    share = alpha[..., None].astype(np.uint32)
    mixed = colour * share + behind * (255 - share)
    # + 127 rounds to the nearest; uint32 above because 255 * 255 does not fit into 8 bits.
    return ((mixed + 127) // 255).astype(np.uint8)


def _behind(background: Background, height: int, width: int) -> Array:
    """(H, W, 3) uint32, or (1, 1, 3) if the background is one colour."""
    if background != CHECKER:
        return np.array(background, np.uint32).reshape(1, 1, 3)
    rows, columns = np.arange(height)[:, None] // SQUARE, np.arange(width)[None] // SQUARE
    squares = np.where((rows + columns) % 2, GREYS[1], GREYS[0])
    return np.repeat(squares[..., None], 3, axis=2).astype(np.uint32)


def over(pixels: Tensor, background: Background) -> Tensor:
    """Composites (N, 4, H, W) uint8 over a background -> (N, 3, H, W); see `background_of`."""
    return over_checker(pixels) if isinstance(background, str) else over_colour(pixels, background)

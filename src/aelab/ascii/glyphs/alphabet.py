"""The characters of ASCII art, and text as grids of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aelab.errors import DataError

#: The 95 printable characters of ASCII, codes 32 to 126; the space is number 0.
ALPHABET = "".join(map(chr, range(32, 127)))
SPACE = 0

_FIRST_CODE = ord(ALPHABET[0])


def to_grid(lines: Sequence[str], shape: tuple[int, int]) -> Tensor:
    """Converts lines of text to a grid of character numbers, from the top left, padded with spaces.

    Args:
        lines: at most H lines of at most W printable characters of ASCII.
        shape: (H, W) in characters.

    Returns:
        (H, W) uint8, numbers into `ALPHABET`.

    Raises:
        DataError: a line is too long, there are too many, or a character is not printable ASCII.
    """
    height, width = shape
    widest = max(map(len, lines), default=0)
    if len(lines) > height or widest > width:
        raise DataError(
            f"{len(lines)} lines of up to {widest} characters do not fit "
            f"{height} lines of {width} characters"
        )
    text = "".join(line.ljust(width) for line in lines).ljust(height * width)
    strange = sorted(set(text) - set(ALPHABET))
    if strange:
        raise DataError(f"{strange[0]!r} is no printable character of ASCII (codes 32 to 126)")
    codes = torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8)
    return (codes - _FIRST_CODE).reshape(height, width)


def to_lines(grid: Tensor) -> list[str]:
    """Converts a grid (H, W) of character numbers to H lines of W characters."""
    codes = (grid.to(torch.uint8).cpu() + _FIRST_CODE).contiguous()
    return [bytes(row.tolist()).decode("ascii") for row in codes]


def character_numbers(images: Tensor) -> Tensor:
    """Model inputs (B, 1, H, W), float number / 255 -> character numbers (B, H, W) int64."""
    return (images[:, 0] * 255).round().long()


def numbers_to_images(numbers: Tensor) -> Tensor:
    """(B, H, W) character numbers -> (B, 1, H, W) float32, number / 255, as batches hold them."""
    return numbers[:, None].to(torch.float32).div(255)

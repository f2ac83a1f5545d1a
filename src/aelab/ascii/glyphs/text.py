"""What ASCII art does with text as text: its mirror image, and two texts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from aelab.ascii.glyphs.alphabet import ALPHABET

#: Each the other's mirror image, left to right: brackets and slashes by design, `b d`, `p q` and
#: `J L` by their shape in nearly every font, the two quotes by their use in ASCII art (`-').
MIRRORED_PAIRS = ("()", "<>", "[]", "{}", "/\\", "bd", "pq", "JL", "`'")


def mirrored_numbers() -> Tensor:
    """For each character number the one whose picture is its mirror image, left to right.

    A picture is mirrored by `mirrored_numbers()[numbers.flip(-1)]`. Characters that are symmetric,
    or whose mirror image is no character, stay. Done twice, nothing is changed.

    Returns:
        (95,) uint8.
    """
    numbers = torch.arange(len(ALPHABET), dtype=torch.uint8)
    for pair in MIRRORED_PAIRS:
        one, other = ALPHABET.index(pair[0]), ALPHABET.index(pair[1])
        numbers[one], numbers[other] = other, one
    return numbers


def side_by_side(
    left: Sequence[str], right: Sequence[str], separator: str = "   |   "
) -> list[str]:
    """Two texts line by line, the left one filled up with spaces so that the right one aligns.

    Args:
        left: lines; fewer than on the right are followed by blank ones.
        right: lines; likewise.
        separator: between both.
    """
    width = max(map(len, left), default=0)
    pairs = zip_longest(left, right, fillvalue="")
    return [f"{one.ljust(width)}{separator}{other}" for one, other in pairs]

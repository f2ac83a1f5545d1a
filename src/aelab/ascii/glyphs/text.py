"""Operations on ASCII art as text: its mirror image, and two texts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from aelab.ascii.glyphs.alphabet import ALPHABET

#: Pairs of mirror images, left to right: brackets and slashes by design, `b d`, `p q` and `J L` by
#: their shape in nearly every font, the two quotes by their use in ASCII art (`-').
MIRRORED_PAIRS = ("()", "<>", "[]", "{}", "/\\", "bd", "pq", "JL", "`'")


def mirrored_numbers() -> Tensor:
    """For each character number, the number of its mirror image, left to right.

    A picture is mirrored by `mirrored_numbers()[numbers.flip(-1)]`. Characters that are symmetric,
    or whose mirror image is no character, are unchanged. Mirroring twice gives the original.

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
    """Joins two texts line by line, with the left one padded so that the right one is aligned.

    Args:
        left: lines; padded with blank ones if there are fewer than on the right.
        right: lines; likewise.
        separator: text between the two.
    """
    width = max(map(len, left), default=0)
    pairs = zip_longest(left, right, fillvalue="")
    return [f"{one.ljust(width)}{separator}{other}" for one, other in pairs]

"""Text and grids of character numbers are the same thing written twice."""

from __future__ import annotations

import pytest
import torch

from aelab.ascii.glyphs import ALPHABET, character_numbers, numbers_to_images, to_grid, to_lines
from aelab.errors import DataError


def test_the_alphabet_is_the_95_printable_characters_with_the_space_first() -> None:
    assert len(ALPHABET) == 95
    assert ALPHABET[0] == " " and ALPHABET[-1] == "~"
    assert ALPHABET.isprintable()


def test_text_comes_back_from_its_grid() -> None:
    lines = [r" /\_/\ ", "( o.o )", " > ^ < "]
    grid = to_grid(lines, (4, 9))
    assert grid.dtype == torch.uint8
    assert to_lines(grid) == [line.ljust(9) for line in lines] + [" " * 9]


def test_numbers_survive_the_way_through_a_batch_of_images() -> None:
    numbers = torch.arange(95).reshape(1, 5, 19)
    pixels = numbers[:, None].to(torch.uint8)
    assert torch.equal(character_numbers(pixels.float() / 255), numbers)
    assert torch.equal(character_numbers(pixels.float() * (1 / 255)), numbers)
    assert torch.equal(character_numbers(numbers_to_images(numbers)), numbers)


@pytest.mark.parametrize(("lines", "word"), [(["abc"], "do not fit"), (["é"], "no printable")])
def test_what_does_not_fit_is_refused(lines: list[str], word: str) -> None:
    with pytest.raises(DataError, match=word):
        to_grid(lines, (1, 2))

"""Pictures become the characters that look most like them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from aelab.errors import ShapeError
from aelab.glyphs import ALPHABET, FontRenderer, match, match_glyphs, to_lines


def _numbers(*shape: int) -> Tensor:
    return torch.randint(len(ALPHABET), shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("size", [7, 12])
def test_what_the_renderer_drew_is_read_back(size: int) -> None:
    renderer, numbers = FontRenderer(size), _numbers(3, 6, 9)
    found = match_glyphs(renderer.draw(numbers), (6, 9), renderer)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), numbers)


def test_each_cell_becomes_the_glyph_of_least_squared_error() -> None:
    renderer = FontRenderer(8)
    height, width = renderer.cell
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand((2, 1, 3 * height, 4 * width), generator=generator)
    found = match_glyphs(pictures, (3, 4), renderer)
    atlas = renderer.atlas.double().numpy()
    for image, row, column in np.ndindex(2, 3, 4):
        rows = slice(row * height, (row + 1) * height)
        columns = slice(column * width, (column + 1) * width)
        cell = pictures[image, 0, rows, columns].double().numpy()
        errors = ((atlas - cell) ** 2).sum((1, 2))
        assert int(found[image, row, column]) == int(errors.argmin())


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = FontRenderer(6)
    pictures = torch.rand((5, 1, 30, 30), generator=torch.Generator().manual_seed(2))
    whole = match_glyphs(pictures, (4, 6), renderer)
    monkeypatch.setattr(match, "_AT_ONCE", 1)
    assert torch.equal(match_glyphs(pictures, (4, 6), renderer), whole)


def test_greys_become_darker_characters_the_darker_they_are() -> None:
    renderer = FontRenderer(9)
    greys = torch.linspace(1, 0, 6)[:, None, None, None].expand(-1, 1, 24, 24)
    found = match_glyphs(greys, (2, 2), renderer, brightness=True)
    means = renderer.atlas.flatten(1).mean(1)[found[:, 0, 0].long()]
    assert int(found[0].max()) == 0
    assert bool((means.diff() < 0).all())
    assert int(found[-1, 0, 0]) == int(renderer.atlas.flatten(1).mean(1).argmin())


def test_edges_keep_the_outline_of_a_square_and_empty_its_middle() -> None:
    renderer = FontRenderer(12)
    square = torch.ones(1, 1, 8 * renderer.cell[0], 16 * renderer.cell[1])
    square[:, :, 29:91, 27:85] = 0
    lines = to_lines(match_glyphs(square, (8, 16), renderer, edges=True)[0])
    areas = to_lines(match_glyphs(square, (8, 16), renderer)[0])
    assert lines[4][5:10] == "     " and lines[4].strip() and lines[0].strip() == ""
    assert set(areas[4][5:10]) == {"M"}


def test_a_blank_page_has_no_edges() -> None:
    blank = torch.full((1, 1, 24, 10), 0.4)
    found = match_glyphs(blank, (2, 2), FontRenderer(9), edges=True)
    assert int(found.max()) == 0


def test_an_empty_set_and_coloured_pictures() -> None:
    renderer = FontRenderer(6)
    assert match_glyphs(torch.empty(0, 1, 8, 8), (2, 3), renderer).shape == (0, 2, 3)
    with pytest.raises(ShapeError, match=r"\(N, 1, height, width\), and not \(1, 3, 8, 8\)"):
        match_glyphs(torch.zeros(1, 3, 8, 8), (2, 2), renderer)

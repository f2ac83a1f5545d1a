"""Pictures become the characters that look most like them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from aelab.ascii.glyphs import ALPHABET, FontRenderer, match, match_glyphs, to_lines
from aelab.errors import ConfigError, ShapeError


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


def _cells_with_ink(lines: list[str]) -> list[list[bool]]:
    return [[character != " " for character in line] for line in lines]


@pytest.mark.parametrize("left", range(50, 60))
def test_strokes_keep_every_line_of_a_box_wherever_it_falls(left: int) -> None:
    box = torch.ones(1, 1, 240, 240)
    box[:, :, 48:200, left : left + 4] = box[:, :, 48:200, left + 120 : left + 124] = 0
    box[:, :, 48:52, left : left + 124] = box[:, :, 196:200, left : left + 124] = 0
    renderer = FontRenderer(9)  # 10 x 24 cells of 5 x 12 pixels: the lines become one pixel thick
    inked = _cells_with_ink(to_lines(match_glyphs(box, (10, 24), renderer, strokes=True)[0]))
    first = next(row for row in inked if any(row))
    columns = [column for column, ink in enumerate(first) if ink]
    assert columns == list(range(columns[0], columns[-1] + 1)) and len(columns) >= 12
    upright = [row for row in inked if any(row)]
    assert len(upright) >= 6
    assert all(any(row[:12]) and any(row[12:]) for row in upright)


def test_strokes_forget_how_pale_the_ink_is_and_a_blank_page_stays_blank() -> None:
    dark = torch.ones(1, 1, 60, 60)
    dark[:, :, 20:40, 28:32] = 0
    pale, renderer = 0.7 + 0.3 * dark, FontRenderer(9)
    found = match_glyphs(dark, (5, 12), renderer, strokes=True)
    assert int((found > 0).sum()) >= 2
    assert torch.equal(match_glyphs(pale, (5, 12), renderer, strokes=True), found)
    assert int(match_glyphs(torch.ones(1, 1, 60, 60), (5, 12), renderer, strokes=True).max()) == 0


def test_strokes_and_brightness_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not by both"):
        match_glyphs(torch.ones(1, 1, 9, 9), (2, 2), FontRenderer(6), strokes=True, brightness=True)

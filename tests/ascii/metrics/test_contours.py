"""Contours of drawn text: near strokes become one shape, far ones stay apart; their agreement."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from aelab.ascii.glyphs import font_renderer, to_grid
from aelab.ascii.metrics.contours import (
    LEAST_INK,
    agreement,
    connected_components,
    contour_agreement,
    contours,
    count_components,
    legacy_edges,
    within,
)
from aelab.errors import ShapeError

#: The shape that document 002 wants "joined together, to make one continuous shape".
OUTLINE = [
    r"                  _---------_",
    r"                 /           |",
    r"                /            \ ",
    r"               /              |",
    r"              /               |",
    r"              -______________/",
]
SQUARE = ["+----+", "|    |", "|    |", "+----+"]


def _drawn(lines: list[str], shape: tuple[int, int] = (14, 64), font_res: int = 9) -> Tensor:
    grid = to_grid([line.rstrip() for line in lines], shape)
    return font_renderer(font_res).draw(grid[None])


def _cell(font_res: int = 9) -> int:
    return font_renderer(font_res).cell[0]


def _flood_fill(mask: Tensor) -> int:
    """How many parts a picture (1, 1, H, W) has, pixel by pixel; corners join."""
    left = {(int(y), int(x)) for y, x in mask[0, 0].nonzero()}
    parts = 0
    while left:
        parts += 1
        queue = deque([left.pop()])
        while queue:
            y, x = queue.popleft()
            for near in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    queue.append(near)
    return parts


def _beside(left: list[str], right: list[str], gap: int) -> list[str]:
    height, width = max(len(left), len(right)), max(map(len, left))
    left, right = (lines + [""] * (height - len(lines)) for lines in (left, right))
    return [one.ljust(width + gap) + other for one, other in zip(left, right, strict=True)]


@pytest.mark.parametrize("font_res", [7, 9, 11, 16])
def test_the_outline_of_the_document_becomes_one_connected_contour(font_res: int) -> None:
    picture = _drawn(OUTLINE, font_res=font_res)
    assert _flood_fill(picture <= 1 - LEAST_INK) > 15, "as drawn it is in many pieces"
    contour = contours(picture, _cell(font_res))
    assert _flood_fill(contour) == 1
    ink, near = picture <= 1 - LEAST_INK, within(contour, 0.2 * _cell(font_res))
    assert not bool((ink & ~near).any()), "it left its strokes"


def test_the_documents_own_filter_leaves_the_outline_in_pieces() -> None:
    filtered = legacy_edges(_drawn(OUTLINE), sigma_pixels=0.9, size=11)
    inner = filtered[..., 11:-11, 11:-11]
    assert _flood_fill(inner.abs() > 0.1 * inner.abs().max()) > 3


def test_shapes_far_apart_stay_two() -> None:
    contour = contours(_drawn(_beside(SQUARE, SQUARE, gap=5)), _cell())
    assert _flood_fill(contour) == 2
    below = contours(_drawn([*SQUARE, "", "", "", *SQUARE]), _cell())
    assert _flood_fill(below) == 2


def test_a_sentence_does_not_merge_with_a_figure_six_cells_away() -> None:
    lines = _beside(OUTLINE, ["", "", "a sentence of some words"], gap=6)
    contour = contours(_drawn(lines), _cell())
    assert _flood_fill(contour) == 2
    columns = contour[0, 0].any(0)
    end_of_figure = 31 * font_renderer(9).cell[1]
    assert not bool(columns[end_of_figure + 10 : end_of_figure + 20].any())


def test_hatching_becomes_one_area_and_only_its_border_stays() -> None:
    contour = contours(_drawn(["||||||||||||||||||||"] * 8), _cell())
    assert _flood_fill(contour) == 1
    height, width = font_renderer(9).cell
    assert not bool(contour[0, 0, 3 * height : 5 * height, 5 * width : 15 * width].any())


def test_ink_at_the_border_of_the_picture_has_a_contour_there() -> None:
    contour = contours(torch.zeros(1, 1, 60, 60), 12)
    assert bool(contour[0, 0, 0].all())
    assert not bool(contour[0, 0, 30, 20:40].any())


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    pictures = [_drawn(OUTLINE), _drawn(SQUARE), torch.ones_like(_drawn(SQUARE))]
    together = contours(torch.cat(pictures), _cell())
    for number, picture in enumerate(pictures):
        assert torch.equal(together[number : number + 1], contours(picture, _cell()))


@pytest.mark.parametrize("radius", [1.0, 1.5, 3.7, 11.2, 11.4, 20.0])
def test_within_is_the_distance_to_the_nearest_point(radius: float) -> None:
    mask = torch.zeros(2, 1, 17, 23, dtype=torch.bool)
    mask[0, 0, 3, 4] = mask[0, 0, 9, 20] = mask[0, 0, 16, 0] = True
    found = within(mask, radius)
    rows, columns = torch.meshgrid(torch.arange(17), torch.arange(23), indexing="ij")
    nearest = torch.full((17, 23), math.inf)
    for y, x in mask[0, 0].nonzero().tolist():
        nearest = torch.minimum(nearest, (rows - y).square() + (columns - x).square())
    assert torch.equal(found[0, 0], nearest <= radius**2)
    assert not found[1].any()


def test_components_are_those_of_a_flood_fill() -> None:
    generator = torch.Generator().manual_seed(2)
    masks = torch.cat([torch.rand(1, 1, 30, 40, generator=generator) < p for p in (0.1, 0.3, 0.5)])
    spiral = torch.zeros(1, 1, 30, 40, dtype=torch.bool)
    spiral[..., ::2, :] = True  # a snake: rows joined at alternating ends
    spiral[..., 1::4, -1] = True
    spiral[..., 3::4, 0] = True
    masks = torch.cat([masks, spiral, torch.zeros_like(spiral)])
    counts = [_flood_fill(mask[None]) for mask in masks]
    assert count_components(masks).tolist() == counts
    assert counts[3:] == [1, 0]
    labels = connected_components(masks)
    assert torch.equal(labels > 0, masks)
    assert _flood_fill(labels[:1] == labels[0].max()) == 1


def _agreement(one: Tensor, other: Tensor) -> float:
    return contour_agreement(one, other, _cell()).item()


def test_equal_pictures_agree_and_blank_ones_agree_only_with_each_other() -> None:
    picture, blank = _drawn(OUTLINE), torch.ones_like(_drawn(OUTLINE))
    assert _agreement(picture, picture) == pytest.approx(1, abs=1e-6)
    assert _agreement(blank, blank) == 1
    assert _agreement(picture, blank) == _agreement(blank, picture) == 0


def test_a_shift_within_the_tolerance_costs_nothing_and_every_further_one_more() -> None:
    picture = _drawn(SQUARE, (14, 40))
    scores = [_agreement(picture, picture.roll((s, s), (2, 3))) for s in range(0, 22, 3)]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores[1] == pytest.approx(1, abs=1e-6), "3 pixels are less than half of 12"
    assert all(before > after for before, after in pairwise(scores[1:5])), scores
    assert scores[4] < 0.7
    assert _agreement(picture, picture.roll(30 * 5, 3)) == 0


def test_agreement_is_symmetric_and_the_harmonic_mean_of_precision_and_recall() -> None:
    wanted = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    found = wanted.clone()
    wanted[..., 5, 0:10] = True  # 10 points, 8 of which are found
    found[..., 5, 0:6] = True  # 6 points on it; 2 more of the original within 2 pixels
    found[..., 15, 0:6] = True  # 6 points far from it
    precision, recall = 6 / 12, 8 / 10
    expected = 2 * precision * recall / (precision + recall)
    assert agreement(wanted, found, 2).item() == pytest.approx(expected)
    assert agreement(found, wanted, 2).item() == pytest.approx(expected)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="equal pictures"):
        contour_agreement(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 5), 9)
    with pytest.raises(ShapeError, match=r"\(B, 1, H, W\)"):
        contours(torch.ones(1, 3, 4, 4), 9)


def test_the_filter_of_the_document_is_the_negative_of_the_picture() -> None:
    picture = torch.rand(1, 1, 30, 30, generator=torch.Generator().manual_seed(3))
    ours = legacy_edges(picture)
    assert torch.allclose(ours, -picture / (math.pi * 0.2**2), atol=0.002)


def test_the_filter_is_the_sampled_formula_with_any_sigma() -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    response = legacy_edges(point, size=11, sigma_pixels=0.9)
    for y, x in [(0, 0), (1, 0), (2, -1), (5, 5)]:
        r = (x * x + y * y) / (2 * 0.81)
        wanted = -1 / (math.pi * 0.81) * (1 - r) * math.exp(-r)
        assert response[0, 0, 15 + y, 15 + x].item() == pytest.approx(wanted, abs=1e-7)
    assert response[0, 0, 15, 21] == 0

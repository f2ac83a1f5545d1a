"""Characters that look alike at a size, and characters that are each other's mirror image."""

from __future__ import annotations

import pytest
import torch

from aelab.ascii.glyphs import (
    ALPHABET,
    MIRRORED_PAIRS,
    FontRenderer,
    alike_pairs,
    mirrored_numbers,
    side_by_side,
    to_grid,
    to_lines,
)


def _pairs(font_res: int, font_zoom: int | None) -> set[str]:
    return {pair.first + pair.second for pair in alike_pairs(FontRenderer(font_res, font_zoom))}


def test_at_7_pixels_of_the_documents_zoom_a_bracket_looks_like_a_bar() -> None:
    assert "[|" in _pairs(7, 21)
    assert "[|" not in _pairs(9, 21)


def test_the_documents_zoom_makes_a_backtick_an_empty_cell() -> None:
    (first, *_) = alike_pairs(FontRenderer(7, 21))
    assert (first.first, first.second, first.of_ink) == (" ", "`", 0)
    assert " `" not in _pairs(9, None)


def test_alike_pairs_are_ranked_and_their_measure_is_the_sum_over_pixels() -> None:
    renderer = FontRenderer(9)
    pairs = alike_pairs(renderer, most=1)
    shares = [pair.of_ink for pair in pairs]
    assert len(pairs) == 95 * 94 // 2
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] == pytest.approx(1)
    (found,) = [pair for pair in pairs if (pair.first, pair.second) == ("0", "O")]
    zero, letter = (1 - renderer.atlas[ALPHABET.index(character)] for character in "0O")
    differing = float((zero - letter).abs().sum())
    assert found.of_ink == pytest.approx(differing / float((zero + letter).sum()), rel=1e-5)
    assert found.of_pixels == pytest.approx(differing / zero.numel(), rel=1e-5)
    assert str(found) == "0 O    8.1 % of the ink,  4.0 % of the cell"


def test_mirroring_twice_changes_nothing_and_the_space_stays() -> None:
    mirror = mirrored_numbers().long()
    assert mirror.dtype == torch.int64 and mirrored_numbers().dtype == torch.uint8
    assert torch.equal(mirror[mirror], torch.arange(95))
    assert int(mirror[0]) == 0
    assert int((mirror != torch.arange(95)).sum()) == 2 * len(MIRRORED_PAIRS)


def test_a_mirrored_drawing_reads_the_other_way() -> None:
    numbers = to_grid([r" /(b{<p", r"_`L[.' "], (2, 7))
    mirrored = mirrored_numbers()[numbers.flip(-1).long()]
    assert to_lines(mirrored) == [r"q>}d)\ ", r" `.]J'_"]


@pytest.mark.parametrize("pair", [pair for pair in MIRRORED_PAIRS if pair != "`'"])
def test_a_pair_is_closer_to_each_others_mirror_image_than_to_its_own(pair: str) -> None:
    blurred = torch.nn.functional.avg_pool2d(FontRenderer(24).atlas[:, None], 3, 1)[:, 0]
    left, right = (blurred[ALPHABET.index(character)] for character in pair)
    swapped = (left.flip(-1) - right).abs().mean()
    assert swapped < 0.7 * (left.flip(-1) - left).abs().mean()
    assert swapped < 0.7 * (right.flip(-1) - right).abs().mean()


def test_texts_stand_side_by_side_though_their_lengths_differ() -> None:
    assert side_by_side(["ab", "c"], ["x", "y", "z"]) == ["ab   |   x", "c    |   y", "     |   z"]
    assert side_by_side([], ["x"], separator="|") == ["|x"]
    assert side_by_side(["ab"], [], separator="|") == ["ab|"]

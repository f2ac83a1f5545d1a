from __future__ import annotations

import pytest
import torch

from aelab.ops.value_range import affine, from_unit, guessed_range, limits, range_words, to_unit


def test_there_and_back_is_the_same_and_the_ends_are_0_and_1() -> None:
    images = torch.rand(4, 3, 5, 5)
    for value_range in ((-1.0, 1.0), (0.0, 255.0), ((-2.0, -1.0, 0.0), (2.0, 3.0, 1.0))):
        assert torch.allclose(to_unit(from_unit(images, value_range), value_range), images)
        assert torch.allclose(
            to_unit(from_unit(torch.ones(1, 3, 1, 1), value_range), value_range), torch.tensor(1.0)
        )
    assert to_unit(images, (0.0, 1.0)) is images


def test_normalising_moves_black_and_white() -> None:
    assert affine((0.0, 1.0), [0.5], [0.5]) == (-1.0, 1.0)
    low, high = affine((0.0, 1.0), [0.5, 0.4, 0.5], [0.5, 0.2, 0.5])
    assert low == (-1.0, -2.0, -1.0) and high == (1.0, 3.0, 1.0)
    assert limits((low, high)) == (-2.0, 3.0) and range_words((low, high)) == "-2..3"


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0.0, 1.0, (0.0, 1.0)), (-1.0, 1.0, (-1.0, 1.0)), (-3.0, 1.0, (0.0, 1.0)),
     (-0.01, 1.0, (0.0, 1.0)), (0.0, 255.0, (0.0, 1.0))],
)  # fmt: skip
def test_only_a_clear_minus_1_to_1_is_guessed(
    low: float, high: float, wanted: tuple[float, float]
) -> None:
    assert guessed_range(torch.tensor([[low, high]])) == wanted

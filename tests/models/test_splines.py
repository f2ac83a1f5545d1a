"""Splines of rational quadratic pieces, against their formula written out and differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from aelab.models.splines import LIMIT, PIECES, SplineCoupling, rational_quadratic


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def _by_hand(x: float, raw: list[float]) -> float:
    """Equation 4 of Durkan 2019 for one number, in plain Python."""
    if abs(x) >= LIMIT:
        return x

    def sizes(part: list[float]) -> list[float]:
        total = sum(math.exp(v) for v in part)
        shares = [math.exp(v) / total for v in part]
        return [2 * LIMIT * (0.001 + (1 - 0.001 * PIECES) * share) for share in shares]

    width, height = sizes(raw[:PIECES]), sizes(raw[PIECES : 2 * PIECES])
    slopes = [0.001 + 0.999 * math.log1p(math.exp(v + math.log(math.e - 1))) for v in raw[16:]]
    slopes = [1.0, *slopes, 1.0]
    left, floor = -LIMIT, -LIMIT
    for k in range(PIECES):
        if x < left + width[k] or k == PIECES - 1:
            share, steep = (x - left) / width[k], height[k] / width[k]
            mixed = share * (1 - share)
            above = height[k] * (steep * share**2 + slopes[k] * mixed)
            return floor + above / (steep + (slopes[k + 1] + slopes[k] - 2 * steep) * mixed)
        left, floor = left + width[k], floor + height[k]
    raise AssertionError


def test_a_spline_is_its_formula_written_out() -> None:
    raw = torch.randn(200, 3 * PIECES - 1, dtype=torch.float64)
    x = torch.empty(200, dtype=torch.float64).uniform_(-6, 6)
    made, _ = rational_quadratic(x, raw)
    expected = [_by_hand(a, b) for a, b in zip(x.tolist(), raw.tolist(), strict=True)]
    torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64))


def test_a_spline_rises_and_its_inverse_leads_back() -> None:
    raw = 3 * torch.randn(1, 3 * PIECES - 1, dtype=torch.float64)
    x = torch.linspace(-7, 7, 4001, dtype=torch.float64)
    made, log_slope = rational_quadratic(x, raw.expand(4001, -1))
    assert bool((made.diff() > 0).all())
    back, log_back = rational_quadratic(made, raw.expand(4001, -1), inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_back, -log_slope, rtol=0, atol=1e-6)
    # The derivative, against differences on both sides, away from the knots' bends.
    step = 1e-6
    ahead, _ = rational_quadratic(x + step, raw.expand(4001, -1))
    behind, _ = rational_quadratic(x - step, raw.expand(4001, -1))
    slope = (ahead - behind) / (2 * step)
    torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-3, atol=1e-5)


def test_raw_zeros_give_the_identity() -> None:
    x = torch.linspace(-7, 7, 101)
    made, log_slope = rational_quadratic(x, torch.zeros(101, 3 * PIECES - 1))
    torch.testing.assert_close(made, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_slope, torch.zeros(101), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_a_coupling_can_be_inverted(dims: int) -> None:
    layer = SplineCoupling(dims, 7).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    z = 2 * torch.randn(300, dims, dtype=torch.float64)
    made, log_det = layer(z)
    back, log_back = layer(made, inverse=True)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_back, -log_det, rtol=0, atol=1e-6)
    assert (made - z).abs().max() > 0.1


def test_numbers_that_are_not_finite_stay_so() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf])
    made, _ = rational_quadratic(x, torch.randn(3, 3 * PIECES - 1))
    torch.testing.assert_close(made, x, equal_nan=True)

"""Layers of learned functions, against splines and polynomials computed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial
from scipy.interpolate import BSpline

from aelab.errors import ConfigError
from aelab.models import DecoderKAN, EncoderKAN, PolynomialLinear, SplineLinear
from aelab.models.kan import cubic_splines


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("intervals", [1, 2, 5, 12])
def test_splines_are_those_of_scipy(intervals: int) -> None:
    knots = np.arange(-3, intervals + 4) * 2 / intervals - 1
    x = np.random.default_rng(0).uniform(-1, 1, 500)
    each = [
        BSpline(knots, np.eye(intervals + 3)[k], 3, extrapolate=False)(x)
        for k in range(intervals + 3)
    ]
    ours = cubic_splines(torch.from_numpy(x), intervals).numpy()
    np.testing.assert_allclose(ours, np.stack(each, 1), atol=1e-14)
    np.testing.assert_allclose(ours.sum(1), 1, atol=1e-14)


def test_a_spline_has_its_known_values_at_the_knots() -> None:
    values = cubic_splines(torch.tensor([-1.0, 1.0]), 2)
    sixth = 1 / 6  # the uniform cubic spline is 1/6, 4/6, 1/6 at its inner knots
    expected = torch.tensor([[sixth, 4 * sixth, sixth, 0, 0], [0, 0, sixth, 4 * sixth, sixth]])
    torch.testing.assert_close(values, expected)
    assert cubic_splines(torch.tensor([1e6, -1e6]), 2).eq(0).all()


def test_a_spline_layer_adds_one_function_for_each_edge() -> None:
    layer = SplineLinear(3, 2, intervals=4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    knots = np.arange(-3, 8) * 0.5 - 1
    weights = layer.spline.weight.detach().numpy().reshape(2, 3, 7)
    expected = np.zeros((5, 2))
    for i in range(2):
        for j in range(3):
            one = x[:, j].numpy()
            silu = one / (1 + np.exp(-one))
            spline = BSpline(knots, weights[i, j], 3)(np.tanh(one))
            expected[:, i] += layer.base.weight[i, j].item() * silu + spline
        expected[:, i] += layer.base.bias[i].item()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


def test_a_spline_layer_learns_a_function_that_no_linear_layer_has() -> None:
    x = torch.linspace(-1, 1, 200)[:, None]
    layer = SplineLinear(1, 1, intervals=8)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        loss = (layer(x) - torch.sin(5 * x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3  # the best straight line leaves about 0.4


def test_a_polynomial_layer_adds_one_polynomial_for_each_edge() -> None:
    layer = PolynomialLinear(3, 2, degree=4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    weights = layer.linear.weight.detach().numpy().reshape(2, 4, 3)
    expected = np.zeros((5, 2)) + layer.linear.bias.detach().numpy()
    for i in range(2):
        for j in range(3):
            expected[:, i] += Polynomial([0, *weights[i, :, j]])(x[:, j].numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


def test_a_polynomial_layer_of_degree_one_is_linear() -> None:
    layer = PolynomialLinear(3, 2, degree=1)
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x), layer.linear(x))


def test_wrong_numbers_and_names_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="basis must be 'spline' or 'polynomial', not 'splin'"):
        EncoderKAN((1, 4, 4), 2, basis="splin")
    with pytest.raises(ConfigError, match="intervals is 0; possible: 1, 2"):
        DecoderKAN((1, 4, 4), 2, intervals=0)
    with pytest.raises(ConfigError, match="degree is 0; possible: 1, 2, 3"):
        DecoderKAN((1, 4, 4), 2, basis="polynomial", degree=0)

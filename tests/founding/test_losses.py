"""What the documents' program called KL."""

from __future__ import annotations

import math

import pytest
import torch

from aelab.errors import ConfigError, ShapeError
from aelab.founding.losses import legacy_kl, legacy_kl_term
from aelab.losses import PENALTIES
from aelab.types import Output


def test_legacy_kl_is_the_formula_as_it_was_written() -> None:
    mean, sigma = torch.randn(6, 4).double(), torch.rand(6, 4).double() + 0.01
    written = -0.5 * (1 + sigma - mean.pow(2) - sigma.exp()).sum(dim=-1)
    torch.testing.assert_close(legacy_kl(mean, sigma), written)


def test_legacy_kl_draws_the_spread_to_zero_and_not_to_one() -> None:
    zero = torch.zeros(1, 1)
    values = [legacy_kl(zero, torch.full((1, 1), s)).item() for s in (1e-6, 0.1, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.0, abs=1e-9)
    assert values[3] == pytest.approx(0.5 * (math.e - 2))


def test_a_spread_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="mean is"):
        legacy_kl(torch.rand(2, 3), torch.rand(2, 4))


def test_the_term_is_found_by_name_and_needs_a_gaussian() -> None:
    assert PENALTIES["legacy_kl"] is legacy_kl_term
    with pytest.raises(ConfigError, match="legacy_kl needs a Gaussian latent"):
        legacy_kl_term(Output(torch.rand(1, 1, 2, 2), torch.rand(1, 3)))

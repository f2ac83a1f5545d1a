"""Samplers against distributions that are known."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError, MissingExtra
from aelab.metrics.samplers import SAMPLERS, Flow, fit_flow, fit_gaussian, fit_mixture, nearest


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _two_heaps(count: int = 1500) -> Tensor:
    """Codes at -2 and 2 of the first dimension, the second depending on the first."""
    noise = torch.randn(count, 2, generator=_generator(5))
    side = torch.where(torch.arange(count) % 2 == 0, -2.0, 2.0)
    return torch.stack([side + 0.3 * noise[:, 0], 0.5 * side + 0.2 * noise[:, 1]], 1)


def test_a_gaussian_has_the_mean_and_covariance_of_the_codes() -> None:
    latents = _two_heaps()
    sampler = fit_gaussian(latents, _generator())
    drawn = sampler.sample(20_000, _generator(1))
    assert torch.allclose(drawn.mean(0), latents.mean(0), atol=0.05)
    assert torch.allclose(torch.cov(drawn.T), torch.cov(latents.T), atol=0.1)


def test_every_density_integrates_to_one() -> None:
    latents = _two_heaps(400)
    axis = torch.linspace(-8, 8, 161)
    grid = torch.cartesian_prod(axis, axis)
    for name, fit in SAMPLERS.items():
        options = {"steps": 100} if name == "flow" else {}
        density = fit(latents, _generator(), **options).log_density(grid).exp()
        assert density.sum().item() * 0.1**2 == pytest.approx(1, abs=0.02), name


def test_mixture_and_flow_see_two_heaps_where_a_gaussian_sees_one() -> None:
    latents = _two_heaps()
    fits = {
        "gaussian": fit_gaussian(latents, _generator()),
        "mixture": fit_mixture(latents, _generator(), components=2),
        "flow": fit_flow(latents, _generator(), steps=400),
    }
    score = {name: fit.log_density(latents).mean().item() for name, fit in fits.items()}
    # Two normal heaps of equal weight: -ln 2 - ln(2 pi e) - ln(0.3) - ln(0.2).
    best = -math.log(2) - math.log(2 * math.pi * math.e) - math.log(0.3 * 0.2)
    assert score["mixture"] == pytest.approx(best, abs=0.1)
    assert score["gaussian"] < best - 0.5
    assert score["gaussian"] + 0.3 < score["flow"] < best + 0.15
    for name in ("mixture", "flow"):
        drawn = fits[name].sample(2000, _generator(2))
        between = (drawn[:, 0].abs() < 0.7).double().mean().item()
        assert between < 0.1, name


def test_a_flow_undoes_itself() -> None:
    latents = _two_heaps(300)
    flow = fit_flow(latents, _generator(), steps=50)
    assert isinstance(flow, Flow)
    noise = torch.randn(50, 2, generator=_generator(7))
    again, _ = flow.to_noise(flow.sample(50, _generator(7)))
    assert torch.allclose(again, noise, atol=1e-4)


def test_samples_repeat_with_the_seed() -> None:
    latents = _two_heaps(200)
    for name, fit in SAMPLERS.items():
        options = {"steps": 20} if name == "flow" else {}
        first, second = (
            fit(latents, _generator(3), **options).sample(9, _generator(4)) for _ in range(2)
        )
        assert torch.equal(first, second), name
        assert first.shape == (9, 2)


def test_codes_of_one_number_and_dead_dimensions_can_be_sampled() -> None:
    single = torch.randn(100, 1, generator=_generator())
    dead = torch.cat([single, torch.zeros(100, 1)], 1)
    for name, fit in SAMPLERS.items():
        options = {"steps": 20} if name == "flow" else {}
        for latents in (single, dead):
            drawn = fit(latents, _generator(), **options).sample(50, _generator(1))
            assert torch.isfinite(drawn).all(), name


def test_the_nearest_training_image_is_found_with_its_distance() -> None:
    train = torch.rand(30, 1, 4, 4, generator=_generator())
    index, distance = nearest(train[[7, 3]] + 0.001, train)
    assert index.tolist() == [7, 3]
    assert distance.max().item() == pytest.approx(0.001, abs=2e-4)


def test_codes_that_are_not_numbers_are_named() -> None:
    with pytest.raises(ConfigError, match="not a number"):
        fit_gaussian(torch.full((4, 2), math.nan), _generator())


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(MissingExtra, match=r"aelab\[latents\]"):
        fit_mixture(_two_heaps(20), _generator())

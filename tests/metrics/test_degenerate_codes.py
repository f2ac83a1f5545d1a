"""Codes that say little or nothing: constant, one number, few, tiny, far from zero. No crash."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from aelab.errors import ShapeError
from aelab.metrics.distances import diversity, frechet_distance, kernel_distance, precision_recall
from aelab.metrics.maps import pca_map, same_place, tsne_map, umap_map
from aelab.metrics.samplers import fit_flow, fit_gaussian, fit_mixture


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


CODES = {
    "constant": torch.full((60, 8), 0.3),
    "zero": torch.zeros(60, 8),
    "one number": _random(60, 1),
    "constant number": torch.full((60, 1), -4.0),
    "fewer points than numbers": _random(6, 40),
    "four points": _random(4, 3),
    "two values": torch.arange(2.0).repeat(30)[:, None].expand(60, 5),
    "all but one the same": torch.cat([torch.zeros(59, 4), torch.ones(1, 4)]),
    "one number that moves": torch.cat([_random(60, 1), torch.full((60, 7), 2.0)], 1),
    "tiny": 1e-20 * _random(60, 4),
    "huge": 1e15 * _random(60, 4),
    "far from zero": 1e5 + _random(60, 4),
}


@pytest.mark.parametrize("name", CODES)
def test_every_map_has_a_finite_place_for_every_code(name: str) -> None:
    codes = CODES[name].clone()
    points, shares = pca_map(codes)
    assert points.shape == (len(codes), 2)
    assert torch.isfinite(points).all()
    assert 0 <= sum(shares) <= 1 + 1e-6
    placed = tsne_map(codes, seed=0)
    assert placed.shape == (len(codes), 2)
    assert torch.isfinite(placed).all()
    assert (
        same_place(placed) == same_place(codes) == (name in ("constant", "zero", "constant number"))
    )


def test_a_process_survives_tsne_of_a_collapsed_latent() -> None:
    code = (
        "import torch; from aelab.metrics.maps import tsne_map; "
        "print(tsne_map(torch.zeros(60, 8), 0).abs().sum().item())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip()) == (0, "0.0")


def test_one_code_and_two_have_a_map_and_tsne_says_how_many_it_needs() -> None:
    assert pca_map(torch.ones(1, 3))[0].tolist() == [[0, 0]]
    points, shares = pca_map(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    assert abs(points[0, 0] - points[1, 0]) == pytest.approx(5)
    assert shares == pytest.approx((1, 0))
    with pytest.raises(ShapeError, match="at least 4 images, not 3"):
        tsne_map(torch.ones(3, 3), 0)


def test_a_far_off_map_is_the_same_as_about_zero() -> None:
    codes = torch.round(_random(50, 3) * 64) / 64  # what float32 holds exactly at 1e5, too
    near, far = pca_map(codes)[0], pca_map(codes + 1e5)[0]
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # the first UMAP of a process is compiled for half a minute
@pytest.mark.parametrize("name", CODES)
def test_umap_takes_them_too(name: str) -> None:
    placed = umap_map(CODES[name].clone(), seed=0)
    assert placed.shape == (len(CODES[name]), 2)
    assert torch.isfinite(placed).all()


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("fit", [fit_gaussian, fit_mixture, fit_flow])
def test_every_sampler_is_fitted_and_draws_near_the_codes(fit, name: str) -> None:  # type: ignore[no-untyped-def]
    codes = CODES[name].clone()
    options = {"steps": 30} if fit is fit_flow else {}
    sampler = fit(codes, torch.Generator().manual_seed(1), **options)
    drawn = sampler.sample(200, torch.Generator().manual_seed(2)).double()
    assert torch.isfinite(drawn).all()
    middle = codes.double().mean(0)
    spread = (codes.double() - middle).abs().max() + 1e-6 * middle.abs().max() + 1e-9
    assert (drawn - middle).abs().mean() < 5 * spread
    assert torch.isfinite(sampler.log_density(codes)).all()


def test_distances_take_one_feature_and_fewer_points_than_features() -> None:
    ours, theirs = _random(500, 1).double(), 2 * _random(500, 1).double() + 3
    moments = (ours.mean() - theirs.mean()) ** 2 + (ours.std() - theirs.std()) ** 2
    assert frechet_distance(ours, theirs) == pytest.approx(moments.item(), rel=1e-9)
    few = _random(3, 64).double()
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(torch.ones(5, 4), torch.zeros(5, 4)) == pytest.approx(4)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_distances_between_sets_do_not_depend_on_where_they_lie(offset: float) -> None:
    ours, theirs = _random(200, 4).double(), _random(200, 4).double() * 1.5 + 0.5
    far = frechet_distance(ours + offset, theirs + offset)
    assert far == pytest.approx(frechet_distance(ours, theirs), rel=1e-6)
    assert precision_recall(ours + offset, theirs + offset) == precision_recall(ours, theirs)
    assert diversity(ours + offset) == pytest.approx(diversity(ours), rel=1e-6)


def test_features_that_are_no_numbers_are_told() -> None:
    from aelab.errors import ConfigError

    bad = torch.full((5, 2), float("nan"))
    for distance in (frechet_distance, kernel_distance, precision_recall):
        with pytest.raises(ConfigError, match="5 of 5 images' features are infinite"):
            distance(bad, torch.zeros(5, 2))

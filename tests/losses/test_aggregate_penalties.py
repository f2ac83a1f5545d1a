"""Penalties of a batch against values from elsewhere, and how terms change while a run trains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses import Objective
from aelab.losses.aggregate import (
    TotalCorrelation,
    dip_term,
    mmd_term,
    sliced_wasserstein_term,
)
from aelab.losses.latent import kl_sparse_term, kl_term, latent_l1_term, latent_l2_term
from aelab.posteriors import Deterministic, GaussianPosterior
from aelab.types import Images, Output, TermSpec


@pytest.fixture(autouse=True)
def seed() -> None:
    """The penalties draw from the default generator while gradients are computed."""
    torch.manual_seed(0)


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(latent: Tensor, log_std: Tensor | None = None) -> Output:
    posterior = Deterministic() if log_std is None else GaussianPosterior(latent, log_std)
    return Output(torch.zeros(len(latent), 1, 2, 2), latent, posterior)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_near_zero_at_the_prior_and_grows_with_the_distance(kernel: str) -> None:
    latents = numbers(1000, 4)
    values = [float(mmd_term(output(latents + by), kernel)[0]) for by in (0.0, 0.5, 1.0, 2.0)]
    assert abs(values[0]) < 0.02
    assert values == sorted(values) and values[3] > 20 * values[1] / 8


def test_mmd_with_a_gaussian_kernel_has_the_value_of_the_integral() -> None:
    # Between N(m, 1) and N(0, 1) in one dimension with k = exp(-(x - y)^2 / c), by hand:
    # 2 sqrt(c / (c + 4)) (1 - exp(-m^2 / (c + 4))).
    c, m = 2.0 * 1 * 1.5, 1.0
    exact = 2 * math.sqrt(c / (c + 4)) * (1 - math.exp(-(m**2) / (c + 4)))
    values = [
        float(mmd_term(output(numbers(500, 1, seed=seed) + m), "rbf", scales=(1.5,))[0])
        for seed in range(160)
    ]  # an unbiased estimate, whose mean is nearer than a single one
    assert sum(values) / 160 == pytest.approx(exact, rel=0.03)


def test_sliced_wasserstein_in_one_dimension_is_the_distance_of_means() -> None:
    latents = numbers(400_000, 1)
    given = output((latents - latents.mean()) / latents.std() + 0.7)
    assert float(sliced_wasserstein_term(given, projections=3)[0]) == pytest.approx(0.49, rel=0.02)


def test_random_penalties_repeat_themselves_in_validation() -> None:
    given = output(numbers(50, 6))
    for term in (mmd_term, sliced_wasserstein_term):
        with torch.no_grad():
            assert torch.equal(term(given), term(given))


def test_dip_weighs_the_covariance_of_the_means() -> None:
    mean = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    still = output(mean, torch.full_like(mean, -math.inf))
    assert dip_term(still, off_diagonal=3, diagonal=5).tolist() == [6.0, 6.0]  # 3 * 2 * 1^2 + 0
    wide = output(mean, torch.zeros_like(mean))  # kind 2 adds the variance 1 to both diagonals
    assert dip_term(wide, kind=2, off_diagonal=3, diagonal=5).tolist() == [16.0, 16.0]


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_total_correlation_is_the_published_sum(estimator: str) -> None:
    mean, log_std, size = numbers(4, 3), 0.3 * numbers(4, 3, seed=4), 10
    term = TotalCorrelation(estimator=estimator)  # type: ignore[arg-type]
    term.prepare(Images(torch.zeros(size, 1, 2, 2)))
    found = term(output(mean, log_std))
    for i in range(4):
        joint, single = 0.0, [0.0] * 3
        for j in range(4):
            weight = 1 / (4 * size)
            if estimator == "stratified":
                weight = (
                    1 / size if j == i else (size - 3) / (size * 3) if j == (i + 1) % 4 else 1 / 3
                )
            normal = torch.distributions.Normal(mean[j], log_std[j].exp())
            q = normal.log_prob(mean[i]).exp()
            joint += weight * float(q.prod())
            single = [s + weight * float(p) for s, p in zip(single, q, strict=True)]
        expected = math.log(joint) - sum(map(math.log, single))
        assert float(found[i]) == pytest.approx(expected, rel=1e-9)


def test_the_sparse_penalties_have_their_formulas() -> None:
    given = output(torch.tensor([[0.0, -2.0], [1.0, 0.0]], dtype=torch.float64))
    assert latent_l1_term(given).tolist() == [1.0, 0.5]
    assert latent_l2_term(given).tolist() == [2.0, 0.5]
    half = output(torch.full((4, 2), 0.5))
    expected = 2 * (0.1 * math.log(0.2) + 0.9 * math.log(1.8))
    assert float(kl_sparse_term(half, 0.1, sigmoid=False)[0]) == pytest.approx(expected, rel=1e-5)
    assert float(kl_sparse_term(output(torch.full((4, 2), 0.1)), 0.1, sigmoid=False)[0]) < 1e-6


def test_free_bits_of_a_group_are_a_floor_of_its_sum() -> None:
    mean = torch.tensor([[1.0, 2.0, 0.1, 0.2]])
    given = output(mean, torch.zeros(1, 4))
    assert float(kl_term(given, free_bits_nats=1.0, group_size=2)) == pytest.approx(2.5 + 1.0)
    with pytest.raises(ConfigError, match="group_size is 3, which does not divide the 4 dim"):
        kl_term(given, group_size=3)


def objective(**options: float | str) -> Objective:
    return Objective([TermSpec("l2", "l2"), TermSpec("kl", "kl", 2.0, options)])


def test_a_cyclic_weight_begins_anew() -> None:
    terms = objective(warmup_images=50, cycle_images=100)
    shares = [terms.weights(n)["kl"] for n in (0, 25, 50, 99, 100, 125, 175)]
    assert shares == [0, 1, 2, 2, 0, 1, 2]
    assert terms.weights(None)["kl"] == 2


def test_a_cosine_warm_up_is_half_way_in_the_middle() -> None:
    terms = objective(warmup_images=100, warmup="cosine")
    assert [terms.weights(n)["kl"] for n in (0, 50, 100)] == pytest.approx([0, 1, 2])
    assert terms.weights(25)["kl"] == pytest.approx(2 * (0.5 - 0.5 * math.cos(math.pi / 4)))


def test_a_capacity_holds_a_term_at_a_rising_value() -> None:
    terms = objective(capacity=10.0, capacity_images=100)
    values = {"l2": torch.zeros(2), "kl": torch.tensor([4.0, 12.0])}
    assert terms.total(values, 0).tolist() == [8.0, 24.0]
    assert terms.total(values, 50).tolist() == [2.0, 14.0]
    assert terms.final_total(values).tolist() == [12.0, 4.0]
    assert not terms.is_final(50) and terms.is_final(100)
    assert "capacity=10, capacity_images=100" in terms.describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": "slow"}, "warmup is 'slow'; possible: linear, cosine"),
        ({"cycle_images": 100}, "cycle_images needs a warmup_images above 0"),
        ({"capacity_images": 100}, "capacity_images needs a capacity"),
        ({"capacity": -1}, "capacity must be at least 0"),
    ],
)
def test_a_course_that_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objective(**options)

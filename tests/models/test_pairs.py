"""Averages of posteriors over pairs, against distributions of torch and values by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from aelab.errors import ConfigError
from aelab.models import Autoencoder, Gaussian, Identity, PairAveraged
from aelab.models.pairs import AVERAGES
from aelab.models.quantizers import FSQ
from aelab.posteriors import GaussianPosterior


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def gaussians() -> tuple[GaussianPosterior, GaussianPosterior]:
    return tuple(GaussianPosterior(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2))  # type: ignore[return-value]


def test_the_product_and_its_root_are_those_of_the_densities() -> None:
    one, other = gaussians()
    points = torch.linspace(-3, 3, 7)[:, None, None]
    logs = [Normal(g.mean, g.log_std.exp()).log_prob(points) for g in (one, other)]
    for name, power in (("product", 1.0), ("geometric", 0.5)):
        found = AVERAGES[name](one, other)
        ours = Normal(found.mean, found.log_std.exp()).log_prob(points)
        # Equal up to the normalisation, which does not depend on the point.
        difference = ours - power * (logs[0] + logs[1])
        torch.testing.assert_close(difference, difference[:1].expand(7, -1, -1), atol=2e-4, rtol=0)


def test_the_mean_averages_means_and_variances() -> None:
    one, other = gaussians()
    found = AVERAGES["mean"](one, other)
    torch.testing.assert_close(found.mean, (one.mean + other.mean) / 2)
    variance = (one.log_std.exp().square() + other.log_std.exp().square()) / 2
    torch.testing.assert_close(found.log_std.exp().square(), variance)


class Given(Gaussian):
    """A Gaussian whose features are mean and log_std themselves."""

    def __init__(self, dims: int) -> None:
        super().__init__(2 * dims, dims)

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Any:
        mean, log_std = features.chunk(2, 1)
        return mean if noise is None else mean + log_std.exp() * noise, GaussianPosterior(
            mean, log_std
        )


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_dimensions_of_least_divergence_get_the_average(average: Any, symmetric: bool) -> None:
    features = torch.randn(6, 8)
    latent, found = PairAveraged(Given(4), average, symmetric=symmetric)(features, None)
    means, log_stds = features.chunk(2, 1)
    for first in (0, 2, 4):
        one, other = (
            Normal(means[row], log_stds[row].exp()) for row in (first, first + 1)
        )  # fmt: skip
        delta = kl_divergence(one, other)
        if symmetric:
            delta = (delta + kl_divergence(other, one)) / 2
        shared = delta < (delta.min() + delta.max()) / 2
        assert shared.any() and not shared.all()
        pair = GaussianPosterior(means[first], log_stds[first])
        mate = GaussianPosterior(means[first + 1], log_stds[first + 1])
        mean = AVERAGES[average](pair, mate)
        for row in (first, first + 1):
            expected = torch.where(shared, mean.mean, means[row])
            torch.testing.assert_close(found.mean[row], expected)
            expected = torch.where(shared, mean.log_std, log_stds[row])
            torch.testing.assert_close(found.log_std[row], expected)
    torch.testing.assert_close(latent, found.mean)


def test_fixed_dimensions_are_shared_whatever_they_hold() -> None:
    features = torch.randn(5, 8)
    _, found = PairAveraged(Given(4), "product", shared=2)(features, None)
    assert torch.equal(found.mean[0, :2], found.mean[1, :2])
    assert torch.equal(found.log_std[2, :2], found.log_std[3, :2])
    assert torch.equal(found.mean[:, 2:], features[:, 2:4])
    assert torch.equal(found.mean[4], features[4, :4])  # an odd last one stays alone


def test_each_image_of_a_pair_has_noise_of_its_own() -> None:
    features, noise = torch.randn(4, 8), torch.randn(4, 4)
    latent, found = PairAveraged(Given(4), shared=4)(features, noise)
    torch.testing.assert_close(latent, found.mean + found.log_std.exp() * noise)
    assert torch.equal(found.mean[0], found.mean[1]) and not torch.equal(latent[0], latent[1])


def test_plain_latents_are_averaged_where_they_differ_least() -> None:
    latents = torch.tensor([[0.0, 1.0, 5.0], [1.0, 1.5, 1.0], [9.0, 9.0, 9.0]])
    found, _ = PairAveraged(Identity())(latents)
    expected = torch.tensor([[0.5, 1.25, 5.0], [0.5, 1.25, 1.0], [9.0, 9.0, 9.0]])
    torch.testing.assert_close(found, expected)  # the limit is (0.5 + 4) / 2
    torch.testing.assert_close(PairAveraged(Identity(), ratio=0.0)(latents)[0], latents)
    maps = latents.reshape(3, 3, 1, 1)
    torch.testing.assert_close(PairAveraged(Identity())(maps)[0], expected.reshape(3, 3, 1, 1))


def test_in_evaluation_mode_every_image_has_its_own_posterior() -> None:
    inner = Gaussian(5, 3)
    paired = PairAveraged(inner).eval()
    features, noise = torch.randn(4, 5), torch.randn(4, 3)
    for given in (None, noise):
        ours, theirs = paired(features, given), inner(features, given)
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1].mean, theirs[1].mean)


def test_a_batch_of_equal_images_is_that_of_the_bottleneck() -> None:
    # Averages of equal Gaussians are equal to them; of the product the variance is half.
    features = torch.randn(3, 8).repeat_interleave(2, 0)
    for average, factor in (("mean", 1.0), ("geometric", 1.0), ("product", 0.5)):
        _, found = PairAveraged(Given(4), average, shared=4)(features, None)  # type: ignore[arg-type]
        torch.testing.assert_close(found.mean, features[:, :4])
        expected = features[:, 4:] + math.log(factor) / 2
        torch.testing.assert_close(found.log_std, expected)


def test_the_model_asks_for_pairs_and_its_gradients_are_finite() -> None:
    model = Autoencoder(
        nn.Flatten(), PairAveraged(Gaussian(4, 3), differing="random"), nn.Flatten()
    )
    assert model.pairs is not None and model.pairs.differing == "random"
    assert model.noise_shape == (3,)
    assert Autoencoder(nn.Flatten(), Gaussian(4, 3), nn.Flatten()).pairs is None
    output = model(torch.zeros(4, 1, 2, 2), torch.randn(4, 3))  # equal images: nothing differs
    output.latent.square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((FSQ((5, 4)),), "FSQ has no Gaussian posterior"),
        ((Gaussian(4, 2), "median"), "average is 'median'; possible"),
        ((Identity(), "product"), "Identity has no variance"),
        ((Gaussian(4, 2), "mean", 0), "shared is 0"),
        ((Gaussian(4, 2), "mean", None, 1.5), "ratio is 1.5"),
        ((Gaussian(4, 2), "mean", None, 0.5, False, "all"), "differing is 'all'"),
    ],
)
def test_other_arguments_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PairAveraged(*arguments)

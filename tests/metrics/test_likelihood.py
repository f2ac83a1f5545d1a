"""Bounds and estimates against a linear Gaussian model, whose likelihood has a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.metrics import (
    METRICS,
    Observation,
    Subject,
    elbo,
    iwae,
    lacking,
    latent_use,
    observation_of,
)
from aelab.posteriors import GaussianPosterior, MixturePriorPosterior
from aelab.types import Images, Output


class Linear(nn.Module):
    """x = W z + b with the exact posterior of noise of `scale`; wider by `spread` if asked."""

    terms = ()

    def __init__(self, scale: float, spread: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(12, 2, generator=generator) * 0.1)
        self.noise_shape = (2,)
        weight = self.weight.detach().double()
        weight = torch.linalg.qr(weight)[0] * 0.3  # orthogonal columns: a diagonal posterior
        self.weight = nn.Parameter(weight.float())
        precision = 1 + (weight.square().sum(0) / scale**2)
        self.variance = (1 / precision).float() * spread**2
        self.gain = (weight / scale**2 / precision).float()

    def encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.gain

    def decode(self, latent: Tensor) -> Tensor:
        return (latent @ self.weight.T + 0.5).reshape(-1, 1, 3, 4)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        mean = self.encode(images)
        log_std = (0.5 * self.variance.log()).expand_as(mean)
        return Output(self.decode(mean), mean, GaussianPosterior(mean, log_std))


SCALE = 0.05


def _subject(spread: float = 1.0, count: int = 200, kind: type[Linear] = Linear) -> Subject:
    model = kind(SCALE, spread)
    generator = torch.Generator().manual_seed(2)
    latent = torch.randn(count, 2, generator=generator)
    pixels = model.decode(latent) + SCALE * torch.randn(count, 1, 3, 4, generator=generator)
    return Subject(model, Images(pixels.detach()), formulas=("l2",), chunk_images=64)


def _exact(subject: Subject) -> float:
    """Mean ln N(x; b, W W^T + scale^2 I) with the scale that the metrics take."""
    assert isinstance(subject.model, Linear)
    weight = subject.model.weight.detach().double()
    scale = observation_of(subject).scale
    covariance = weight @ weight.T + scale**2 * torch.eye(12, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(
        torch.full((12,), 0.5, dtype=torch.float64), covariance
    )
    return normal.log_prob(subject.images.flatten(1).double()).mean().item()


def test_the_estimate_comes_to_the_exact_likelihood_and_the_bound_stays_below() -> None:
    subject = _subject(spread=1.5)
    exact = _exact(subject)
    bound = elbo(subject, samples=50)["elbo_nats"]
    few, many = (iwae(subject, samples=n, images=200)["iwae_nats"] for n in (5, 400))
    assert bound < few < many < exact + 0.02
    assert many == pytest.approx(exact, abs=0.05)
    assert exact - bound > 0.3


def test_bits_per_dimension_count_eight_bits_of_grey_values() -> None:
    values = elbo(_subject())
    assert values["bits_per_dim"] == pytest.approx(
        8 - values["elbo_nats"] / (12 * math.log(2)), rel=1e-9
    )
    assert values["elbo_nats"] == pytest.approx(-values["distortion_nats"] - values["rate_nats"])


def test_densities_and_probabilities_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    image, shown = torch.rand(2, 1, 3, 3, generator=generator), torch.rand(2, 1, 3, 3)
    bits = (image > 0.5).float()
    pairs = [
        (Observation("gaussian", 0.3), torch.distributions.Normal(shown, 0.3), image),
        (Observation("laplace", 0.3), torch.distributions.Laplace(shown, 0.3), image),
        (Observation("bernoulli"), torch.distributions.Bernoulli(shown), bits),
        (Observation("logits"), torch.distributions.Bernoulli(logits=shown), bits),
    ]
    for ours, theirs, target in pairs:
        expected = theirs.log_prob(target).flatten(1).sum(1)
        assert torch.allclose(ours.log_probability(shown, target), expected, atol=1e-4)


def test_a_dimension_that_says_nothing_is_not_active() -> None:
    class OneOfTwo(Linear):
        def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
            mean = self.encode(images) * torch.tensor([1.0, 0.0])
            log_std = torch.tensor([-2.0, 0.0]).expand_as(mean)
            return Output(self.decode(mean), mean, GaussianPosterior(mean, log_std))

    subject = Subject(OneOfTwo(SCALE), Images(_subject().images))
    values = latent_use(subject)
    assert (values["active_units"], values["latent_dims"]) == (1, 2)
    assert values["kl_dims_above_0.1"] == 1
    kl = 0.5 * (subject.latents[:, 0].square() + math.exp(-4) - 1 + 4)
    assert values["kl_max_nats"] == pytest.approx(kl.mean().item(), rel=1e-5)


def test_a_plain_autoencoder_has_no_bound_and_says_why() -> None:
    class Plain(Linear):
        def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
            latent = self.encode(images)
            return Output(self.decode(latent), latent)

    subject = Subject(Plain(SCALE), Images(_subject().images))
    assert lacking(subject, METRICS["elbo"]) == "the latent has no posterior to draw from"


def test_perfect_reproductions_have_no_most_likely_scale() -> None:
    subject = _subject()
    subject.__dict__["images"] = subject.reconstructions
    with pytest.raises(ConfigError, match="perfect"):
        observation_of(subject)


class OfMixture(Linear):
    """The same with its standard normal prior written as a mixture of one component."""

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        output = super().forward(images, noise)
        mean, log_std = output.posterior
        zero = torch.zeros(len(mean), 1, 2)
        posterior = MixturePriorPosterior(mean, log_std, mean, zero, zero, zero[:, :, 0])
        return output._replace(posterior=posterior)


def test_a_prior_without_closed_form_has_the_same_bounds_by_drawing() -> None:
    plain, mixture = _subject(), _subject(kind=OfMixture)
    for name in ("iwae_nats", "iwae_elbo_nats"):  # the same draws
        assert iwae(mixture, 20)[name] == pytest.approx(iwae(plain, 20)[name], rel=1e-5)
    drawn, exact = elbo(mixture, samples=100), elbo(plain, samples=100)
    assert drawn["distortion_nats"] == pytest.approx(exact["distortion_nats"], rel=1e-5)
    assert drawn["rate_nats"] == pytest.approx(exact["rate_nats"], rel=0.01)
    assert lacking(mixture, METRICS["latent_use"]).startswith("the latent has no divergence")

"""The importance-weighted autoencoder: its bound, by hand, and how it tightens."""

from __future__ import annotations

import math

import pytest
import torch

from aelab.data import noise_dataset
from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.latent import iwae_bound_term
from aelab.models import (
    Autoencoder,
    DecoderMLP,
    EncoderMLP,
    FlowGaussian,
    FullGaussian,
    Gaussian,
    Identity,
    ImportanceWeightedAutoencoder,
    Laplace,
    LowRankGaussian,
    MixturePrior,
    StudentT,
    VariationalEncoder,
    VonMisesFisher,
)

SHAPE = (1, 4, 4)


def _model(samples: int) -> ImportanceWeightedAutoencoder:
    torch.manual_seed(0)
    encoder = VariationalEncoder(EncoderMLP(SHAPE, 8, hidden=(8,)), 8, 3)
    decoder = DecoderMLP(SHAPE, 3, hidden=(8,), activation_last_layer="sigmoid")
    return ImportanceWeightedAutoencoder(encoder, decoder, samples).eval()


def _images(count: int = 6) -> torch.Tensor:
    return (torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).float()


def test_the_bound_is_that_of_distributions_written_out() -> None:
    model, images = _model(5), _images()
    noise = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(2))
    output = model(images, noise)
    value = make_objective(model.terms)(output, images, 0)["iwae_bound"]
    mean, std = output.posterior.mean, output.posterior.log_std.exp()
    weights = []
    for k in range(5):
        latent = mean + std * noise[:, k]
        likelihood = torch.distributions.Bernoulli(model.decode(latent)).log_prob(images)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum(1)
        posterior = torch.distributions.Normal(mean, std).log_prob(latent).sum(1)
        weights.append(likelihood.flatten(1).sum(1) + prior - posterior)
    expected = -(torch.stack(weights).exp().mean(0)).log()
    assert torch.allclose(value, expected, atol=1e-4)


def test_more_samples_tighten_the_bound() -> None:
    model, images = _model(1), _images(200)
    generator = torch.Generator().manual_seed(3)
    means = []
    for samples in (1, 10, 100):
        output = model(images, torch.randn(200, samples, 3, generator=generator))
        means.append(make_objective(model.terms)(output, images, 0)["iwae_bound"].mean().item())
    assert means[0] > means[1] > means[2]


def test_without_noise_there_is_a_picture_and_no_bound() -> None:
    """Issue 10: what was called a bound at the mean code was better than the likelihood."""
    model, images = _model(7), _images()
    output = model(images)
    assert torch.equal(output.latent, model.encode(images))
    assert torch.equal(output.reconstruction, model.decode(output.latent))
    with pytest.raises(ConfigError, match="importance weights"):
        make_objective(model.terms)(output, images, 0)


def test_a_plain_encoder_and_no_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="VariationalEncoder"):
        ImportanceWeightedAutoencoder(EncoderMLP(SHAPE, 8), DecoderMLP(SHAPE, 8))
    with pytest.raises(ConfigError, match="samples = 0"):
        _model(0)


def test_binary_images_are_drawn_with_the_grey_values_as_probabilities() -> None:
    images = noise_dataset(SHAPE, size=400, seed=1, mean=0.3, std=0.1).binarize()
    (change,) = images.load().augment
    grey = images.load().pixels.float() / 255
    drawn = torch.stack([change(grey, torch.Generator().manual_seed(seed)) for seed in range(40)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # Standard error of a mean of 40 x 6400 draws: 0.001.
    assert drawn.mean().item() == pytest.approx(grey.mean().item(), abs=0.004)
    spread = math.sqrt(0.3 * 0.7 / 40)
    assert (drawn.mean(0) - grey).abs().max().item() < 6 * spread


def test_frozen_binary_images_stay_the_same() -> None:
    frozen = noise_dataset(SHAPE, size=50, seed=1).binarize().freeze()
    first, second = frozen.load(), frozen.load()
    assert not first.augment
    assert set(first.pixels.unique().tolist()) == {0, 255}
    assert torch.equal(first.pixels, second.pixels)


def test_the_bound_is_the_whole_objective() -> None:
    assert make_objective(_model(2).terms, loss_function="l1").names == ("iwae_bound",)


class _Given(torch.nn.Module):
    """An encoder that gives the same learned features for every image."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = torch.nn.Parameter(torch.randn(features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features.expand(len(images), -1).clone()


BOTTLENECKS = {
    "gaussian": lambda: Gaussian(6, 3),
    "full": lambda: FullGaussian(6, 3),
    "low rank": lambda: LowRankGaussian(6, 3),
    "laplace": lambda: Laplace(6, 3),
    "student": lambda: StudentT(6, 3),
    "mixture": lambda: MixturePrior(6, 3, 4),
}


def _pair(name: str, samples: int, groups: int = 1) -> list[ImportanceWeightedAutoencoder]:
    """Two models of equal weights, with the plain and the doubly reparameterised gradient."""
    torch.manual_seed(0)
    parts = _Given(6), DecoderMLP(SHAPE, 3, hidden=(8,), activation_last_layer="sigmoid")
    bottleneck = BOTTLENECKS[name]()
    return [
        ImportanceWeightedAutoencoder(
            *parts, samples, groups, bottleneck=bottleneck, gradient=gradient
        ).double()
        for gradient in ("plain", "doubly")
    ]


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_doubly_reparameterised_gradient_has_the_same_mean_and_less_variance(name: str) -> None:
    repeats, samples = 4_000, 8
    image = (torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    images = image.expand(repeats, -1, -1, -1)
    found, values = [], []
    for number, model in enumerate(_pair(name, samples)):
        noise = torch.randn(
            (repeats, *model.noise_shape),
            generator=torch.Generator().manual_seed(number),  # independent estimates
            dtype=torch.float64,
        )
        features: list[torch.Tensor] = []
        model.encoder.register_forward_hook(lambda *args, kept=features: kept.append(args[2]))
        bound = make_objective(model.terms)(model(images, noise), images, 0)["iwae_bound"]
        (gradient,) = torch.autograd.grad(bound.sum(), features[-1])  # (repeats, 6): one each
        found.append(gradient)
        values.append(bound)
        model.encoder._forward_hooks.clear()
    plain, doubly = found
    error = ((plain.var(0) + doubly.var(0)) / repeats).sqrt()  # of the difference of the means
    assert bool(((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all())
    assert doubly.var(0).sum() < 0.8 * plain.var(0).sum()
    assert bool((plain.mean(0).abs() > 4 * error).any())  # there is a gradient to compare


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_the_value_and_the_decoders_gradient_do_not_depend_on_the_encoders(
    name: str, groups: int
) -> None:
    images, found = _images().double(), []
    for model in _pair(name, 5, groups):
        noise = torch.randn(
            (6, *model.noise_shape),
            generator=torch.Generator().manual_seed(2),
            dtype=torch.float64,
        )
        bound = make_objective(model.terms)(model(images, noise), images, 0)["iwae_bound"]
        learned = [*model.decoder.parameters()]
        if name == "mixture":  # the prior is a part of what generates images
            learned += [model.bottleneck.prior_mean, model.bottleneck.prior_logits]
        found.append([bound, *torch.autograd.grad(bound.sum(), learned)])
    for plain, doubly in zip(*found, strict=True):
        torch.testing.assert_close(doubly, plain)


def test_the_doubly_reparameterised_gradient_is_that_of_its_formula() -> None:
    """sum_k w_k^2 d ln w_k / d z d z / d mean, each factor computed apart (Tucker 2019, eq. 8)."""
    _, model = _pair("gaussian", 4)
    images = _images(1).double()
    noise = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean, log_std = model.bottleneck(model.encoder(images))[1]
    bound = make_objective(model.terms)(model(images, noise), images, 0)["iwae_bound"]
    (gradient,) = torch.autograd.grad(bound, model.bottleneck.linear_mu.bias)
    z = (mean + log_std.exp() * noise[0]).detach().requires_grad_()  # (4, 3)
    likelihood = torch.distributions.Bernoulli(model.decode(z)).log_prob(images).flatten(1).sum(1)
    q = torch.distributions.Normal(mean.detach(), log_std.detach().exp())
    prior = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    log_w = likelihood + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1)
    (slope,) = torch.autograd.grad(log_w.sum(), z)
    expected = -(log_w.softmax(0).square()[:, None] * slope).sum(0)  # d z / d mean is 1
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize("name", [*BOTTLENECKS, "flow"])
def test_every_posterior_has_weights_that_average_to_its_bound(name: str) -> None:
    """With one sample the bound is that of the evidence: its terms, computed by the plain model."""
    torch.manual_seed(0)
    kinds = {**BOTTLENECKS, "flow": lambda: FlowGaussian(6, 3, 2)}
    parts = EncoderMLP(SHAPE, 6), kinds[name](), DecoderMLP(SHAPE, 3)
    parts = (*parts[:2], torch.nn.Sequential(parts[2], torch.nn.Sigmoid()))
    weighted = ImportanceWeightedAutoencoder(parts[0], parts[2], 1, bottleneck=parts[1])
    images = _images(50)
    noise = torch.randn((50, *weighted.noise_shape), generator=torch.Generator().manual_seed(2))
    bound = make_objective(weighted.terms)(weighted(images, noise), images, 0)["iwae_bound"]
    output = Autoencoder(*parts)(images, noise[:, 0])
    if name == "gaussian":
        q = torch.distributions.Normal(output.posterior.mean, output.posterior.log_std.exp())
        prior = torch.distributions.Normal(0.0, 1.0)
        kl = (q.log_prob(output.latent) - prior.log_prob(output.latent)).sum(1)
    else:
        kl = output.posterior.sampled_kl()
    likelihood = torch.distributions.Bernoulli(output.reconstruction).log_prob(images)
    torch.testing.assert_close(bound, kl - likelihood.flatten(1).sum(1), rtol=1e-4, atol=1e-3)


def test_what_has_no_density_is_refused_with_what_is_possible() -> None:
    parts = EncoderMLP(SHAPE, 6), DecoderMLP(SHAPE, 3, activation_last_layer="sigmoid")
    images, noise = _images(), torch.randn(6, 2, 3)
    with pytest.raises(ConfigError, match="Identity draws no latents"):
        ImportanceWeightedAutoencoder(*parts, bottleneck=Identity())
    with pytest.raises(ConfigError, match="'double'; possible: plain, doubly"):
        ImportanceWeightedAutoencoder(*parts, bottleneck=Gaussian(6, 3), gradient="double")
    flow = FlowGaussian(6, 3, 2)
    model = ImportanceWeightedAutoencoder(*parts, 2, bottleneck=flow, gradient="doubly")
    with pytest.raises(ConfigError, match="FlowPosterior knows it at its own only"):
        model(images, noise)
    model = ImportanceWeightedAutoencoder(*parts, 2, 2, bottleneck=FullGaussian(6, 3))
    with pytest.raises(ConfigError, match="partial, which is for a Gaussian"):
        iwae_bound_term(model(images, torch.randn(6, 4, 3)), partial=True)
    sphere = ImportanceWeightedAutoencoder(*parts, 2, bottleneck=VonMisesFisher(6, 3))
    with pytest.raises(ConfigError, match="DirectionPosterior has no density"):
        sphere(images, torch.randn(6, 2, 4))

"""The importance-weighted autoencoder: its bound, by hand, and how it tightens."""

from __future__ import annotations

import math

import pytest
import torch

from aelab.data import noise_dataset
from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    ImportanceWeightedAutoencoder,
    VariationalEncoder,
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

"""What a validation calls a bound is one: of keyed noise, never better than the likelihood."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from aelab.losses import make_objective
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    ImportanceWeightedAutoencoder,
    VariationalAutoencoder,
    VariationalEncoder,
)
from aelab.ops.subset import draw_order
from aelab.train import FitSettings, Validated, evaluate, fit, make_state
from aelab.types import Images, Output, TermSpec

SHAPE = (1, 4, 4)


class Weights(NamedTuple):
    """A posterior that only knows importance weights, (B, K)."""

    log_weight: Tensor


class LinearGaussian(nn.Module):
    """x = W z + b + s e with standard normal z and e, and any Gaussian as approximate posterior.

    The marginal is N(b, W W' + s^2 I), so that the log-likelihood is known exactly.
    """

    terms = (TermSpec("iwae_bound", "iwae_bound"),)

    def __init__(self, samples: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = nn.Parameter(torch.randn(16, 2, generator=generator))
        self.scale, self.log_std = 0.6, math.log(0.3)
        with torch.no_grad():  # near the true posterior, not at it
            inverse = torch.linalg.inv(self.weight.T @ self.weight + self.scale**2 * torch.eye(2))
            self.encode_mean = nn.Parameter(0.9 * inverse @ self.weight.T)
        self.noise_shape = (samples, 2)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        pixels = images.flatten(1)
        mean = pixels @ self.encode_mean.T
        if noise is None:
            return Output((mean @ self.weight.T).view_as(images), mean)
        latent = mean[:, None] + math.exp(self.log_std) * noise
        error = (pixels[:, None] - latent @ self.weight.T) / self.scale
        likelihood = -0.5 * error.square().sum(2) - 16 * math.log(
            self.scale * math.sqrt(2 * math.pi)
        )
        prior = -0.5 * latent.square().sum(2)
        posterior = -0.5 * noise.square().sum(2) - 2 * self.log_std
        shown = (latent[:, 0] @ self.weight.T).view_as(images)
        return Output(shown, latent[:, 0], Weights(likelihood + prior - posterior))

    def negative_log_likelihood(self, images: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + self.scale**2 * torch.eye(16)
        normal = torch.distributions.MultivariateNormal(torch.zeros(16), covariance)
        return -normal.log_prob(images.flatten(1))


def settings(**changes: Any) -> FitSettings:
    return FitSettings(**{"batch_size": 50, "max_images": 400, "threads": 1, **changes})


def drawn_images(model: LinearGaussian, count: int) -> Images:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        pixels = torch.randn(count, 2, generator=generator) @ model.weight.T
        pixels += model.scale * torch.randn(count, 16, generator=generator)
    return Images(pixels.view(count, *SHAPE))


@pytest.mark.parametrize("samples", [1, 50])
def test_a_bound_in_validation_bounds_the_exact_likelihood(samples: int) -> None:
    model = LinearGaussian(samples)
    objective, images = make_objective(model.terms), drawn_images(model, 1000)
    with torch.no_grad():
        exact = model.negative_log_likelihood(images.pixels)
    found = [
        evaluate(model, objective, images, settings(seed=seed))["iwae_bound"] for seed in range(8)
    ]
    mean, error = torch.tensor(found).mean().item(), torch.tensor(found).std().item() / math.sqrt(8)
    assert mean > exact.mean().item() - 3 * error
    gap = mean - exact.mean().item()
    # One sample leaves the divergence between the posteriors; fifty leave little of it.
    assert gap > 0.5 if samples == 1 else gap < 0.1


def test_it_equals_the_bound_by_hand_and_is_the_same_at_every_validation() -> None:
    model = LinearGaussian(7)
    objective, images = make_objective(model.terms), drawn_images(model, 150)
    first = evaluate(model, objective, images, settings(), images_seen=0)
    assert evaluate(model, objective, images, settings(), images_seen=64) == first
    other = evaluate(model, objective, images, settings(seed=1))
    assert other["iwae_bound"] != first["iwae_bound"]


def test_noise_belongs_to_an_image_whatever_the_size_of_batches() -> None:
    model = LinearGaussian(7)
    objective, images = make_objective(model.terms), drawn_images(model, 150)
    whole = evaluate(model, objective, images, settings(validation_batch_size=150))
    for changes in (
        {"validation_batch_size": 1},
        {"validation_batch_size": 64},
        {"validation_batch_size": 37},
        {"micro_batch_size": 11},
    ):
        cut = evaluate(model, objective, images, settings(**changes))
        assert cut["iwae_bound"] == pytest.approx(whole["iwae_bound"], rel=1e-6)
    limited = evaluate(model, objective, images, settings(validation_limit=70))
    drawn = draw_order(150)[:70].sort().values
    alone = evaluate(model, objective, Images(images.pixels[drawn]), settings())
    assert limited == alone


def an_importance_weighted_model(samples: int) -> ImportanceWeightedAutoencoder:
    torch.manual_seed(0)
    encoder = VariationalEncoder(EncoderMLP(SHAPE, 8, hidden=(8,)), 8, 1)
    decoder = DecoderMLP(SHAPE, 1, hidden=(8,), activation_last_layer="sigmoid")
    return ImportanceWeightedAutoencoder(encoder, decoder, samples)


@pytest.mark.parametrize("samples", [1, 50])
def test_a_trained_importance_weighted_model_reports_no_better_than_its_likelihood(
    samples: int,
) -> None:
    """The exact likelihood is an integral over one latent, here a sum of 4,001 points."""
    chance = torch.rand(1, 16, generator=torch.Generator().manual_seed(2))
    bits = torch.rand(300, 16, generator=torch.Generator().manual_seed(1)) < chance
    images = Images(bits.float().view(-1, *SHAPE))
    model = an_importance_weighted_model(samples)
    config = settings(learnrate=5e-3, max_images=6000, batch_size=100)
    state, objective = make_state(model, config), make_objective(model.terms)
    events = list(fit(state, objective, images, images, config))
    found = next(event for event in events if isinstance(event, Validated)).terms
    grid = torch.linspace(-10, 10, 4001)[:, None]
    with torch.no_grad():
        probability = model.eval().decode(grid).flatten(1).clamp(1e-6, 1 - 1e-6)
        pixels = images.pixels.flatten(1)
        likelihood = pixels @ probability.log().T + (1 - pixels) @ (1 - probability).log().T
        prior = -0.5 * grid.square().T - 0.5 * math.log(2 * math.pi) + math.log(20 / 4000)
        exact = -(likelihood + prior).logsumexp(1).mean().item()
    assert found["iwae_bound"] == found["loss"]
    assert exact - 0.03 < found["iwae_bound"] < exact + 0.5


def test_a_variational_model_without_a_bound_is_validated_at_its_mean_code() -> None:
    torch.manual_seed(0)
    encoder = VariationalEncoder(EncoderMLP(SHAPE, 8, hidden=(8,)), 8, 3)
    model = VariationalAutoencoder(encoder, DecoderMLP(SHAPE, 3, hidden=(8,)), kl="gaussian")
    objective, images = make_objective(model.terms), Images(torch.rand(20, *SHAPE))
    assert objective.bounds == ()
    found = evaluate(model, objective, images, settings())
    with torch.no_grad():
        output = model.eval()(images.pixels)
        values = objective(output, images.pixels, 0)
    assert found["l2"] == pytest.approx(values["l2"].mean().item(), rel=1e-5)


def test_a_bound_among_other_terms_gets_its_noise_too(tiny: SimpleNamespace) -> None:
    model = an_importance_weighted_model(3)
    objective = make_objective(
        model.terms, objective={"tight": {"formula": "iwae_bound", "weight": 0.5}, "bce": 0.5}
    )
    assert objective.bounds == ("tight",)
    config = settings(validate_every_images=100)
    images = Images((torch.rand(60, *SHAPE) > 0.5).float())
    rows = [
        event
        for event in fit(make_state(model, config), objective, images, images, config)
        if isinstance(event, Validated)
    ]
    assert all(row.terms["tight"] > 0 for row in rows)

"""Mixtures of discretised logistic distributions: all levels, means, and bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError, ShapeError
from aelab.losses import make_objective
from aelab.losses.mixture import LogisticMixture
from aelab.metrics import Subject, elbo, iwae
from aelab.models import DecoderMLP, EncoderMLP, Gaussian, Identity, LogisticMixtureAutoencoder
from aelab.ops.logistic_mixture import mixture_log_likelihood, mixture_mean
from aelab.posteriors import Deterministic
from aelab.train import FitSettings, fit, make_state
from aelab.types import Images, Output


def parameters(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(shape, generator=generator, dtype=torch.float64)
    return made


def by_hand(values: list[float], pixel: list[float], components: int) -> float:
    """ln p of one pixel by the formulas of the paper, in plain Python."""
    channels = len(values)
    each = 1 + 2 * channels + channels * (channels - 1) // 2
    weights = [math.exp(v) for v in pixel[:components]]
    total = 0.0
    for k in range(components):
        own = pixel[components + k * (each - 1) : components + (k + 1) * (each - 1)]
        means, scales, rest = own[:channels], own[channels : 2 * channels], own[2 * channels :]
        product, place = weights[k] / sum(weights), 0
        for c in range(channels):
            mean = means[c]
            for before in range(c):
                mean += math.tanh(rest[place]) * (2 * values[before] - 1)
                place += 1
            scale, x = math.exp(scales[c]), 2 * values[c] - 1
            upper = 1.0 if values[c] == 1 else 1 / (1 + math.exp(-(x + 1 / 255 - mean) / scale))
            lower = 0.0 if values[c] == 0 else 1 / (1 + math.exp(-(x - 1 / 255 - mean) / scale))
            product *= upper - lower
        total += product
    return math.log(total)


@pytest.mark.parametrize(("channels", "each"), [(1, 3), (3, 10)])
@pytest.mark.parametrize("components", [1, 3])
def test_the_likelihood_is_that_of_the_papers_formulas(
    channels: int, each: int, components: int
) -> None:
    given = parameters(2, components * each, 2, 3)
    levels = torch.tensor([0, 1, 17, 128, 254, 255], dtype=torch.float64) / 255
    images = levels[torch.randint(0, 6, (2, channels, 2, 3))]
    found = mixture_log_likelihood(given, images)
    for row in range(2):
        wanted = sum(
            by_hand(images[row, :, y, x].tolist(), given[row, :, y, x].tolist(), components)
            for y in range(2)
            for x in range(3)
        )
        assert float(found[row]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("log_scale", [-30.0, -7.0, -3.0, 0.0, 3.0])
def test_the_probabilities_of_all_256_levels_add_up_to_one(log_scale: float) -> None:
    levels = (torch.arange(256, dtype=torch.float64) / 255).reshape(256, 1, 1, 1)
    for mean in (-3.0, -1.0, 0.2, 1.0):
        one = torch.tensor([0.0, mean, log_scale], dtype=torch.float64).reshape(1, 3, 1, 1)
        found = mixture_log_likelihood(one.expand(256, -1, -1, -1), levels)
        assert found.isfinite().all() and (found <= 0).all()
        assert float(found.exp().sum()) == pytest.approx(1.0, abs=1e-9)


def test_the_mean_is_that_of_all_levels_where_the_ends_are_far() -> None:
    values = torch.tensor([0.3, -0.2, 0.1, -0.5, -4.0, -3.5], dtype=torch.float64)
    one = values[[0, 1, 2, 4, 3, 5]].reshape(1, 6, 1, 1)
    levels = (torch.arange(256, dtype=torch.float64) / 255).reshape(256, 1, 1, 1)
    chances = mixture_log_likelihood(one.expand(256, -1, -1, -1), levels).exp()
    wanted = float((chances * levels[:, 0, 0, 0]).sum())
    assert float(mixture_mean(one, 1)) == pytest.approx(wanted, abs=2e-4)


def test_the_mean_of_a_colour_follows_the_channels_before_it() -> None:
    # one component: red -0.4, green 0.1 + 0.5 red, blue 0.2 - 0.3 red + 0.6 green
    tangents = [math.atanh(v) for v in (0.5, -0.3, 0.6)]
    one = torch.tensor([0.0, -0.4, 0.1, 0.2, -5, -5, -5, *tangents]).reshape(1, 10, 1, 1)
    green = 0.1 + 0.5 * -0.4
    blue = 0.2 - 0.3 * -0.4 + 0.6 * green
    wanted = (torch.tensor([-0.4, green, blue]) + 1) / 2
    torch.testing.assert_close(mixture_mean(one, 3).flatten(), wanted)


def test_gradients_are_right_and_finite_at_the_ends_of_levels_and_parameters() -> None:
    images = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    given = parameters(1, 6, 1, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: mixture_log_likelihood(p, images), given)
    for size in (0.0, 30.0, -30.0, 1e3):
        extreme = torch.full((1, 6, 1, 3), size, requires_grad=True)
        value = mixture_log_likelihood(extreme, images.float())
        value.sum().backward()
        assert value.isfinite().all() and extreme.grad is not None
        assert extreme.grad.isfinite().all()


def pictures(channels: int, count: int = 200) -> Images:
    """One grey or colour a picture, and noise."""
    generator = torch.Generator().manual_seed(5)
    base = torch.randint(40, 200, (count, channels, 1, 1), generator=generator)
    noise = torch.randint(0, 20, (count, channels, 4, 4), generator=generator)
    return Images((base + noise).to(torch.uint8))


@pytest.mark.parametrize(("channels", "each"), [(1, 3), (3, 10)])
def test_a_variational_model_learns_and_its_bounds_are_those_of_8_bit_images(
    channels: int, each: int
) -> None:
    torch.manual_seed(0)
    shape = (channels, 4, 4)
    model = LogisticMixtureAutoencoder(
        EncoderMLP(shape, 16, hidden=(32,)),
        Gaussian(16, 4),
        DecoderMLP((2 * each, 4, 4), 4, hidden=(32,)),
        shape,
    )
    objective = make_objective(model.terms)
    assert objective.describe() == "logistic_mixture + kl"
    images, settings = (
        pictures(channels),
        FitSettings(batch_size=50, max_images=10_000, learnrate=0.01),
    )
    state = make_state(model, settings)
    list(fit(state, objective, images, images, settings))
    subject = Subject(state.learner.members[0].model, images, formulas=objective.names)
    found = elbo(subject, samples=4)
    pixels = 16 * channels
    assert found["bits_per_dim"] == pytest.approx(
        -found["elbo_nats"] / (pixels * math.log(2)), rel=1e-6
    )
    assert "pixel_scale" not in found
    # uniform over all levels 8 bits; noise of 20 levels ln2(20) = 4.32, and the base besides
    assert 4.32 < found["bits_per_dim"] < 7
    assert iwae(subject, samples=20)["iwae_nats"] > found["elbo_nats"]
    output = model.eval()(images.pixels[:5] / 255)
    assert output.reconstruction.shape == (5, *shape) and not output.reconstruction.requires_grad
    torch.testing.assert_close(model.decode(output.latent).detach(), output.reconstruction)
    shown, mean = images.pixels[:5] / 255, images.pixels.float().mean(0) / 255
    assert (output.reconstruction - shown).abs().mean() < 0.8 * (mean - shown).abs().mean()


def test_what_does_not_fit_is_told_with_the_numbers_that_do() -> None:
    shape = (3, 4, 4)
    model = LogisticMixtureAutoencoder(
        EncoderMLP(shape, 4), Identity(), DecoderMLP(shape, 4), shape
    )
    with pytest.raises(ShapeError, match="needs 10 numbers") as told:
        model(torch.rand(2, *shape))
    assert "50 for 5" in (told.value.hint or "")
    with pytest.raises(ShapeError, match="but the images"):
        mixture_log_likelihood(torch.zeros(2, 10, 4, 5), torch.rand(2, *shape))
    with pytest.raises(ConfigError, match="gives none") as told:
        LogisticMixture()(
            Output(torch.rand(2, *shape), torch.rand(2, 4), Deterministic()), torch.rand(2, *shape)
        )
    assert "LogisticMixtureAutoencoder" in (told.value.hint or "")

"""Every formula against independent values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.losses import (
    RECONSTRUCTIONS,
    bce,
    bce_logits,
    feature_statistics,
    gaussian_kl,
    huber,
    l1,
    l2,
    per_image,
)
from aelab.losses.jacobians import contractive_term, decoder_gradient_term
from aelab.losses.latent import iwae_bound_term
from aelab.posteriors import ImportancePosterior, gaussian_kl_per_dim
from aelab.types import Encoding, Output


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pair():
    return torch.rand(5, 3, 4, 6), torch.rand(5, 3, 4, 6)


OTHERS = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "bce": F.binary_cross_entropy,
    "bce_logits": F.binary_cross_entropy_with_logits,
    "huber": F.huber_loss,
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_mean_of_the_images_is_the_loss_of_torch(name):
    r, t = pair()
    values = RECONSTRUCTIONS[name](r, t)
    assert values.shape == (5,)
    torch.testing.assert_close(values.mean(), OTHERS[name](r, t))
    one = RECONSTRUCTIONS[name](r[2:3], t[2:3])
    torch.testing.assert_close(one[0], values[2])


@pytest.mark.parametrize("name", OTHERS)
def test_the_sum_is_the_mean_times_the_numbers_of_an_image(name):
    r, t = pair()
    formula = RECONSTRUCTIONS[name]
    torch.testing.assert_close(formula(r, t, reduction="sum"), formula(r, t) * 3 * 4 * 6)


def test_values_by_hand():
    r, t = torch.tensor([[0.2, 0.9]]), torch.tensor([[0.0, 1.0]])
    assert l1(r, t).item() == pytest.approx(0.15)
    assert l2(r, t).item() == pytest.approx(0.025)
    assert bce(r, t).item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    assert huber(r, t, delta=0.1).item() == pytest.approx((0.1 * 0.15 + 0.5 * 0.01) / 2)


def test_bce_is_the_likelihood_of_a_coin():
    r, t = torch.rand(3, 7), (torch.rand(3, 7) < 0.5).float()
    torch.testing.assert_close(bce(r, t, reduction="sum"), -Bernoulli(probs=r).log_prob(t).sum(1))
    torch.testing.assert_close(bce_logits(torch.logit(r), t), bce(r, t))


def test_bce_stays_finite_outside_of_its_range():
    r = torch.tensor([[-5.0, 0.0, 1.0, 7.0]], requires_grad=True)
    value = bce(r, torch.tensor([[0.0, 1.2, -0.1, 1.0]]))
    value.sum().backward()
    assert value.isfinite().all() and r.grad.isfinite().all()


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ConfigError, match="'mean' or 'sum', not 'none'"):
        per_image(torch.rand(2, 3), "none")


numbers = st.floats(-4, 4, allow_nan=False, width=32)


@settings(max_examples=50, deadline=None)
@given(mean=numbers, log_std=numbers)
def test_gaussian_kl_is_the_one_of_torch(mean, log_std):
    m, s = torch.tensor([[mean]]).double(), torch.tensor([[log_std]]).double()
    expected = kl_divergence(Normal(m, s.exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(gaussian_kl(m, s), expected)


def test_gaussian_kl_is_the_mean_of_log_densities_by_monte_carlo():
    mean, log_std = torch.tensor([[0.7, -1.2, 0.0]]), torch.tensor([[-0.5, 0.3, -1.5]])
    posterior, prior = Normal(mean, log_std.exp()), Normal(0.0, 1.0)
    draws = posterior.sample((200_000,))
    differences = (posterior.log_prob(draws) - prior.log_prob(draws)).sum(-1)
    error = differences.std() / math.sqrt(len(draws))
    assert abs(differences.mean() - gaussian_kl(mean, log_std)[0]) < 5 * error


def test_gaussian_kl_is_zero_at_the_prior_only():
    zero = torch.zeros(2, 3)
    assert torch.equal(gaussian_kl(zero, zero), torch.zeros(2))
    assert (gaussian_kl_per_dim(torch.randn(50, 3), torch.randn(50, 3)) > 0).all()
    small = torch.full((1, 1), 1e-4)
    assert gaussian_kl(zero[:1, :1], small).item() == pytest.approx(1e-8, rel=1e-3)


def test_gaussian_kl_is_in_nats_and_summed():
    # log_std = ln 2 in each of four dimensions: 0.5 (4 - 1 - 2 ln 2) nats each
    kl = gaussian_kl(torch.zeros(1, 4), torch.full((1, 4), math.log(2)))
    assert kl.item() == pytest.approx(4 * 0.5 * (3 - 2 * math.log(2)))
    assert gaussian_kl(torch.ones(1, 4), torch.zeros(1, 4), reduction="mean").item() == 0.5


def test_free_bits_are_a_floor_for_each_dimension():
    mean = torch.tensor([[0.0, 0.1, 2.0]], requires_grad=True)
    kl = gaussian_kl(mean, torch.zeros(1, 3), free_bits_nats=0.1)
    assert kl.item() == pytest.approx(0.1 + 0.1 + 2.0)
    kl.sum().backward()
    assert mean.grad.tolist() == [[0.0, 0.0, 2.0]]


def test_a_spread_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="mean is"):
        gaussian_kl(torch.rand(2, 3), torch.rand(2, 4))


def test_feature_statistics_are_those_of_the_special_trainer():
    latent = torch.randn(6, 4)
    expected = (0.5 - latent.std(dim=0, unbiased=True).mean()).abs() + latent.mean().abs()
    torch.testing.assert_close(feature_statistics(latent), expected.expand(6))
    torch.testing.assert_close(feature_statistics(latent[:1]), latent[0].mean().abs()[None])
    with pytest.raises(ConfigError, match="needs a latent"):
        feature_statistics(torch.rand(2, 0))


def test_likelihoods_are_those_of_torch():
    r, t = pair()
    found = RECONSTRUCTIONS["gaussian_nll"](r, t, std=0.3)
    torch.testing.assert_close(found, -Normal(r, 0.3).log_prob(t).flatten(1).sum(1))
    found = RECONSTRUCTIONS["continuous_bernoulli"](r, t)
    theirs = torch.distributions.ContinuousBernoulli(r.clamp(1e-4, 1 - 1e-4))
    torch.testing.assert_close(found, -theirs.log_prob(t).flatten(1).sum(1), rtol=1e-4, atol=1e-4)


def test_the_optimal_variance_is_the_best_of_all():
    r, t = pair()
    best = RECONSTRUCTIONS["optimal_gaussian_nll"](r, t)
    tried = torch.stack(
        [RECONSTRUCTIONS["gaussian_nll"](r, t, std=std / 1000) for std in range(100, 900)]
    )
    torch.testing.assert_close(best, tried.min(0).values, rtol=1e-4, atol=1e-2)


def test_smooth_errors_are_a_parabola_near_zero_and_a_line_far_away():
    x = torch.tensor([[1e-4], [0.5], [30.0]], dtype=torch.float64)
    zero = torch.zeros_like(x)
    exact = torch.log(torch.cosh(x))[:, 0]
    torch.testing.assert_close(RECONSTRUCTIONS["log_cosh"](x, zero), exact, rtol=1e-6, atol=0)
    found = RECONSTRUCTIONS["charbonnier"](x, zero, epsilon=1e-2)
    torch.testing.assert_close(found, (x.square() + 1e-4).sqrt()[:, 0] - 1e-2)


def test_decoder_gradient_is_on_average_the_squared_norm_of_the_jacobian() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3)
    latent = torch.randn(1, 3, requires_grad=True)

    def decode(z: Tensor) -> Tensor:
        return (z @ weight.T).sin()

    (jacobian,) = torch.autograd.functional.jacobian(decode, latent)[:, :, 0]
    many = latent.expand(20_000, 3)
    output = Output(decode(many).reshape(-1, 1, 2, 2), many)
    found = float(decoder_gradient_term(output).detach().mean())
    assert found == pytest.approx(float(jacobian.square().sum()), rel=0.03)
    with torch.no_grad():
        plain = Output(decode(latent.detach()).reshape(-1, 1, 2, 2), latent.detach())
        assert decoder_gradient_term(plain).tolist() == [0.0]


def test_contractive_penalty_of_a_sigmoid_layer_is_the_closed_form_of_its_paper() -> None:
    """Rifai 2011, equation 7: sum_i (h_i (1 - h_i))^2 sum_j W_ij^2."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 5).double()
    images = torch.rand(4, 3, 2, 2, dtype=torch.float64)

    def encode(x: Tensor) -> Tensor:
        return layer(x.flatten(1)).sigmoid()

    hidden = encode(images)
    wanted = ((hidden * (1 - hidden)).square() * layer.weight.square().sum(1)).sum(1)
    output, encoding = Output(images, hidden), Encoding(images, encode)
    found = contractive_term(output, encoding, estimate="exact")
    torch.testing.assert_close(found, wanted)
    ours, theirs = (
        torch.autograd.grad(value.sum(), layer.weight, retain_graph=True)[0]
        for value in (found, wanted)
    )
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():  # as in validation
        torch.testing.assert_close(contractive_term(output, encoding, estimate="exact"), wanted)
    for estimate in ("projection", "difference"):
        about = contractive_term(output, encoding, estimate=estimate, probes=1000, step=1e-4)
        torch.testing.assert_close(about, wanted, rtol=0.15, atol=0)


@pytest.mark.parametrize(
    "option", [{"estimate": "jacobian"}, {"probes": 0}, {"probes": 1.5}, {"step": 0.0}]
)
def test_contractive_refuses_options_without_a_meaning(option: dict[str, Any]) -> None:
    images = torch.rand(2, 1, 2, 2)
    with pytest.raises(ConfigError, match=next(iter(option))):
        contractive_term(Output(images, images.flatten(1)), **option)


def test_partial_bound_gives_each_half_of_the_model_its_own_gradient() -> None:
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(6, 4), torch.nn.Linear(2, 6)
    images, noise = torch.rand(5, 6), torch.randn(5, 3 * 4, 2)  # three groups of four latents

    def log_weights() -> tuple[Tensor, Tensor, Tensor]:
        mean, log_std = encoder(images).chunk(2, 1)
        latent = mean[:, None] + log_std.exp()[:, None] * noise
        fit = -(decoder(latent) - images[:, None]).square().sum(2)
        ratio = (0.5 * noise.square() + log_std[:, None] - 0.5 * latent.square()).sum(2)
        return mean, log_std, (fit + ratio).view(5, 3, 4)

    mean, log_std, weights = log_weights()
    output = Output(torch.zeros(5, 1, 2, 3), mean, ImportancePosterior(mean, log_std, weights))
    value = iwae_bound_term(output, partial=True)
    whole = math.log(12) - torch.logsumexp(weights.flatten(1), 1)
    groups = (math.log(4) - torch.logsumexp(weights, 2)).mean(1)
    torch.testing.assert_close(value, whole)
    for part, bound in ((encoder, groups), (decoder, whole)):
        mine, theirs = (
            torch.autograd.grad(each.sum(), list(part.parameters()), retain_graph=True)
            for each in (value, bound)
        )
        torch.testing.assert_close(mine, theirs)
    assert (groups > whole).all()
    one = ImportancePosterior(mean, log_std, weights[:, 0])
    with pytest.raises(ConfigError, match="one group of latents"):
        iwae_bound_term(output._replace(posterior=one), partial=True)

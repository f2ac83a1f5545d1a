"""Learned priors and flows against numbers that do not come from their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.aggregate import TotalCorrelation, dip_term, mmd_term
from aelab.losses.latent import iwae_bound_term
from aelab.metrics import elbo, iwae
from aelab.metrics.distances import draw_images
from aelab.metrics.subject import Subject
from aelab.models import (
    Autoencoder,
    DecoderMLP,
    EncoderMLP,
    FlowGaussian,
    FlowPrior,
    ImportanceWeightedAutoencoder,
    MixturePrior,
    VampPriorAutoencoder,
    VariationalEncoder,
)
from aelab.models.splines import PIECES
from aelab.posteriors import MixturePriorPosterior, joined
from aelab.types import Images, Output


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_the_divergence_from_a_mixture_is_that_of_torch() -> None:
    bottleneck = MixturePrior(6, 3, components=4)
    torch.nn.init.normal_(bottleneck.prior_logits)
    torch.nn.init.normal_(bottleneck.prior_log_std, std=0.3)
    latent, posterior = bottleneck(torch.randn(5, 6), torch.randn(5, 3))
    prior = MixtureSameFamily(
        Categorical(logits=bottleneck.prior_logits),
        Independent(Normal(bottleneck.prior_mean, bottleneck.prior_log_std.exp()), 1),
    )
    q = Independent(Normal(posterior.mean, posterior.log_std.exp()), 1)
    torch.testing.assert_close(
        posterior.sampled_kl(), q.log_prob(latent) - prior.log_prob(latent), rtol=1e-4, atol=1e-4
    )
    drawn, ratio = posterior.draw(torch.randn)
    torch.testing.assert_close(
        ratio, (prior.log_prob(drawn) - q.log_prob(drawn)).double(), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_latents_of_a_mixture_have_its_mean_and_spread() -> None:
    bottleneck = MixturePrior(6, 2, components=2)
    bottleneck.prior_mean.copy_(torch.tensor([[-3.0, 0.0], [3.0, 1.0]]))
    bottleneck.prior_logits.copy_(torch.tensor([0.25, 0.75]).log())
    _, posterior = bottleneck(torch.randn(5, 6))
    drawn = posterior.draw_prior(20_000, torch.randn)
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.5, 0.75]), atol=0.1, rtol=0)
    assert float((drawn[:, 0] < 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_one_standard_component_is_the_ordinary_divergence_on_average() -> None:
    bottleneck = MixturePrior(6, 3, components=1)
    torch.nn.init.zeros_(bottleneck.prior_mean)
    features = torch.randn(1, 6).expand(40_000, 6)
    _, posterior = bottleneck(features, torch.randn(40_000, 3))
    mean, log_std = posterior.mean[:1], posterior.log_std[:1]
    exact = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum()
    torch.testing.assert_close(posterior.sampled_kl().mean(), exact, rtol=0.03, atol=0.01)


def test_pseudo_images_are_encoded_as_images_are() -> None:
    shape = (1, 6, 6)
    model = VampPriorAutoencoder(
        VariationalEncoder(EncoderMLP(shape, 8), 8, 4),
        DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
        shape,
        components=5,
    )
    output = model(torch.rand(3, *shape), torch.randn(3, 4))
    codes = model.encode(model.pseudo_images.sigmoid())
    torch.testing.assert_close(output.posterior.prior_mean[1], codes)
    assert output.posterior.draw_prior(7, torch.randn).shape == (7, 4)
    objective = make_objective(model.terms)
    assert objective.bounds == ("sampled_kl",) and objective.names == ("bce", "sampled_kl")
    objective.total(objective(output, torch.rand(3, *shape), 0), 0).sum().backward()
    assert model.pseudo_images.grad is not None and model.pseudo_images.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["planar", "radial", "autoregressive", "spline"])
def test_the_determinant_of_a_flow_is_that_of_its_jacobian(kind: str) -> None:
    bottleneck = FlowGaussian(6, 4, layers=3, kind=kind, hidden=9).double()
    for parameter in bottleneck.flow.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    features = torch.randn(1, 6, dtype=torch.float64)
    noise = torch.randn(1, 4, dtype=torch.float64)
    _, posterior = bottleneck(features, noise)

    def of(noise: Tensor) -> Tensor:
        latent: Tensor = bottleneck(features, noise[None])[0][0]
        return latent

    jacobian = torch.autograd.functional.jacobian(of, noise[0])
    log_q = Normal(0, 1).log_prob(noise).sum() - torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(posterior.log_q[0], log_q, rtol=1e-6, atol=1e-8)
    expected = log_q - Normal(0, 1).log_prob(posterior.latent).sum()
    torch.testing.assert_close(posterior.sampled_kl()[0], expected, rtol=1e-6, atol=1e-8)


def test_a_flow_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'splines'; possible: at least 1 of planar, radial"):
        FlowGaussian(6, 4, kind="splines")


def test_groups_of_importance_weights_are_bounds_side_by_side() -> None:
    shape = (1, 6, 6)
    parts = (
        VariationalEncoder(EncoderMLP(shape, 8), 8, 4),
        DecoderMLP(shape, 4, activation_last_layer="sigmoid"),
    )
    grouped = ImportanceWeightedAutoencoder(*parts, samples=3, groups=2)
    alone = ImportanceWeightedAutoencoder(*parts, samples=3)
    images, noise = torch.rand(2, *shape).round(), torch.randn(2, 6, 4)
    bounds = [iwae_bound_term(alone(images, noise[:, part])) for part in (slice(3), slice(3, 6))]
    torch.testing.assert_close(iwae_bound_term(grouped(images, noise)), torch.stack(bounds).mean(0))
    assert math.prod(grouped.noise_shape) == 24


def _bent_prior() -> FlowPrior:
    """A flow prior far from the standard normal."""
    bottleneck = FlowPrior(6, 2, layers=3, hidden=9).double()
    for parameter in bottleneck.flow.parameters():
        torch.nn.init.normal_(parameter, std=0.35)
    return bottleneck


def test_a_flow_prior_is_the_standard_normal_at_the_start() -> None:
    bottleneck = FlowPrior(6, 3)
    latent, posterior = bottleneck(torch.randn(5, 6), torch.randn(5, 3))
    torch.testing.assert_close(
        posterior.log_prior, Normal(0, 1).log_prob(latent).sum(1), rtol=1e-4, atol=1e-4
    )
    noise = torch.randn(7, 3)
    torch.testing.assert_close(bottleneck.draw_prior(7, lambda _: noise), noise, atol=1e-4, rtol=0)


def test_a_flow_prior_is_a_density_and_its_draws_follow_it() -> None:
    bottleneck = _bent_prior()
    side = torch.linspace(-8, 8, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)  # (n, 2)
    zero = torch.zeros(len(grid), 6, dtype=torch.float64)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_mu.weight)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_mu.bias)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_sigma.weight)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_sigma.bias)
    with torch.no_grad():  # the latent is the noise: mean 0, deviation 1
        density = bottleneck(zero, grid)[1].log_prior.exp()
    cell = (16 / 320) ** 2
    assert (density.sum() * cell).item() == pytest.approx(1, abs=0.01)
    drawn = bottleneck.draw_prior(20_000, torch.randn)
    for d in range(2):
        mean = (density * grid[:, d]).sum() * cell
        spread = ((density * (grid[:, d] - mean).square()).sum() * cell).sqrt()
        assert drawn[:, d].mean().item() == pytest.approx(mean.item(), abs=0.05)
        assert drawn[:, d].std().item() == pytest.approx(spread.item(), rel=0.03)
    assert abs(spread.item() - 1) > 0.05 or abs(mean.item()) > 0.1  # not the normal that it was


def test_terms_that_draw_the_prior_refuse_one_that_only_the_model_can_draw() -> None:
    latent, posterior = FlowPrior(6, 3)(torch.randn(5, 6), torch.randn(5, 3))
    with pytest.raises(ConfigError, match="can be drawn by the whole model only"):
        mmd_term(Output(torch.zeros(5, 1, 1, 1), latent, posterior))


@pytest.mark.parametrize("term", [dip_term, TotalCorrelation()], ids=["dip", "total_correlation"])
def test_terms_of_a_gaussian_latent_refuse_the_gaussian_before_a_flow(term) -> None:
    """The latent is behind the flow, and its distribution is another."""
    latent, posterior = FlowGaussian(6, 3)(torch.randn(5, 6), torch.randn(5, 3))
    with pytest.raises(ConfigError, match="needs a Gaussian latent"):
        term(Output(torch.zeros(5, 1, 1, 1), latent, posterior))


class _Bright(torch.nn.Module):
    """A decoder whose image shows the mean of the latent's numbers in every pixel."""

    def forward(self, latent: Tensor) -> Tensor:
        return latent.mean(1)[:, None, None, None].expand(-1, 1, 4, 4)


def _model_of(prior: str) -> Autoencoder:
    """A model whose prior lies around 3."""
    shape = (1, 4, 4)
    encoder = EncoderMLP(shape, 6)
    if prior == "mixture":
        mixture = MixturePrior(6, 3, 4)
        torch.nn.init.constant_(mixture.prior_mean, 3.0)
        return Autoencoder(encoder, mixture, _Bright())
    if prior == "vamp":
        variational = VariationalEncoder(encoder, 6, 3)
        torch.nn.init.zeros_(variational.bottleneck.linear_mu.weight)
        torch.nn.init.constant_(variational.bottleneck.linear_mu.bias, 3.0)
        return VampPriorAutoencoder(variational, _Bright(), shape, 4)
    flow = FlowPrior(6, 3, layers=2)
    for layer in flow.flow:  # a normal number 0 comes from a latent far above 0
        torch.nn.init.constant_(layer.net[-1].bias, 0.0)
        with torch.no_grad():
            layer.net[-1].bias.view(-1, 3 * PIECES - 1)[:, 0] = 4.0  # a wide first piece
    return Autoencoder(encoder, flow, _Bright())


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
def test_samplers_and_bounds_use_the_learned_prior(prior: str) -> None:
    images = (torch.rand(30, 1, 4, 4) > 0.5).float()
    subject = Subject(_model_of(prior).eval(), Images(images), formulas=("l2",))
    for sampler in ("auto", "prior"):
        shown = draw_images(subject, sampler, 2_000).mean().item()
        assert shown > 2  # of the standard normal: 0
    bound, tighter = elbo(subject, samples=200), iwae(subject, samples=200)
    assert tighter["iwae_elbo_nats"] == pytest.approx(bound["elbo_nats"], rel=0.02)
    assert tighter["iwae_nats"] > tighter["iwae_elbo_nats"]


def test_the_prior_of_a_measured_run_is_one_copy_and_its_density_needs_little_memory() -> None:
    torch.manual_seed(0)
    components, images = 40, Images(torch.rand(600, 1, 4, 4))
    bottleneck = MixturePrior(8, 3, components)
    model = Autoencoder(
        EncoderMLP((1, 4, 4), 8), bottleneck, DecoderMLP((1, 4, 4), 3), bottleneck.terms
    )
    posterior = Subject(model, images).posterior
    assert isinstance(posterior, MixturePriorPosterior)
    assert posterior.prior_mean.shape == (600, components, 3)
    numbers = posterior.prior_mean.untyped_storage().nbytes() // 4
    assert numbers == components * 3 and not posterior.prior_mean.requires_grad
    # Against torch, whatever the number of images of one step.
    mixture = MixtureSameFamily(
        Categorical(logits=bottleneck.prior_logits),
        Independent(Normal(bottleneck.prior_mean, bottleneck.prior_log_std.exp()), 1),
    )
    own = Independent(Normal(posterior.mean, posterior.log_std.exp()), 1)
    expected = own.log_prob(posterior.latent) - mixture.log_prob(posterior.latent)
    for most in (7, 100 * components * 3, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aelab.posteriors.MOST_NUMBERS", most)
            torch.testing.assert_close(posterior.sampled_kl(), expected.detach())


def test_posteriors_that_differ_between_batches_are_joined_row_by_row() -> None:
    one, two = (torch.full((1, 2, 3), value).expand(4, 2, 3) for value in (1.0, 2.0))
    rest = torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4, 3)
    weight = torch.zeros(4, 2)
    parts = [MixturePriorPosterior(*rest, mean, mean, weight) for mean in (one, two)]
    both = joined(parts)
    assert torch.equal(both.prior_mean, torch.cat([one, two]))
    single = joined([MixturePriorPosterior(*(t[:1] for t in part)) for part in parts])
    assert torch.equal(single.prior_mean, torch.cat([one[:1], two[:1]]))

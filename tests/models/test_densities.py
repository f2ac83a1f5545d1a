"""Posteriors beside the diagonal Gaussian, against scipy, torch.distributions and quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.distributions import Laplace as LaplaceDensity
from torch.distributions import StudentT as StudentDensity

from aelab.errors import ConfigError, ShapeError
from aelab.losses.aggregate import mmd_term
from aelab.metrics import elbo, iwae
from aelab.metrics.subject import Subject
from aelab.models import (
    Autoencoder,
    DecoderMLP,
    EncoderMLP,
    FullGaussian,
    Laplace,
    LowRankGaussian,
    StudentT,
)
from aelab.posteriors import CanDraw, HasDensity, HasDivergence, HasPrior, HasSampledDivergence
from aelab.types import Images, Output

BOTTLENECKS: dict[str, Callable[[], nn.Module]] = {
    "full": lambda: FullGaussian(6, 3),
    "low rank": lambda: LowRankGaussian(6, 3, 2),
    "laplace": lambda: Laplace(6, 3),
    "laplace, normal prior": lambda: Laplace(6, 3, prior="normal"),
    "student": lambda: StudentT(6, 3, degrees=4.0),
    "student, normal prior": lambda: StudentT(6, 3, degrees=4.0, prior="normal"),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def _spread(name: str) -> nn.Module:
    """A bottleneck in double precision whose layers, also those of zeros, have random weights."""
    bottleneck = BOTTLENECKS[name]().double()
    for parameter in bottleneck.parameters():
        nn.init.normal_(parameter, std=0.3)
    return bottleneck


def _q(name: str, posterior) -> torch.distributions.Distribution:
    """The same distribution of `torch.distributions`, made from the posterior's tensors."""
    if name == "full":
        return MultivariateNormal(posterior.mean, scale_tril=posterior.factor)
    if name == "low rank":
        covariance = posterior.factor @ posterior.factor.transpose(1, 2)
        covariance = covariance + torch.diag_embed((2 * posterior.own_log_std).exp())
        return MultivariateNormal(posterior.mean, covariance)
    scale = posterior.log_scale.exp()
    if name.startswith("laplace"):
        return Independent(LaplaceDensity(posterior.mean, scale), 1)
    return Independent(StudentDensity(posterior.degrees[:, None], posterior.mean, scale), 1)


def _prior(name: str) -> torch.distributions.Distribution:
    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    kinds = {"laplace": LaplaceDensity(zero, one), "student": StudentDensity(4 * one, zero, one)}
    return Independent(kinds.get(name, Normal(zero, one)), 1)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_densities_are_those_of_torch(name: str) -> None:
    bottleneck = _spread(name)
    noise = torch.randn(5, *bottleneck.noise_shape, dtype=torch.float64)
    latent, posterior = bottleneck(torch.randn(5, 6, dtype=torch.float64), noise)
    q, p = _q(name, posterior), _prior(name)
    torch.testing.assert_close(posterior.log_density(latent + 0.1), q.log_prob(latent + 0.1))
    torch.testing.assert_close(posterior.sampled_kl(), q.log_prob(latent) - p.log_prob(latent))
    drawn, ratio = posterior.draw(lambda shape: torch.randn(shape, dtype=torch.float64))
    expected = p.log_prob(drawn.double()) - q.log_prob(drawn.double())
    torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["full", "low rank"])
def test_the_divergence_of_a_gaussian_with_covariances_is_that_of_torch(name: str) -> None:
    _, posterior = _spread(name)(torch.randn(5, 6, dtype=torch.float64))
    standard = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    kl = posterior.kl()
    torch.testing.assert_close(kl.sum(1), kl_divergence(_q(name, posterior), standard))
    assert kl.shape == (5, 3 if name == "full" else 1) and bool((kl >= 0).all())


def test_the_density_of_a_low_rank_gaussian_is_also_that_of_its_full_covariance() -> None:
    _, posterior = _spread("low rank")(torch.randn(4, 6, dtype=torch.float64))
    own = LowRankMultivariateNormal(
        posterior.mean, posterior.factor, (2 * posterior.own_log_std).exp()
    )
    value = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(own.log_prob(value), _q("low rank", posterior).log_prob(value))
    torch.testing.assert_close(posterior.log_density(value), own.log_prob(value))


@pytest.mark.parametrize("name", ["laplace", "laplace, normal prior", "student, normal prior"])
def test_a_divergence_in_closed_form_is_the_integral(name: str) -> None:
    _, posterior = _spread(name)(torch.randn(1, 6, dtype=torch.float64))
    for d in range(3):
        centre, scale = posterior.mean[0, d].item(), posterior.log_scale[0, d].exp().item()
        q = stats.laplace(centre, scale) if "laplace" in name else stats.t(4.0, centre, scale)
        p = stats.laplace() if name == "laplace" else stats.norm()

        def inside(x: float, q=q, p=p) -> float:
            return q.pdf(x) * (q.logpdf(x) - p.logpdf(x))

        # Beyond, the share of q is below 1e-12.
        width = (40 if "laplace" in name else 1e4) * scale
        low, high = centre - width, centre + width
        pieces = [
            integrate.quad(inside, *ends, limit=400)[0] for ends in ((low, centre), (centre, high))
        ]
        assert posterior.kl()[0, d].item() == pytest.approx(sum(pieces), abs=1e-5)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_samples_follow_the_distribution(name: str) -> None:
    bottleneck = _spread(name)
    features = torch.randn(1, 6, dtype=torch.float64).expand(20_000, 6)
    noise = torch.randn(20_000, *bottleneck.noise_shape, dtype=torch.float64)
    latent, posterior = bottleneck(features, noise)
    drawn, _ = posterior.draw(lambda shape: torch.randn(shape, dtype=torch.float64))
    for samples in (latent, drawn):
        values = samples[:, 1].detach().numpy()
        centre = posterior.mean[0, 1].item()
        if name in ("full", "low rank"):
            covariance = _q(name, posterior).covariance_matrix[0]
            # Standard error of a covariance of 20,000 draws: at most its largest variance / 100.
            error = covariance.max().item() / 100
            torch.testing.assert_close(
                torch.cov(samples.T.double()), covariance, rtol=0, atol=4 * error
            )
            expected = stats.norm(centre, covariance[1, 1].sqrt().item())
        else:
            scale = posterior.log_scale[0, 1].exp().item()
            kind = stats.laplace if "laplace" in name else stats.t
            expected = kind(*([] if "laplace" in name else [4.0]), centre, scale)
        # 0.0136 is exceeded by one sample of 20,000 in a thousand (1.95 / sqrt(n)).
        assert stats.kstest(values, expected.cdf).statistic < 1.95 / math.sqrt(20_000)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_latents_of_the_prior_follow_the_prior(name: str) -> None:
    _, posterior = _spread(name)(torch.randn(2, 6, dtype=torch.float64))
    drawn = posterior.draw_prior(20_000, torch.randn)[:, 0].numpy()
    expected = {"laplace": stats.laplace(), "student": stats.t(4.0)}.get(name, stats.norm())
    assert stats.kstest(drawn, expected.cdf).statistic < 1.95 / math.sqrt(20_000)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_one_sample_estimate_has_the_mean_of_the_divergence(name: str) -> None:
    bottleneck = _spread(name)
    features = torch.randn(1, 6, dtype=torch.float64).expand(40_000, 6)
    noise = torch.randn(40_000, *bottleneck.noise_shape, dtype=torch.float64)
    _, posterior = bottleneck(features, noise)
    estimates = posterior.sampled_kl()
    error = estimates.std().item() / 200
    if name == "student":  # no closed form: independent draws of torch's distributions
        q, p = _q(name, posterior), _prior(name)
        drawn = q.sample()
        expected = (q.log_prob(drawn) - p.log_prob(drawn)).mean().item()
        error *= math.sqrt(2)
    else:
        expected = posterior.kl()[0].sum().item()
    assert estimates.mean().item() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_gradients_reach_the_parameters_through_the_sample(name: str) -> None:
    """d/d parameter of a mean over samples, against differences with the same noise."""
    bottleneck = _spread(name)
    features = torch.randn(4, 6, dtype=torch.float64)
    noise = torch.randn(4, *bottleneck.noise_shape, dtype=torch.float64)
    weight = dict(bottleneck.named_parameters())

    def value() -> Tensor:
        return bottleneck(features, noise)[0].square().sum()

    value().backward()
    for parameter in weight.values():
        step, place = 1e-6, (0,) * parameter.ndim
        with torch.no_grad():
            before = parameter[place].item()
            parameter[place] = before + step
            high = value()
            parameter[place] = before - step
            low = value()
            parameter[place] = before
        expected = (high - low) / (2 * step)
        torch.testing.assert_close(parameter.grad[place], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_bounds_and_samples_of_a_model_use_the_posterior(name: str) -> None:
    shape = (1, 6, 6)
    model = Autoencoder(
        EncoderMLP(shape, 6),
        BOTTLENECKS[name](),
        DecoderMLP(shape, 3, activation_last_layer="sigmoid"),
    ).eval()
    images = (torch.rand(40, *shape) > 0.5).float()
    subject = Subject(model, Images(images), formulas=("bce",))
    posterior = subject.posterior
    for capability in (CanDraw, HasDensity, HasPrior, HasSampledDivergence):
        assert isinstance(posterior, capability)
    assert isinstance(posterior, HasDivergence) == (name != "student")
    bound, tighter = elbo(subject, samples=200), iwae(subject, samples=200)
    # The error of means over 200 draws of 40 images is about 0.01 nats.
    assert tighter["iwae_elbo_nats"] == pytest.approx(bound["elbo_nats"], abs=0.1)
    assert tighter["iwae_nats"] > bound["elbo_nats"]


def test_what_a_distribution_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="latent_dims is 1"):
        FullGaussian(6, 1)
    with pytest.raises(ConfigError, match="rank is 0"):
        LowRankGaussian(6, 4, 0)
    with pytest.raises(ConfigError, match="'gauss'; possible: laplace, normal"):
        Laplace(6, 4, prior="gauss")
    with pytest.raises(ConfigError, match="variance is infinite"):
        StudentT(6, 4, degrees=2)
    with pytest.raises(ConfigError, match="'gauss'; possible: student, normal"):
        StudentT(6, 4, prior="gauss")
    for bottleneck in (Laplace(6, 4), StudentT(6, 4)):
        with pytest.raises(ShapeError, match="7 numbers per image, but 6"):
            bottleneck(torch.zeros(2, 7))


def test_numbers_far_out_stay_finite() -> None:
    noise = torch.tensor([[-8.0, 8.0, 0.0, -8.0, 8.0, 0.0]])
    for name in ("laplace", "student"):
        bottleneck = BOTTLENECKS[name]()
        far = noise[:, : bottleneck.noise_shape[0]].requires_grad_()
        latent, posterior = bottleneck(torch.randn(1, 6), far)
        (latent.sum() + posterior.sampled_kl().sum()).backward()
        assert latent.isfinite().all()
        assert all(p.grad.isfinite().all() for p in bottleneck.parameters())


@pytest.mark.parametrize("name", ["laplace", "student"])
def test_a_batch_is_compared_with_the_prior_of_its_model(name: str) -> None:
    """`mmd` is near 0 for latents of the heavy-tailed prior, and not for normal ones."""
    _, posterior = BOTTLENECKS[name]()(torch.randn(800, 6))
    values = {}
    for kind, latent in (
        ("own", posterior.draw_prior(800, torch.randn)),
        ("normal", torch.randn(800, 3)),
    ):
        output = Output(torch.zeros(800, 1, 1, 1), latent, posterior)
        values[kind] = mmd_term(output)[0].item()
    assert abs(values["own"]) < 0.3 * values["normal"]

"""Latents on the sphere and in hyperbolic space, against numbers from other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch import Tensor

from aelab.errors import ConfigError, ShapeError
from aelab.losses import make_objective
from aelab.models import VonMisesFisher, WrappedNormal
from aelab.models.directions import DirectionPosterior, sphere_angle, sphere_kl
from aelab.models.hyperbolic import HyperbolicPosterior, wrapped_normal
from aelab.posteriors import CanDraw, HasDivergence, HasPrior, HasSampledDivergence

DIMS = [2, 3, 5, 32, 128]
CONCENTRATIONS = [0.01, 1.0, 10.0, 300.0, 1e5]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def bessel_ratio(kappa: float, dims: int) -> float:
    """Mean cosine, I_{D/2}(kappa) / I_{D/2-1}(kappa), by scipy."""
    return float(special.ive(dims / 2, kappa) / special.ive(dims / 2 - 1, kappa))


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("kappa", CONCENTRATIONS)
def test_the_divergence_and_its_gradient_are_those_of_bessel_functions(
    dims: int, kappa: float
) -> None:
    order, mean = dims / 2 - 1, bessel_ratio(kappa, dims)
    log_bessel = math.log(special.ive(order, kappa)) + kappa
    log_constant = order * math.log(kappa) - dims / 2 * math.log(2 * math.pi) - log_bessel
    log_area = math.log(2) + dims / 2 * math.log(math.pi) - math.lgamma(dims / 2)
    expected = kappa * mean + log_constant + log_area
    slope = kappa * (1 - mean**2 - (dims - 1) / kappa * mean)  # kappa dA/dkappa
    concentration = torch.tensor([kappa], dtype=torch.float64, requires_grad=True)
    kl = sphere_kl(concentration, dims)
    kl.backward()
    assert kl.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert concentration.grad is not None
    # 1 - A^2 cancels for large concentrations, in the expected value
    assert concentration.grad.item() == pytest.approx(slope, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("kappa", CONCENTRATIONS)
def test_angles_and_their_gradient_on_the_ordinary_sphere_have_a_closed_form(kappa: float) -> None:
    noise = torch.linspace(-3.5, 3.5, 101, dtype=torch.float64)
    ours, theirs = (
        torch.full((101,), kappa, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    cosine = sphere_angle(noise, ours, 3).cos()
    share = torch.special.ndtr(-noise)  # large angles are small cosines
    exact = 1 + torch.log(share + (1 - share) * torch.exp(-2 * theirs)) / theirs
    torch.testing.assert_close(cosine, exact, rtol=0, atol=1e-9)
    (gradient,) = torch.autograd.grad(cosine.sum(), ours)
    (expected,) = torch.autograd.grad(exact.sum(), theirs)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize("dims", [2, 5, 32])
@pytest.mark.parametrize("kappa", [1.0, 10.0, 300.0])
def test_angles_have_the_distribution_of_a_numerical_integral(dims: int, kappa: float) -> None:
    def density(angle: float) -> float:
        return math.exp(kappa * (math.cos(angle) - 1)) * math.sin(angle) ** (dims - 2)

    options = {"points": [0.05, 0.2, 0.6], "limit": 200}
    whole = integrate.quad(density, 0, math.pi, **options)[0]
    noise = torch.tensor([-2.5, -1.0, 0.0, 1.0, 2.5], dtype=torch.float64)
    angles = sphere_angle(noise, torch.full((5,), kappa), dims)
    found = [integrate.quad(density, 0, angle, **options)[0] / whole for angle in angles.tolist()]
    np.testing.assert_allclose(found, special.ndtr(noise.numpy()), rtol=1e-6)


@torch.no_grad()
def test_latents_of_a_direction_lie_on_the_sphere_and_around_it() -> None:
    direction = torch.nn.functional.normalize(torch.randn(1, 5), dim=1).expand(10_000, 5)
    posterior = DirectionPosterior(direction, torch.full((10_000,), 7.0))
    drawn, ratio = posterior.draw(torch.randn)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(10_000))
    expected = bessel_ratio(7.0, 5) * direction[0]
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.02, rtol=0)
    # The mean of ln q - ln p over draws is the divergence, and that of p / q is 1.
    assert -ratio.mean().item() == pytest.approx(posterior.kl()[0].item(), abs=0.05)
    assert posterior.kl().shape == (10_000, 1) and ratio.dtype == torch.float64
    prior = posterior.draw_prior(10_000, torch.randn)
    assert prior.mean(0).abs().max() < 0.03 and prior.norm(dim=1).sub(1).abs().max() < 1e-5
    assert isinstance(posterior, HasDivergence) and isinstance(posterior, CanDraw)
    assert isinstance(posterior, HasPrior)


@torch.no_grad()
def test_weights_of_draws_from_a_direction_average_to_one() -> None:
    posterior = DirectionPosterior(torch.eye(3)[:1].expand(10_000, 3), torch.full((10_000,), 1.5))
    ratio = posterior.draw(torch.randn)[1]
    assert ratio.exp().mean().item() == pytest.approx(1, abs=0.04)


def test_the_gradient_of_a_mean_over_draws_is_that_of_the_exact_mean() -> None:
    kappa = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    cosine = sphere_angle(torch.randn(10_000), kappa.expand(10_000), 6).cos()
    (gradient,) = torch.autograd.grad(cosine.mean(), kappa)
    mean = bessel_ratio(4.0, 6)
    assert gradient.item() == pytest.approx(1 - mean**2 - 5 / 4.0 * mean, rel=0.04)


def test_the_sphere_bottleneck_uses_its_noise_and_without_it_the_direction() -> None:
    bottleneck = VonMisesFisher(6, 4)
    features = torch.randn(3, 6)
    mean, posterior = bottleneck(features)
    assert torch.equal(mean, posterior.direction) and (posterior.concentration > 1).all()
    assert bottleneck.noise_shape == (5,)
    latent, _ = bottleneck(features, torch.randn(3, 5))
    torch.testing.assert_close(latent.norm(dim=1), torch.ones(3))
    assert (latent - mean).abs().max() > 0.01
    (latent.square() @ torch.arange(4.0)).sum().backward()
    for parameter in bottleneck.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_sizes_that_make_no_sphere_are_refused() -> None:
    with pytest.raises(ConfigError, match="latent_dims is 1; a sphere needs at least 2"):
        VonMisesFisher(6, 1)
    with pytest.raises(ShapeError, match="gives 5 numbers per image, but 6 were declared"):
        VonMisesFisher(6, 2)(torch.randn(2, 5))
    with pytest.raises(ConfigError, match="latent_dims is 0"):
        WrappedNormal(6, 0)


def prior_log_density(ball: Tensor) -> Tensor:
    """ln of the prior's density per hyperbolic volume at a point of the ball (D,).

    By the change of variables: the map to the middle's tangent space, and its Jacobian.
    """

    def flat(point: Tensor) -> Tensor:
        length = point.norm()
        return 2 * torch.atanh(length) / length * point

    jacobian = torch.autograd.functional.jacobian(flat, ball)
    normal = -0.5 * flat(ball).square().sum() - 0.5 * len(ball) * math.log(2 * math.pi)
    return normal + torch.linalg.slogdet(jacobian)[1] - log_volume(ball)


def log_volume(ball: Tensor) -> Tensor:
    """ln of the hyperbolic volume of a unit of the ball's coordinates at a point (D,)."""
    return len(ball) * torch.log(2 / (1 - ball.square().sum()))


@pytest.mark.parametrize("dims", [1, 2, 3, 6])
def test_the_density_of_a_wrapped_normal_is_that_of_its_jacobian(dims: int) -> None:
    tangent, log_scale, noise = torch.randn(3, 4, dims, dtype=torch.float64)
    ball, log_ratio = wrapped_normal(tangent, 0.3 * log_scale, noise)
    for row in range(4):

        def of(noise: Tensor, row: int = row) -> Tensor:
            return wrapped_normal(tangent[row, None], 0.3 * log_scale[row, None], noise[None])[0][0]

        jacobian = torch.autograd.functional.jacobian(of, noise[row])
        normal = -0.5 * noise[row].square().sum() - 0.5 * dims * math.log(2 * math.pi)
        log_q = normal - torch.linalg.slogdet(jacobian)[1] - log_volume(ball[row])
        expected = log_q - prior_log_density(ball[row])
        torch.testing.assert_close(log_ratio[row], expected, rtol=1e-8, atol=1e-8)


def test_on_a_line_the_wrapped_normal_is_the_ordinary_one() -> None:
    # One hyperbolic dimension is flat, so the ratio of two Gaussian densities is exact.
    tangent, log_scale, noise = torch.randn(3, 50, 1, dtype=torch.float64)
    ball, log_ratio = wrapped_normal(tangent, log_scale, noise)
    place = tangent + log_scale.exp() * noise
    torch.testing.assert_close(ball, torch.tanh(place / 2))
    q = torch.distributions.Normal(tangent, log_scale.exp()).log_prob(place)
    p = torch.distributions.Normal(0, 1).log_prob(place)
    torch.testing.assert_close(log_ratio, (q - p)[:, 0])


def test_samples_lie_at_the_length_of_the_noise_from_the_centre() -> None:
    tangent, noise = torch.randn(2, 20, 5, dtype=torch.float64)
    log_scale = torch.full_like(tangent, -0.5)
    x, y = wrapped_normal(tangent, log_scale, noise)[0], torch.tanh(tangent.norm(dim=1) / 2)
    y = y[:, None] * torch.nn.functional.normalize(tangent, dim=1)
    apart = (x - y).square().sum(1) * 2
    apart = apart / ((1 - x.square().sum(1)) * (1 - y.square().sum(1)))
    distance = torch.acosh(1 + apart)  # of the Poincare ball
    torch.testing.assert_close(distance, math.exp(-0.5) * noise.norm(dim=1))


@torch.no_grad()
def test_weights_of_hyperbolic_draws_average_to_one() -> None:
    tangent, log_scale = torch.tensor([[0.4, -0.3]]), torch.tensor([[-0.2, 0.1]])
    count = 50_000
    filled = torch.zeros(count, 2), torch.zeros(count)
    posterior = HyperbolicPosterior(tangent.expand(count, 2), log_scale.expand(count, 2), *filled)
    drawn, ratio = posterior.draw(torch.randn)
    assert drawn.norm(dim=1).max() < 1 and ratio.dtype == torch.float64
    # The integral of the prior is 1 when it is estimated with draws of the posterior.
    assert ratio.exp().mean().item() == pytest.approx(1, abs=0.05)
    prior = posterior.draw_prior(count, torch.randn)
    far = 2 * torch.atanh(prior.norm(dim=1))
    assert far.square().mean().item() == pytest.approx(2, rel=0.03)  # chi-square of 2 dimensions


def test_the_hyperbolic_bottleneck_brings_its_term_and_finite_gradients() -> None:
    bottleneck = WrappedNormal(6, 4)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_mu.weight)
    torch.nn.init.zeros_(bottleneck.gaussian.linear_mu.bias)  # the middle, where lengths are 0
    for noise in (None, torch.randn(3, 4)):
        latent, posterior = bottleneck(torch.randn(3, 6), noise)
        (latent.sum() + posterior.sampled_kl().sum()).backward()
        for parameter in bottleneck.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()
    assert isinstance(posterior, HasSampledDivergence) and isinstance(posterior, CanDraw)
    assert make_objective(bottleneck.terms).bounds == ("sampled_kl",)
    still = bottleneck(torch.full((1, 6), 0.3))
    torch.testing.assert_close(still[0], still[1].latent)


def test_far_points_keep_finite_numbers() -> None:
    tangent = torch.tensor([[40.0, 0.0], [-200.0, 3.0]], requires_grad=True)
    ball, ratio = wrapped_normal(tangent, torch.zeros(2, 2), torch.randn(2, 2))
    (ball.sum() + ratio.sum()).backward()
    assert ball.isfinite().all() and ratio.isfinite().all()
    assert tangent.grad is not None and tangent.grad.isfinite().all()

"""Latents on a sphere: the von Mises-Fisher distribution, with the uniform one as prior.

Shape letters: B images, D numbers of a point on the sphere, G points of a quadrature.
The angle of a point from the mean direction has a density proportional to
exp(kappa cos(angle)) sin(angle)^(D-2). Its integral is a modified Bessel function (Poisson's
integral), so one quadrature gives the divergence, samples and the gradients of both.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.posteriors import Normal

#: G. The integrands are smooth; the measured errors are below 1e-9.
_POINTS = 96
#: Half of the range of integration, in standard deviations at the mode. The tail towards the far
#: side of the sphere is heavier than that of a Gaussian.
_WIDTH = 15.0


class DirectionPosterior(NamedTuple):
    """A von Mises-Fisher distribution; its prior is uniform on the sphere.

    Attributes:
        direction: (B, D), the mean direction, of length 1.
        concentration: (B,), kappa, above 0; larger values lie closer to the direction.
    """

    direction: Tensor
    concentration: Tensor

    def kl(self) -> Tensor:
        """(B, 1) nats of the whole point, see `sphere_kl`."""
        return sphere_kl(self.concentration, self.direction.shape[1])[:, None]

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        count, dims = self.direction.shape
        noise = normal((count, dims + 1))
        angle = sphere_angle(noise[:, 0], self.concentration, dims)
        log_z, _ = _moments(self.concentration.double(), dims)
        below = _cos_below_1(angle) * self.concentration.double()
        ratio = log_z - _log_uniform(dims) - below
        return _turned(self.direction.float(), noise[:, 1:], angle), ratio

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) points, uniform on the sphere."""
        return F.normalize(normal((count, self.direction.shape[1])), dim=1)


class VonMisesFisher(nn.Module):
    """A latent on the unit sphere, distributed around a direction; for the term `kl`.

    The prior is uniform on the sphere. Samples are differentiable: the angle from the direction is
    the inverse of its distribution function, found numerically, instead of rejection sampling.
    So every draw needs the same count of random numbers, and the gradient needs no correction.

    Args:
        num_features: of one image after flattening.
        latent_dims: D, numbers of a point; the sphere has D - 1 dimensions. At least 2.

    Attributes:
        linear_mu: maps features to the direction, before it is scaled to length 1.
        linear_kappa: maps features to the concentration, `softplus(.) + 1`.

    Raises:
        ConfigError: `latent_dims` below 2.
        ShapeError: in `forward`, if the features have another size.

    Source: Davidson et al. 2018, arXiv:1804.00891, equations 2 to 4 and algorithm 1 (without its
        rejection step); lower limit 1 of the concentration as in the authors' code.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"latent_dims", "linear_kappa", "linear_mu", "noise_shape"}
    )

    def __init__(self, num_features: int, latent_dims: int) -> None:
        super().__init__()
        if int(latent_dims) < 2:
            raise ConfigError(
                f"VonMisesFisher: latent_dims is {latent_dims}; a sphere needs at least 2"
            )
        self.num_features, self.latent_dims = int(num_features), int(latent_dims)
        # The first number gives the angle from the direction, the others the way to turn.
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims + 1,)
        self.linear_mu = nn.Linear(self.num_features, self.latent_dims)
        self.linear_kappa = nn.Linear(self.num_features, 1)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, DirectionPosterior]:
        """Features (B, ...), normal noise (B, D + 1) or None -> latent (B, D) of length 1.

        Without noise the latent is the mean direction.
        """
        features = features.reshape(features.shape[0], -1)  # (B, num_features)
        if features.shape[1] != self.num_features:
            raise ShapeError(
                f"VonMisesFisher: the encoder gives {features.shape[1]} numbers per image, "
                f"but {self.num_features} were declared",
                hint=f"use {features.shape[1]} as num_features",
            )
        direction = F.normalize(self.linear_mu(features).float(), dim=1)
        concentration = F.softplus(self.linear_kappa(features).float())[:, 0] + 1
        posterior = DirectionPosterior(direction, concentration)
        if noise is None:
            return direction, posterior
        angle = sphere_angle(noise[:, 0], concentration, self.latent_dims)
        return _turned(direction, noise[:, 1:], angle), posterior

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"latent_dims={self.latent_dims}"


def sphere_kl(concentration: Tensor, dims: int) -> Tensor:
    """KL divergence of a von Mises-Fisher distribution from the uniform one on the sphere.

    Args:
        concentration: (B,), kappa, above 0.
        dims: D, numbers of a point, at least 2.

    Returns:
        (B,), nats, of the dtype given; at least 0, and near 0 for small concentrations.

    Source: Davidson et al. 2018, arXiv:1804.00891, equation 3. The Bessel functions are integrals:
        Abramowitz & Stegun 1964, formula 9.6.18.
    """
    kappa = concentration.double()
    log_z, below = _moments(kappa, dims)
    kl = kappa * below - log_z + _log_uniform(dims)
    return kl.clamp(min=0).to(concentration.dtype)  # rounding may give -1e-16


def sphere_angle(noise: Tensor, concentration: Tensor, dims: int) -> Tensor:
    """A random angle from the mean direction, differentiable in the concentration.

    Args:
        noise: (B,), standard normal numbers.
        concentration: (B,), kappa, above 0.
        dims: D, numbers of a point, at least 2.

    Returns:
        (B,) float64, radians, 0..pi; increasing with `noise`.

    Source: the gradient by implicit differentiation: Figurnov et al. 2018, arXiv:1805.08498,
        equation 5.
    """
    kappa = concentration.double()
    noise = noise.double()[:, None]  # (B, 1)
    # Each angle is sought from its nearer end, so that the shares of both tails are accurate.
    near = noise < 0
    share = torch.special.ndtr(-noise.abs())  # (B, 1), up to 1/2
    with torch.no_grad():
        low, high = _range(kappa, dims)  # (B, 1)
        # A table of the distribution function tells the step of the grid, and a first guess.
        step = (high - low) / _POINTS
        edges = low + step * torch.arange(_POINTS + 1, device=low.device)  # (B, G + 1)
        density = _density(edges, kappa, dims)
        table = F.pad((density[:, 1:] + density[:, :-1]).cumsum(1), (1, 0))
        table = table / table[:, -1:]
        below = torch.special.ndtr(noise)
        place = (table[:, 1:-1] < below).sum(1, keepdim=True)  # (B, 1), 0..G-1
        floor, ceiling = table.gather(1, place), table.gather(1, place + 1)
        start = low + step * place
        angle = start + step * ((below - floor) / (ceiling - floor).clamp(min=1e-300)).clamp(0, 1)
        for _ in range(4):
            # Newton's method for ln(share) of ln(distance from the end): exact for a power, which
            # the distribution function is near its ends. The error is squared each time.
            tail, slope = _tail(angle, near, kappa, dims, low, high)
            away = torch.where(near, angle, math.pi - angle).clamp(min=1e-12)
            away = away * ((share.log() - tail.log()) * tail / (slope * away)).clamp(-3, 3).exp()
            angle = torch.where(near, away, math.pi - away)
            # The table is not exact: the true angle may lie one step further.
            angle = torch.minimum(angle, (start + 2 * step).clamp(max=high))
            angle = torch.maximum(angle, (start - step).clamp(min=low))
    tail, slope = _tail(angle, near, kappa, dims, low, high)
    # A last step, which carries the gradient: d angle / d kappa = -(dF / d kappa) / density.
    rest = (tail - share) / slope.detach()
    return torch.where(near, angle - rest, angle + rest)[:, 0].clamp(0, math.pi)


def _turned(direction: Tensor, noise: Tensor, angle: Tensor) -> Tensor:
    """Turns `direction` (B, D) by `angle` (B,) towards a random side, given by noise (B, D)."""
    aside = noise - (noise * direction).sum(1, keepdim=True) * direction
    aside = F.normalize(aside, dim=1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return cos.to(direction.dtype) * direction + sin.to(direction.dtype) * aside


def _moments(kappa: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """(B,) float64 -> ln of the integral of exp(kappa (cos - 1)) sin^(D-2), and mean of cos - 1."""
    low, high = _range(kappa.detach(), dims)
    angle, log_weight = _nodes(low, high)
    log_mass = _log_density(angle, kappa, dims) + log_weight  # (B, G)
    log_z = log_mass.logsumexp(1)
    mean = (log_mass.softmax(1) * _cos_below_1(angle)).sum(1)
    return log_z, mean


def _tail(
    angle: Tensor, near: Tensor, kappa: Tensor, dims: int, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Share of the angles below (where `near`) or above `angle`, and density there; all (B, 1)."""
    nodes, log_weight = _nodes(low, high)
    log_z = (_log_density(nodes, kappa, dims) + log_weight).logsumexp(1, keepdim=True)
    nodes, log_weight = _nodes(torch.where(near, low, angle), torch.where(near, angle, high))
    log_tail = (_log_density(nodes, kappa, dims) + log_weight).logsumexp(1, keepdim=True)
    slope = (_log_density(angle, kappa, dims) - log_z).exp().clamp(min=1e-300)
    return (log_tail - log_z).exp().clamp(min=1e-300), slope


def _density(angle: Tensor, kappa: Tensor, dims: int) -> Tensor:
    """The density at angles (B, G), divided by its largest value there."""
    log_density = _log_density(angle, kappa, dims)
    return (log_density - log_density.amax(1, keepdim=True)).exp()


def _log_density(angle: Tensor, kappa: Tensor, dims: int) -> Tensor:
    """kappa (cos(angle) - 1) + (D - 2) ln sin(angle), for angles (B, G) and kappa (B,)."""
    # xlogy: 0 ln 0 is 0, for circles. abs: sin(pi) is rounded to a number that may be below 0.
    sine: Tensor = torch.special.xlogy(float(dims - 2), angle.sin().abs())
    return kappa[:, None] * _cos_below_1(angle) + sine


def _cos_below_1(angle: Tensor) -> Tensor:
    """cos(angle) - 1 without cancellation near 0."""
    return -2 * (angle / 2).sin().square()


def _log_uniform(dims: int) -> float:
    """ln of the integral of sin^(D-2) over 0..pi: what `_moments` gives for kappa = 0."""
    return 0.5 * math.log(math.pi) + math.lgamma((dims - 1) / 2) - math.lgamma(dims / 2)


def _range(kappa: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Angles (B, 1) between which the density is not negligible, for kappa (B,)."""
    kappa = kappa.clamp(min=1e-30)
    # At the mode kappa sin^2 = (D - 2) cos, a quadratic equation of the cosine.
    root = dims - 2 + ((dims - 2) ** 2 + 4 * kappa.square()).sqrt()
    mode = torch.atan2((2 * (dims - 2) / root).sqrt(), 2 * kappa / root)
    # Minus the second derivative of the log density there: kappa cos + (D - 2) / sin^2.
    width = _WIDTH / (2 * kappa.square() / root + root / 2).sqrt()
    return (mode - width).clamp(min=0)[:, None], (mode + width).clamp(max=math.pi)[:, None]


def _nodes(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Points between low and high (B, 1), and ln of their weights, (B, G).

    Source: Fejer 1933, the first quadrature rule: an interpolating polynomial through Chebyshev
        points. Made from `arange`, so that nothing is copied to the device.
    """
    number = torch.arange(_POINTS, dtype=low.dtype, device=low.device)
    phase = math.pi * (number + 0.5) / _POINTS  # (G,)
    order = number[1 : _POINTS // 2 + 1]
    waves = (2 * phase[:, None] * order).cos() / (4 * order.square() - 1)
    weight = (1 - 2 * waves.sum(1)) / _POINTS  # (G,), positive; they sum to 1
    length = (high - low).clamp(min=1e-300)
    return low + length * (1 - phase.cos()) / 2, weight.log() + length.log()

"""Samplers of new latents: the prior, or a distribution fitted to the codes of real images.

A plain autoencoder has no prior, so the distribution of its codes must be fitted after training.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, MissingExtra, ShapeError
from aelab.ops.nearest import nearest_rows
from aelab.parts import Table


class Sampler(Protocol):
    """A distribution of latents."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) latents."""

    def log_density(self, latents: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, float64."""


class Normal:
    """A normal distribution with any covariance.

    Args:
        mean: (D,).
        factor: (D, D) lower triangle L of the covariance L L^T.
    """

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        self.mean, self.factor = mean.double(), factor.double()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) latents."""
        noise = torch.randn(count, len(self.mean), generator=generator)
        # z = mean + L noise, for rows: (count, D) @ L^T.
        return (self.mean + noise.double() @ self.factor.T).float()

    def log_density(self, latents: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, float64."""
        normal = torch.distributions.MultivariateNormal(self.mean, scale_tril=self.factor)
        density: Tensor = normal.log_prob(latents.double())  # type: ignore[no-untyped-call]
        return density


def fit_prior(latents: Tensor, generator: torch.Generator) -> Normal:
    """The standard normal distribution with as many dimensions; nothing is fitted."""
    size = latents.shape[1]
    return Normal(torch.zeros(size), torch.eye(size))


def fit_gaussian(latents: Tensor, generator: torch.Generator) -> Normal:
    """The normal distribution with mean and covariance of the codes (N, D).

    A thousandth of the mean variance is added to each variance, so that constant dimensions do not
    make the covariance singular.
    """
    values = _checked(latents).double()
    covariance = torch.cov(values.T).reshape(values.shape[1], values.shape[1])
    ridge = 1e-3 * covariance.diagonal().mean().clamp(min=1e-30)
    covariance = covariance + ridge * torch.eye(len(covariance), dtype=torch.float64)
    return Normal(values.mean(0), torch.linalg.cholesky(covariance))


class Mixture:
    """A mixture of normal distributions, as scikit-learn fitted it.

    Args:
        mixture: a `sklearn.mixture.GaussianMixture` with full covariances, fitted to
            (codes - `mean`) / `scale`.
        mean: (D,).
        scale: a number.
    """

    def __init__(self, mixture: Any, mean: Tensor, scale: float) -> None:
        self.weights = torch.from_numpy(mixture.weights_)
        factors = scale * torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
        means = mean + scale * torch.from_numpy(mixture.means_)
        # Scaled back to the codes: scikit-learn fitted the standardised ones.
        self._parts = [Normal(*part) for part in zip(means, factors, strict=True)]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) latents, in random order."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        latents = torch.empty(count, len(self._parts[0].mean))
        for index, part in enumerate(self._parts):
            here = chosen == index
            latents[here] = part.sample(int(here.sum()), generator)
        return latents

    def log_density(self, latents: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, float64."""
        parts = torch.stack([part.log_density(latents) for part in self._parts], 1)
        # ln sum_k w_k p_k(x), (N, K) -> (N,).
        density: Tensor = torch.logsumexp(parts + self.weights.log(), 1)
        return density


def fit_mixture(latents: Tensor, generator: torch.Generator, components: int = 10) -> Mixture:
    """A mixture of normal distributions with full covariances, by expectation-maximisation.

    Args:
        latents: (N, D), N at least `components`.
        generator: its seed starts the fit.
        components: number of normals; fewer if there are fewer different codes.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise MissingExtra("the sampler 'mixture'", "scikit-learn", "latents") from None
    values = _checked(latents).double()
    mean = values.mean(0)
    # Mean 0 and spread 1, so that `reg_covar` below is relative to the scale of the codes.
    scale = (values - mean).square().mean().sqrt().clamp(min=1e-12).item()
    moved = ((values - mean) / scale).float().numpy()
    mixture = GaussianMixture(
        min(components, len(set(map(bytes, moved)))),
        covariance_type="full",
        reg_covar=1e-3,
        random_state=generator.initial_seed() % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence warnings; the fit is good enough before
        fitted = mixture.fit(moved.astype("float64"))
    return Mixture(fitted, mean, scale)


class Flow(nn.Module):
    """A small normalising flow: affine couplings between halves of the standardised code.

    Args:
        mean, std: (D,) of the codes.
        layers: number of couplings; each changes half of the dimensions.
        hidden: width of their networks.

    Source: Dinh et al. 2017, arXiv:1605.08803, section 3.
    """

    mean: Tensor
    std: Tensor
    orders: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, generator: torch.Generator, layers: int, hidden: int
    ) -> None:
        super().__init__()
        size = len(mean)
        self._half = size // 2
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        # A new permutation before each coupling, so that each changes other dimensions.
        orders = [torch.randperm(size, generator=generator) for _ in range(layers)]
        self.register_buffer("orders", torch.stack(orders))
        self.couplings = nn.ModuleList(
            nn.Sequential(
                nn.Linear(max(1, self._half), hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, 2 * (size - self._half)),
            )
            for _ in range(layers)
        )
        for parameter in self.parameters():
            bound = 1 / math.sqrt(parameter.shape[-1])
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        # Zero last layers: the flow starts as the identity.
        for coupling in self.couplings:
            assert isinstance(coupling, nn.Sequential)
            nn.init.zeros_(coupling[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(coupling[-1].bias)  # type: ignore[arg-type]

    def to_noise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Maps codes (N, D) to standard normal noise (N, D); with ln |det| of the map, (N,)."""
        values = (latents - self.mean) / self.std
        determinant = -self.std.log().sum().expand(len(latents))
        for order, coupling in zip(self.orders, self.couplings, strict=True):
            values = values[:, order]
            kept, changed = values[:, : self._half], values[:, self._half :]
            scale, shift = self._scale_and_shift(coupling, kept)
            # Triangular Jacobian: its log determinant is minus the sum of the log scales.
            values = torch.cat([kept, (changed - shift) * torch.exp(-scale)], 1)
            determinant = determinant - scale.sum(1)
        return values, determinant

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) latents."""
        values = torch.randn(count, len(self.mean), generator=generator)
        steps = list(zip(self.orders, self.couplings, strict=True))
        for order, coupling in reversed(steps):
            kept, changed = values[:, : self._half], values[:, self._half :]
            scale, shift = self._scale_and_shift(coupling, kept)
            values = torch.cat([kept, changed * torch.exp(scale) + shift], 1)
            # argsort of a permutation is its inverse.
            values = values[:, torch.argsort(order)]
        return values * self.std + self.mean

    @torch.no_grad()
    def log_density(self, latents: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, float64."""
        return self._log_density(latents).double()

    def _log_density(self, latents: Tensor) -> Tensor:
        noise, determinant = self.to_noise(latents)
        normal = -0.5 * noise.square().sum(1) - 0.5 * len(self.mean) * math.log(2 * math.pi)
        return normal + determinant

    def _scale_and_shift(self, coupling: nn.Module, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Log scale within (-2, 2), and shift, for the changed half."""
        # A single dimension has no other half: its coupling gets a constant.
        raw = coupling(kept if self._half else torch.ones(len(kept), 1))
        scale, shift = raw.chunk(2, dim=1)
        # At most a factor of e^2 in each coupling, so that the flow stays invertible in float32.
        return 2 * torch.tanh(scale / 2), shift


def fit_flow(
    latents: Tensor,
    generator: torch.Generator,
    layers: int = 6,
    hidden: int = 128,
    steps: int = 1500,
) -> Flow:
    """A normalising flow fitted to codes (N, D) by maximum likelihood; ten seconds on a CPU.

    Args:
        latents: (N, D).
        generator: source of the weights and batches.
        layers, hidden: of `Flow`.
        steps: of Adam, with 256 codes each and a learning rate from 0.002 to 0 along a cosine.
    """
    values = _checked(latents)
    mean, std = values.double().mean(0), values.double().std(0)
    # A lower bound of the spread, so that constant dimensions are not divided by 0.
    least = max(1e-3 * std.max().item(), 1e-7 * mean.abs().max().item(), 1e-9)
    flow = Flow(mean.float(), std.clamp(min=least).float(), generator, layers, hidden)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.002)
    for step in range(steps):
        index = torch.randint(len(values), (min(256, len(values)),), generator=generator)
        rate = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        optimizer.param_groups[0]["lr"] = 0.002 * rate
        with torch.enable_grad():
            loss = -flow._log_density(values[index]).mean() / values.shape[1]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
    return flow.eval()


#: Every sampler by name: `fit(latents (N, D), generator, **options) -> Sampler`.
SAMPLERS: Table[Callable[..., Sampler]] = Table(
    "sampler",
    "aelab.samplers",
    {
        "prior": fit_prior,
        "gaussian": fit_gaussian,
        "mixture": fit_mixture,
        "flow": fit_flow,
    },
)


def nearest(images: Tensor, train_images: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar training image of each image, by Euclidean distance of pixels.

    Args:
        images: (N, C, H, W); clamped to 0..1.
        train_images: (M, C, H, W) in 0..1.

    Returns:
        Index (N,) and root mean squared difference (N,), in units of the images.
    """
    train = train_images.flatten(1)
    found = nearest_rows(images.clamp(0, 1).flatten(1), train)
    distance = found.distances[:, 0].float()
    return found.rows[:, 0], distance / math.sqrt(train.shape[1])


def _checked(latents: Tensor) -> Tensor:
    if latents.ndim != 2 or len(latents) < 2:
        raise ShapeError(
            f"a sampler is fitted to codes (N, D) of two images at least, not to "
            f"{tuple(latents.shape)}"
        )
    if not torch.isfinite(latents).all():
        raise ConfigError("a sampler cannot be fitted: some codes are infinite or not a number")
    return latents.detach().float()

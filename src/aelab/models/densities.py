"""Bottlenecks with other distributions than a diagonal Gaussian."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.models.bottlenecks import OnGaussian
from aelab.models.priors import sampled_kl_terms
from aelab.posteriors import (
    FullGaussianPosterior,
    LaplacePosterior,
    LaplacePriorPosterior,
    LowRankGaussianPosterior,
    StudentPosterior,
    StudentPriorPosterior,
    full_gaussian_sample,
    laplace_noise,
    low_rank_sample,
    student_noise,
)


class FullGaussian(OnGaussian):
    """A Gaussian latent whose dimensions may depend on each other: any covariance.

    The layers give the Cholesky factor L: latent = mean + L noise. L is diagonal at the start, as
    in `Gaussian`. For the term `kl`, which is exact.

    Args:
        num_features: of one image after flattening.
        latent_dims: D; the layers have `num_features * D * (D + 3) / 2` weights.

    Attributes:
        gaussian: the layers for the mean and the logarithm of L's diagonal.
        linear_below: maps features to the D (D - 1) / 2 numbers below the diagonal.

    Raises:
        ConfigError: `latent_dims` below 2.
        ShapeError: in `forward`, if the features have another size.

    Source: Kingma & Welling 2019, arXiv:1906.02691, section 2.5.1.
    """

    places: Tensor

    def __init__(self, num_features: int, latent_dims: int) -> None:
        if int(latent_dims) < 2:
            raise ConfigError(
                f"FullGaussian: latent_dims is {latent_dims}; a covariance needs at least 2",
                hint="use Gaussian for one dimension",
            )
        super().__init__(num_features, latent_dims)
        dims = self.latent_dims
        count = dims * (dims - 1) // 2
        self.linear_below = _zero_linear(self.gaussian.num_features, count)
        # Which of the numbers, followed by one 0, stands at each place of the matrix.
        row, column = torch.arange(dims)[:, None], torch.arange(dims)
        numbered = row * (row - 1) // 2 + column
        places = torch.where(column < row, numbered, torch.full_like(numbered, count))
        self.register_buffer("places", places, persistent=False)  # (D, D)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, FullGaussianPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D), and the posterior."""
        features = features.flatten(1)
        mean, (_, log_diagonal) = self.gaussian(features)
        below = F.pad(self.linear_below(features), (0, 1))[:, self.places]  # (B, D, D)
        factor = below + torch.diag_embed(log_diagonal.exp())
        latent = mean if noise is None else full_gaussian_sample(mean, factor, noise)
        return latent, FullGaussianPosterior(mean, factor, latent)


class LowRankGaussian(OnGaussian):
    """A Gaussian latent with covariance U U^T + a diagonal: R directions in which it is wider.

    U is 0 at the start, as in `Gaussian`. For the term `kl`, which is exact, but one value for the
    whole latent.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        rank: R, columns of U, at least 1; with R near D use `FullGaussian`.

    Attributes:
        gaussian: the layers for the mean and the logarithm of the diagonal's square root.
        linear_factor: maps features to U.
        noise_shape: (D + R,).

    Raises:
        ConfigError: `rank` below 1.
        ShapeError: in `forward`, if the features have another size.

    Source: Ong, Nott & Smith 2018, arXiv:1701.03208, section 3 (factor covariance).
    """

    def __init__(self, num_features: int, latent_dims: int, rank: int = 2) -> None:
        if int(rank) < 1:
            raise ConfigError(f"LowRankGaussian: rank is {rank}; possible: 1, 2..")
        super().__init__(num_features, latent_dims)
        self.rank = int(rank)
        self.noise_shape = (self.latent_dims + self.rank,)
        self.linear_factor = _zero_linear(self.gaussian.num_features, self.latent_dims * self.rank)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, LowRankGaussianPosterior]:
        """Features (B, ...), noise (B, D + R) or None -> latent (B, D), and the posterior."""
        features = features.flatten(1)
        mean, (_, log_std) = self.gaussian(features)
        factor = self.linear_factor(features).unflatten(1, (self.latent_dims, self.rank))
        latent = mean if noise is None else low_rank_sample(mean, log_std, factor, noise)
        return latent, LowRankGaussianPosterior(mean, log_std, factor, latent)


class Laplace(nn.Module):
    """A latent of independent Laplace distributions, for codes with few large numbers.

    For the term `kl`, which is exact for both priors.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        prior: `laplace` (mean 0, scale 1), or the standard `normal`.

    Attributes:
        linear_mu: maps features to the mean.
        linear_scale: maps features to the logarithm of the scale, the mean absolute deviation.

    Raises:
        ConfigError: another prior.
        ShapeError: in `forward`, if the features have another size.

    Source: the divergences: Gil, Alajaji & Linder 2013, 10.1016/j.ins.2013.06.018.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"latent_dims", "linear_mu", "linear_scale", "noise_shape"}
    )

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        prior: Literal["laplace", "normal"] = "laplace",
    ) -> None:
        super().__init__()
        if prior not in ("laplace", "normal"):
            raise ConfigError(f"Laplace: prior is {prior!r}; possible: laplace, normal")
        self.num_features, self.latent_dims = int(num_features), int(latent_dims)
        self.prior = prior
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)
        self.linear_mu = nn.Linear(self.num_features, self.latent_dims)
        self.linear_scale = nn.Linear(self.num_features, self.latent_dims)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, LaplacePosterior | LaplacePriorPosterior]:
        """Features (B, ...), normal noise (B, D) or None -> latent (B, D), and the posterior."""
        features = _flat(features, self.num_features, "Laplace")
        mean, log_scale = self.linear_mu(features), self.linear_scale(features)
        latent = mean if noise is None else mean + log_scale.exp() * laplace_noise(noise)
        kind = LaplacePriorPosterior if self.prior == "laplace" else LaplacePosterior
        return latent, kind(mean, log_scale, latent)


class StudentT(nn.Module):
    """A latent of independent Student-t distributions, whose tails are heavier than a Gaussian's.

    With the prior `normal` the term `kl` is exact. With `student`, a Student-t distribution of the
    same degrees, mean 0 and scale 1, there is no closed form: the term `sampled_kl`, which the
    bottleneck then brings, estimates it at the latent drawn.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        degrees: n, degrees of freedom, above 2; the larger, the nearer to a Gaussian.
        prior: `student` or `normal`.
        kl_loss_weight: weight of the term `sampled_kl`; 0 leaves it out.

    Attributes:
        linear_mu: maps features to the mean.
        linear_scale: maps features to the logarithm of the scale.
        noise_shape: (2 D,).

    Raises:
        ConfigError: another prior, or `degrees` not above 2.
        ShapeError: in `forward`, if the features have another size.

    Source: Kim et al. 2024, arXiv:2312.01133 (encoder and prior; there with another divergence);
        samples: Bailey 1994, 10.2307/2153537.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"latent_dims", "linear_mu", "linear_scale", "noise_shape"}
    )

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        degrees: float = 5.0,
        prior: Literal["student", "normal"] = "student",
        kl_loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if prior not in ("student", "normal"):
            raise ConfigError(f"StudentT: prior is {prior!r}; possible: student, normal")
        if not degrees > 2:
            raise ConfigError(
                f"StudentT: degrees is {degrees}; possible: above 2, for instance 5; with 2 or "
                "fewer the variance is infinite"
            )
        self.num_features, self.latent_dims = int(num_features), int(latent_dims)
        self.degrees, self.prior = float(degrees), prior
        self.noise_shape: tuple[int, ...] | None = (2 * self.latent_dims,)
        self.linear_mu = nn.Linear(self.num_features, self.latent_dims)
        self.linear_scale = nn.Linear(self.num_features, self.latent_dims)
        self.terms = sampled_kl_terms(kl_loss_weight) if prior == "student" else ()

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, StudentPosterior | StudentPriorPosterior]:
        """Features (B, ...), normal noise (B, 2 D) or None -> latent (B, D), and the posterior."""
        features = _flat(features, self.num_features, "StudentT")
        mean, log_scale = self.linear_mu(features), self.linear_scale(features)
        degrees = torch.full_like(mean[:, 0], self.degrees)  # (B,)
        latent = mean
        if noise is not None:
            latent = mean + log_scale.exp() * student_noise(noise, degrees[:, None])
        kind = StudentPriorPosterior if self.prior == "student" else StudentPosterior
        return latent, kind(mean, log_scale, degrees, latent)


def _zero_linear(num_in: int, num_out: int) -> nn.Linear:
    """A linear layer that gives 0 at the start."""
    layer = nn.Linear(num_in, num_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _flat(features: Tensor, declared: int, name: str) -> Tensor:
    """Features (B, ...) -> (B, declared)."""
    features = features.flatten(1)
    if features.shape[1] != declared:
        raise ShapeError(
            f"{name}: the encoder gives {features.shape[1]} numbers per image, "
            f"but {declared} were declared",
            hint=f"use {features.shape[1]} as num_features",
        )
    return features

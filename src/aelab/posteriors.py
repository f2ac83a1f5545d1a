"""Posteriors of bottlenecks: named tuples of tensors, with methods for what they support.

A posterior is a tuple, so that `torch.func.vmap` and `torch.utils._pytree` see its tensors. Other
code never checks its class; penalties, metrics and figures check which methods it has:

    kl()            divergence from the prior, (B, D) nats        -> `HasDivergence`
    draw(normal)    a latent, and ln p(z) - ln q(z | x)           -> `CanDraw`
    draw_prior(count, normal)    latents of its prior             -> `HasPrior`
    sampled_kl()    the same at the latent that was drawn, (B,) nats -> `HasSampledDivergence`
    levels()        divergence of each level of a hierarchy, (B, L) nats -> `HasLevels`
    log_density(latent)    ln q(z | x) of any latent, (B,) nats   -> `HasDensity`
    choices()       entries of codebooks, by the codebook's name  -> `HasChoices`

A custom bottleneck returns its own named tuple, with the methods that apply to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from aelab.errors import ShapeError

#: A shape -> standard normal numbers of that shape, where the posterior's tensors are.
Normal = Callable[[tuple[int, ...]], Tensor]


#: Numbers of one step over the images and components of a mixture, at most.
MOST_NUMBERS = 1 << 20


@runtime_checkable
class HasDivergence(Protocol):
    """A posterior with a divergence from its prior."""

    def kl(self) -> Tensor:
        """KL divergence of each latent dimension, (B, D) nats, at least 0."""


@runtime_checkable
class CanDraw(Protocol):
    """A posterior from which latents can be sampled, with their density ratio."""

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x) of it, (B,) float64 nats."""


@runtime_checkable
class HasPrior(Protocol):
    """A posterior whose prior can be sampled."""

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples of the prior, (count, D)."""


@runtime_checkable
class HasSampledDivergence(Protocol):
    """A posterior with an unbiased estimate of its divergence, at the sampled latent."""

    def sampled_kl(self) -> Tensor:
        """ln q(z | x) - ln p(z) at the output's latent, (B,) nats; single values can be below 0."""


@runtime_checkable
class HasDensity(Protocol):
    """A posterior whose density is known at every latent."""

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""


@runtime_checkable
class HasLevels(Protocol):
    """A posterior with latents on several levels."""

    def levels(self) -> Tensor:
        """KL divergence of each level from its prior given those above, (B, L) nats, top first."""


@runtime_checkable
class HasChoices(Protocol):
    """A posterior with choices from codebooks, whose sizes are in the bottleneck's `codebooks`."""

    def choices(self) -> Mapping[str, Tensor]:
        """Name of a codebook -> chosen entries, (B, n) int64; a single codebook has the name ``."""


@runtime_checkable
class HasClass(Protocol):
    """A posterior of a model that is told the class of an image, which its latent repeats."""

    def without_class(self, latent: Tensor) -> Tensor:
        """The code alone, (B, D), of latents with the class (B, D + K)."""


def code_of(latent: Tensor, posterior: object) -> Tensor:
    """What the encoder says of images: latents (B, ...) -> (B, D), without a class it was told.

    The decoder needs the whole latent; whatever counts, compares or penalises what was learned
    needs this.
    """
    code = posterior.without_class(latent) if isinstance(posterior, HasClass) else latent
    return code.flatten(1)


class Deterministic(NamedTuple):
    """A latent without a distribution: the output of the encoder of a plain autoencoder."""


class GaussianPosterior(NamedTuple):
    """A diagonal Gaussian, with the standard normal as its prior.

    Attributes:
        mean: (B, D), any real.
        log_std: (B, D), natural logarithm of the standard deviation (not of the variance).
    """

    mean: Tensor
    log_std: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `gaussian_kl_per_dim`."""
        return gaussian_kl_per_dim(self.mean, self.log_std)

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_normal(latent, self.mean, self.log_std).flatten(1).sum(1)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        return gaussian_draw(self.mean, self.log_std, normal)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean[0].numel()))


class ImportancePosterior(NamedTuple):
    """A diagonal Gaussian and the importance weights of latents drawn from it.

    Attributes:
        mean, log_std: (B, D), as in `GaussianPosterior`.
        log_weight: (B, K), ln p(image, latent) - ln q(latent | image), nats.
    """

    mean: Tensor
    log_std: Tensor
    log_weight: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `gaussian_kl_per_dim`."""
        return gaussian_kl_per_dim(self.mean, self.log_std)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        return gaussian_draw(self.mean, self.log_std, normal)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean[0].numel()))


class ClassGaussianPosterior(NamedTuple):
    """A diagonal Gaussian of an image with a known class, and the prior of that class.

    The latent is the code followed by the class: K numbers, 1 for the class and 0 for the others.

    Attributes:
        mean, log_std: (B, D), as in `GaussianPosterior`.
        prior_mean, prior_log_std: (B, D), of the prior of the image's class.
        one_hot: (B, K), the class; zeros where it is unknown.
    """

    mean: Tensor
    log_std: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor
    one_hot: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `gaussian_kl_between`."""
        return gaussian_kl_between(self.mean, self.log_std, self.prior_mean, self.prior_log_std)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D + K), and ln p(z | class) - ln q(z | x, class), (B,) float64 nats."""
        noise = normal(tuple(self.mean.shape))
        code = self.mean + self.log_std.exp() * noise
        apart = (code - self.prior_mean) * torch.exp(-self.prior_log_std)
        # The constants 0.5 ln(2 pi) of both densities cancel.
        ratio = 0.5 * (noise.double().square() - apart.double().square())
        ratio = ratio + (self.log_std - self.prior_log_std).double()
        return torch.cat([code, self.one_hot], 1), ratio.sum(1)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples (count, D + K) of the priors; classes are as frequent as in this batch."""
        uniform = torch.special.ndtr(normal((count,)))
        rows = (uniform * len(self.mean)).long().clamp(max=len(self.mean) - 1)
        code = self.prior_log_std[rows].exp() * normal((count, self.mean.shape[1]))
        return torch.cat([self.prior_mean[rows] + code, self.one_hot[rows]], 1)

    def without_class(self, latent: Tensor) -> Tensor:
        """Latents (B, D + K) without the class, (B, D)."""
        return latent[:, : self.mean.shape[1]]


class CodePosterior(NamedTuple):
    """The choices from one fixed codebook.

    Attributes:
        index: (B, n) int64, the entry chosen for each of an image's n vectors.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs

    def choices(self) -> Mapping[str, Tensor]:
        """The only codebook's choices."""
        return {"": self.index}


class LearnedCodePosterior(NamedTuple):
    """The choices from one learned codebook.

    Attributes:
        index: (B, n) int64, the entry chosen for each of an image's n vectors.
        commitment: (B,), mean squared distance of the features from the entries chosen.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    commitment: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """The only codebook's choices."""
        return {"": self.index}


class BinaryPosterior(NamedTuple):
    """The choices of a sign quantizer.

    Attributes:
        index: (B, n) int64, the entry chosen for each of an image's n vectors.
        commitment: (B,), mean squared distance of the features from the entries chosen.
        code_entropy: (B,) nats per vector, entropy of single choices minus the weighted entropy of
            the batch's choices; at least -weight * ln(codebook size).
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    commitment: Tensor
    code_entropy: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """The only codebook's choices."""
        return {"": self.index}


class CodesPosterior(NamedTuple):
    """The choices of Q codebooks for the same n vectors.

    Attributes:
        choice: (B, n, Q) int64, the entry of each codebook.
        commitment: (B,), mean over the codebooks; 0 for those without.
        code_entropy: (B,) nats, likewise.
    """

    choice: Tensor
    commitment: Tensor
    code_entropy: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """Number of a codebook, from 1 -> its choices (B, n)."""
        return {str(number + 1): row for number, row in enumerate(self.choice.unbind(2))}


class MixturePriorPosterior(NamedTuple):
    """A diagonal Gaussian, with a mixture of K Gaussians as prior.

    Attributes:
        mean, log_std: (B, D), as in `GaussianPosterior`.
        latent: (B, D), the sample; the mean without noise.
        prior_mean, prior_log_std: (B, K, D), the same for every image.
        prior_log_weight: (B, K), natural logarithms of the weights, which sum to 1.
    """

    mean: Tensor
    log_std: Tensor
    latent: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor
    prior_log_weight: Tensor

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_density(self.latent) - self._log_prior(self.latent)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        latent = self.mean + self.log_std.exp() * normal(tuple(self.mean.shape))
        return latent, (self._log_prior(latent) - self.log_density(latent)).double()

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples of the mixture, (count, D)."""
        mean, log_std = self.prior_mean[0], self.prior_log_std[0]  # (K, D)
        uniform = torch.special.ndtr(normal((count, 1)))
        ends = self.prior_log_weight[0].exp().cumsum(0)  # (K,)
        # Inverse of the cumulative weights; rounding could exceed the last one.
        chosen = (uniform > ends).sum(1).clamp(max=len(ends) - 1)
        noise = normal((count, mean.shape[1]))
        return mean[chosen] + log_std[chosen].exp() * noise

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_normal(latent, self.mean, self.log_std).sum(1)

    def _log_prior(self, latent: Tensor) -> Tensor:
        # (B, K, D) numbers of thousands of images are gigabytes: some images at a time.
        size = max(1, MOST_NUMBERS // self.prior_mean[0].numel())
        starts = range(0, max(1, len(latent)), size)
        return torch.cat([self._log_mixture(latent, slice(at, at + size)) for at in starts])

    def _log_mixture(self, latent: Tensor, rows: slice) -> Tensor:
        mean, log_std = self.prior_mean[rows], self.prior_log_std[rows]
        log_p = _log_normal(latent[rows, None], mean, log_std).sum(2)  # (B, K)
        return torch.logsumexp(log_p + self.prior_log_weight[rows], 1)


class FlowPriorPosterior(NamedTuple):
    """A diagonal Gaussian, with a learned flow as prior, which the bottleneck draws.

    Attributes:
        mean, log_std: (B, D), as in `GaussianPosterior`.
        latent: (B, D), the sample; the mean without noise.
        log_prior: (B,) nats, ln p of the latent.
    """

    mean: Tensor
    log_std: Tensor
    latent: Tensor
    log_prior: Tensor

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return _log_normal(self.latent, self.mean, self.log_std).sum(1) - self.log_prior


class FlowPosterior(NamedTuple):
    """A diagonal Gaussian transformed by invertible layers; the prior is the standard normal.

    Attributes:
        base_mean, base_log_std: (B, D), of the Gaussian before the layers. Their names differ from
            `mean` and `log_std`, because terms that ask for these mean those of the latent.
        latent: (B, D), after them.
        log_q: (B,) nats, the logarithm of its density. Where layers move a momentum besides: of
            both together, minus that of the last momentum.
    """

    base_mean: Tensor
    base_log_std: Tensor
    latent: Tensor
    log_q: Tensor

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        zero = torch.zeros_like(self.latent)
        return self.log_q - _log_normal(self.latent, zero, zero).sum(1)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.latent.shape[1]))


class FullGaussianPosterior(NamedTuple):
    """A Gaussian with any covariance L L^T, and the standard normal as its prior.

    Attributes:
        mean: (B, D), any real.
        factor: (B, D, D), L: a lower triangle with a diagonal above 0.
        latent: (B, D), the sample; the mean without noise.
    """

    mean: Tensor
    factor: Tensor
    latent: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats: the mean divergence of each dimension given the dimensions before it.

        The chain rule of the divergence, so the sum is the closed form. A dimension given those
        before it is N(m_i + sum_{j<i} L_ij e_j, L_ii^2), with standard normal e.
        """
        before = self.factor.tril(-1).square().sum(2)  # (B, D), the variance of that mean
        return gaussian_kl_per_dim(self.mean, self._log_diagonal()) + 0.5 * before

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        apart = (latent - self.mean).unsqueeze(2)  # (B, D, 1)
        noise = torch.linalg.solve_triangular(self.factor, apart, upper=False)[..., 0]
        return _log_standard(noise) - self._log_diagonal().sum(1)

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_density(self.latent) - _log_standard(self.latent)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        noise = normal(tuple(self.mean.shape))
        latent = full_gaussian_sample(self.mean, self.factor, noise)
        log_q = _log_standard(noise.double()) - self._log_diagonal().double().sum(1)
        return latent, _log_standard(latent.double()) - log_q

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean.shape[1]))

    def _log_diagonal(self) -> Tensor:
        return self.factor.diagonal(dim1=1, dim2=2).log()  # (B, D)


class LowRankGaussianPosterior(NamedTuple):
    """A Gaussian with covariance U U^T + diag(exp(log_std)^2), and the standard normal as prior.

    Attributes:
        mean: (B, D), any real.
        own_log_std: (B, D), natural logarithm of the independent part's standard deviation.
        factor: (B, D, R), U.
        latent: (B, D), the sample; the mean without noise.
    """

    mean: Tensor
    own_log_std: Tensor
    factor: Tensor
    latent: Tensor

    def kl(self) -> Tensor:
        """(B, 1) nats of the whole latent, in closed form: its dimensions depend on each other."""
        own = 2 * self.own_log_std
        # 1/2 (trace of the covariance + |mean|^2 - D - ln det), with expm1 for the trace
        parts = torch.expm1(own) - own + self.mean.square() + self.factor.square().sum(2)
        value = 0.5 * (parts.sum(1) - _log_det(self._inner()[1]))
        return value.clamp(min=0)[:, None]  # rounding may give a value slightly below 0

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats.

        Source: the inverse of the covariance: Woodbury's formula. Not by `torch.distributions`,
        which raises for numbers that are not finite.
        """
        apart = (latent - self.mean) * torch.exp(-self.own_log_std)  # (B, D)
        scaled, root = self._inner()
        along = torch.linalg.solve_triangular(
            root, scaled.transpose(1, 2) @ apart[:, :, None], upper=False
        )[..., 0]  # (B, R)
        distance = apart.square().sum(1) - along.square().sum(1)
        log_det = 2 * self.own_log_std.sum(1) + _log_det(root)
        density: Tensor = -0.5 * (distance + log_det + latent.shape[1] * math.log(2 * math.pi))
        return density

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_density(self.latent) - _log_standard(self.latent)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        dims, rank = self.factor.shape[1:]
        exact = changed(self, Tensor.double)
        noise = normal((len(self.mean), dims + rank)).double()
        latent = low_rank_sample(exact.mean, exact.own_log_std, exact.factor, noise)
        return latent.float(), _log_standard(latent) - exact.log_density(latent)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean.shape[1]))

    def _inner(self) -> tuple[Tensor, Tensor]:
        """S = diag(exp(-log_std)) U, (B, D, R), and the Cholesky factor of 1 + S^T S, (B, R, R)."""
        scaled = self.factor * (-self.own_log_std).exp()[:, :, None]
        inner = scaled.transpose(1, 2) @ scaled
        inner = inner + torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
        # Without the check of `cholesky`: numbers that are not finite give NaN.
        return scaled, torch.linalg.cholesky_ex(inner).L


class LaplacePosterior(NamedTuple):
    """Independent Laplace distributions; the prior is the standard normal.

    Attributes:
        mean: (B, D), any real.
        log_scale: (B, D), natural logarithm of the mean absolute deviation.
        latent: (B, D), the sample; the mean without noise.
    """

    mean: Tensor
    log_scale: Tensor
    latent: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `laplace_kl_from_normal`."""
        return laplace_kl_from_normal(self.mean, self.log_scale)

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_laplace(latent, self.mean, self.log_scale)

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_density(self.latent) - _log_standard(self.latent)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        latent, log_q = _laplace_draw(self.mean, self.log_scale, normal)
        return latent, _log_standard(latent.double()) - log_q

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean.shape[1]))


class LaplacePriorPosterior(NamedTuple):
    """Independent Laplace distributions; the prior is the Laplace distribution of scale 1.

    Attributes:
        mean, log_scale, latent: (B, D), as in `LaplacePosterior`.
    """

    mean: Tensor
    log_scale: Tensor
    latent: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `laplace_kl`."""
        return laplace_kl(self.mean, self.log_scale)

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_laplace(latent, self.mean, self.log_scale)

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        zero = torch.zeros_like(self.mean)
        return self.log_density(self.latent) - _log_laplace(self.latent, zero, zero)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        latent, log_q = _laplace_draw(self.mean, self.log_scale, normal)
        zero = torch.zeros_like(latent).double()
        return latent, _log_laplace(latent.double(), zero, zero) - log_q

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) latents of the Laplace prior."""
        return laplace_noise(normal((count, self.mean.shape[1])))


class StudentPosterior(NamedTuple):
    """Independent Student-t distributions; the prior is the standard normal.

    Attributes:
        mean: (B, D), any real.
        log_scale: (B, D), natural logarithm of the scale; the standard deviation is larger by the
            factor sqrt(n / (n - 2)).
        degrees: (B,), n, the degrees of freedom, above 2.
        latent: (B, D), the sample; the mean without noise.
    """

    mean: Tensor
    log_scale: Tensor
    degrees: Tensor
    latent: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, see `student_kl_from_normal`."""
        return student_kl_from_normal(self.mean, self.log_scale, self.degrees[:, None])

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_student(latent, self.mean, self.log_scale, self.degrees)

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_density(self.latent) - _log_standard(self.latent)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        latent, log_q = _student_draw(self.mean, self.log_scale, self.degrees, normal)
        return latent, _log_standard(latent.double()) - log_q

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal latents."""
        return normal((count, self.mean.shape[1]))


class StudentPriorPosterior(NamedTuple):
    """Independent Student-t distributions; the prior has the same degrees, mean 0 and scale 1.

    The divergence of two Student-t distributions has no closed form: it is estimated at the latent
    that was drawn.

    Attributes:
        mean, log_scale, degrees, latent: as in `StudentPosterior`.
    """

    mean: Tensor
    log_scale: Tensor
    degrees: Tensor
    latent: Tensor

    def log_density(self, latent: Tensor) -> Tensor:
        """ln q(latent | x): (B, D) -> (B,) nats."""
        return _log_student(latent, self.mean, self.log_scale, self.degrees)

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        zero = torch.zeros_like(self.mean)
        log_p = _log_student(self.latent, zero, zero, self.degrees)
        return self.log_density(self.latent) - log_p

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        latent, log_q = _student_draw(self.mean, self.log_scale, self.degrees, normal)
        zero = torch.zeros_like(latent).double()
        return latent, _log_student(latent.double(), zero, zero, self.degrees.double()) - log_q

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) latents of the Student-t prior."""
        noise = normal((count, 2 * self.mean.shape[1]))
        return student_noise(noise, self.degrees[:1, None])


class LevelsPosterior(NamedTuple):
    """Diagonal Gaussians on L levels, each with a Gaussian prior given the levels above.

    All values belong to the latents that were drawn, because lower levels depend on them. The
    prior of all levels together is drawn by the model.

    Attributes:
        mean, log_std: (B, D), of all levels, top first.
        prior_mean, prior_log_std: (B, D), of their priors.
        latent: (B, D), the sample; the means without noise.
        level_kl: (B, L), nats of each level.
    """

    mean: Tensor
    log_std: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor
    latent: Tensor
    level_kl: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, given the levels above; their mean over draws is the divergence."""
        return gaussian_kl_between(self.mean, self.log_std, self.prior_mean, self.prior_log_std)

    def levels(self) -> Tensor:
        """(B, L) nats."""
        return self.level_kl

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        log_q = _log_normal(self.latent, self.mean, self.log_std)
        return (log_q - _log_normal(self.latent, self.prior_mean, self.prior_log_std)).sum(1)


class TwoLevelCodePosterior(NamedTuple):
    """The choices from a learned codebook on each of two maps.

    Attributes:
        top: (B, n) int64, entries of the coarse map.
        bottom: (B, m) int64, entries of the fine map.
        commitment: (B,), sum over both of the mean squared distance from the entries.
    """

    top: Tensor
    bottom: Tensor
    commitment: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """`top` and `bottom` -> their choices."""
        return {"top": self.top, "bottom": self.bottom}


class CategoricalPosterior(NamedTuple):
    """V independent variables of K classes, with uniform priors.

    Attributes:
        log_p: (B, V, K), natural logarithm of the probabilities.
    """

    log_p: Tensor

    def kl(self) -> Tensor:
        """KL divergence of each variable, (B, V) nats: ln K minus the entropy; at least 0."""
        return categorical_kl(self.log_p)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A one-hot latent (B, V K), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        return categorical_draw(self.log_p, normal)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """One-hot latents of equally likely classes, (count, V K)."""
        return uniform_one_hot((count, *self.log_p.shape[1:]), normal)

    def choices(self) -> Mapping[str, Tensor]:
        """Number of a variable, from 1 -> its likeliest class (B, 1)."""
        likeliest = self.log_p.argmax(2)  # (B, V)
        return {str(v + 1): likeliest[:, v : v + 1] for v in range(likeliest.shape[1])}


class JointPosterior(NamedTuple):
    """A diagonal Gaussian together with categorical variables.

    Attributes:
        mean, log_std: (B, D), as in `GaussianPosterior`.
        log_p: (B, V, K), as in `CategoricalPosterior`.
    """

    mean: Tensor
    log_std: Tensor
    log_p: Tensor

    def kl(self) -> Tensor:
        """(B, D + V) nats."""
        gaussian = gaussian_kl_per_dim(self.mean, self.log_std)
        return torch.cat([gaussian, categorical_kl(self.log_p)], 1)

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D + V K), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        smooth, ratio = gaussian_draw(self.mean, self.log_std, normal)
        jumping, more = categorical_draw(self.log_p, normal)
        return torch.cat([smooth, jumping], 1), ratio + more

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples of both priors, (count, D + V K)."""
        smooth = normal((count, self.mean.shape[1]))
        return torch.cat([smooth, uniform_one_hot((count, *self.log_p.shape[1:]), normal)], 1)

    def choices(self) -> Mapping[str, Tensor]:
        """Number of a variable, from 1 -> its likeliest class (B, 1)."""
        return CategoricalPosterior(self.log_p).choices()


#: Any named tuple of tensors.
Posterior = Any

_P = TypeVar("_P")


def changed(posterior: _P, change: Callable[[Tensor], Tensor]) -> _P:
    """A posterior of the same class, with `change` applied to each tensor."""
    return type(posterior)(*map(change, posterior))  # type: ignore[call-overload]


def joined(posteriors: Iterable[_P]) -> _P:
    """Concatenates posteriors of several batches; the first axis of each tensor is the batch.

    What is the same for every image, such as a learned prior, stays one copy.
    """
    parts = list(posteriors)
    return type(parts[0])(*(_joined(column) for column in zip(*parts, strict=True)))


def _joined(tensors: tuple[Tensor, ...]) -> Tensor:
    # A stride of 0 means one row that is shown several times; that of a single row means nothing.
    if all(tensor.stride(0) == 0 or len(tensor) == 1 for tensor in tensors if tensor.ndim):
        rows = [tensor[:1] for tensor in tensors]
        if all(torch.equal(row, rows[0]) for row in rows):
            return rows[0].expand(sum(map(len, tensors)), *rows[0].shape[1:])
    return torch.cat(tensors)


def on_cpu(tensor: Tensor) -> Tensor:
    """A tensor (B, ...) on the CPU; rows that are one row shown several times stay one.

    Without gradient: a view of a parameter asks for one even where gradients are disabled, and
    what is computed from it would keep gigabytes.
    """
    tensor = tensor.detach()
    if len(tensor) > 1 and tensor.stride(0) == 0:
        return tensor[:1].cpu().expand_as(tensor)
    return tensor.cpu()


def gaussian_kl_per_dim(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_std)^2) from N(0, 1), for each latent dimension.

    Args:
        mean: (B, D), any real.
        log_std: (B, D), natural logarithm of the standard deviation (not of the variance).

    Returns:
        (B, D), nats; at least 0, and 0 exactly at mean = log_std = 0.

    Raises:
        ShapeError: if the two shapes differ.

    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    if mean.shape != log_std.shape:
        raise ShapeError(
            f"the posterior's mean is {tuple(mean.shape)}, but its spread {tuple(log_std.shape)}"
        )
    # expm1 keeps small values exact: exp(x) - 1 would lose them near log_std = 0.
    return 0.5 * (mean.square() + torch.expm1(2 * log_std) - 2 * log_std)


def gaussian_kl_between(
    mean: Tensor, log_std: Tensor, prior_mean: Tensor, prior_log_std: Tensor
) -> Tensor:
    """KL divergence of N(mean, exp(log_std)^2) from N(prior_mean, exp(prior_log_std)^2).

    Args:
        mean, log_std, prior_mean, prior_log_std: of one shape, any real.

    Returns:
        That shape, nats; at least 0.
    """
    scale = torch.exp(-prior_log_std)
    # The divergence does not change when both are shifted and scaled to a standard normal prior.
    return gaussian_kl_per_dim((mean - prior_mean) * scale, log_std - prior_log_std)


def gaussian_draw(mean: Tensor, log_std: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
    """A sample of N(mean, exp(log_std)^2), and ln p(z) - ln q(z | x) with a standard normal prior.

    Args:
        mean, log_std: (B, D) or (B, ...).
        normal: draws standard normal numbers.

    Returns:
        (B, D), and (B,) float64 nats.
    """
    mean, log_std = mean.flatten(1).float(), log_std.flatten(1).float()
    noise = normal(tuple(mean.shape))
    latent = mean + log_std.exp() * noise
    # The constants 0.5 ln(2 pi) of both densities cancel.
    ratio = 0.5 * noise.double().square() + log_std.double() - 0.5 * latent.double().square()
    return latent, ratio.sum(1)


def full_gaussian_sample(mean: Tensor, factor: Tensor, noise: Tensor) -> Tensor:
    """mean + L noise: (B, D), (B, D, D), (B, D) -> (B, D)."""
    return mean + (factor @ noise[:, :, None])[..., 0]


def low_rank_sample(mean: Tensor, log_std: Tensor, factor: Tensor, noise: Tensor) -> Tensor:
    """A sample of covariance U U^T + diag(exp(log_std)^2): noise (B, D + R) -> (B, D)."""
    dims = factor.shape[1]
    own, shared = noise[:, :dims], noise[:, dims:]
    return mean + log_std.exp() * own + (factor @ shared[:, :, None])[..., 0]


def _log_det(root: Tensor) -> Tensor:
    """ln det of a matrix by its Cholesky factor, (B, R, R) -> (B,)."""
    return 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)


def laplace_noise(noise: Tensor) -> Tensor:
    """Standard normal numbers -> numbers of the Laplace distribution of scale 1, monotonically.

    The inverse of its distribution function, by which sampling is differentiable in the scale.
    """
    # |y| = -ln(2 Phi(-|e|)); log_ndtr is accurate in the tail, where Phi rounds to 0.
    size: Tensor = -(math.log(2) + torch.special.log_ndtr(-noise.abs()))
    return torch.sign(noise) * size.clamp(min=0)


def student_noise(noise: Tensor, degrees: Tensor) -> Tensor:
    """Standard normal numbers (B, 2 D) -> Student-t numbers (B, D), differentiable in `degrees`.

    sqrt(n (u^(-2/n) - 1)) cos(2 pi v), with u and v uniform in 0..1.

    Args:
        noise: (B, 2 D): one half gives the distance from 0, the other the angle.
        degrees: n, broadcast with (B, D).

    Source: Bailey 1994, Mathematics of Computation 62, 779-781, 10.2307/2153537.
    """
    far, turn = noise.chunk(2, 1)
    # expm1 of the logarithm of a uniform number: large values keep their digits.
    squared = degrees * torch.expm1(-2 / degrees * torch.special.log_ndtr(far))
    # clamp: the square root has an infinite gradient at 0
    return squared.clamp(min=1e-12).sqrt() * torch.cos(2 * math.pi * torch.special.ndtr(turn))


def laplace_kl(mean: Tensor, log_scale: Tensor) -> Tensor:
    """KL divergence of Laplace(mean, b) from Laplace(0, 1): |mean| + b exp(-|mean| / b) - 1 - ln b.

    Args:
        mean, log_scale: of one shape; b = exp(log_scale).

    Returns:
        That shape, nats; at least 0.

    Source: Gil, Alajaji & Linder 2013, 10.1016/j.ins.2013.06.018, table 2.
    """
    size = mean.abs()
    inside = torch.exp(log_scale - size * torch.exp(-log_scale))
    return (size + inside - 1 - log_scale).clamp(min=0)  # rounding


def laplace_kl_from_normal(mean: Tensor, log_scale: Tensor) -> Tensor:
    """KL divergence of Laplace(mean, b) from N(0, 1).

    The cross entropy 1/2 ln(2 pi) + mean^2 / 2 + b^2, minus the entropy 1 + ln(2 b).

    Args:
        mean, log_scale: of one shape; b = exp(log_scale).

    Returns:
        That shape, nats; at least 1/2 ln(pi / 2) + 1/2 ln 2 - 1/2 = 0.072, at b = sqrt(1/2).
    """
    constant = 0.5 * math.log(2 * math.pi) - 1 - math.log(2)
    return 0.5 * mean.square() + (2 * log_scale).exp() - log_scale + constant


def student_kl_from_normal(mean: Tensor, log_scale: Tensor, degrees: Tensor) -> Tensor:
    """KL divergence of a Student-t distribution from N(0, 1).

    The cross entropy 1/2 ln(2 pi) + (mean^2 + scale^2 n / (n - 2)) / 2, minus the entropy
    ln scale + (n + 1) / 2 (psi((n + 1) / 2) - psi(n / 2)) + ln(sqrt(n) B(n / 2, 1 / 2)).

    Args:
        mean, log_scale: (B, D).
        degrees: n, broadcast with (B, D); above 2, where the variance is finite.

    Returns:
        (B, D), nats; above 0.

    Source: the entropy: Lazo & Rathie 1978, 10.1109/TIT.1978.1055832.
    """
    half = 0.5 * (degrees + 1)
    entropy = half * (torch.digamma(half) - torch.digamma(0.5 * degrees))
    entropy = entropy + _log_student_constant(degrees) + log_scale
    variance = (2 * log_scale).exp() * degrees / (degrees - 2)
    return 0.5 * (math.log(2 * math.pi) + mean.square() + variance) - entropy


def _laplace_draw(mean: Tensor, log_scale: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
    """A latent (B, D), and ln q of it, (B,) float64 nats."""
    noise = laplace_noise(normal(tuple(mean.shape)))
    log_q = -noise.abs().double() - log_scale.double() - math.log(2)
    return mean + log_scale.exp() * noise, log_q.sum(1)


def _log_laplace(value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """ln Laplace(value; mean, exp(log_scale)), (B, D) -> (B,)."""
    apart = (value - mean).abs() * torch.exp(-log_scale)
    return (-apart - log_scale - math.log(2)).sum(1)


def _student_draw(
    mean: Tensor, log_scale: Tensor, degrees: Tensor, normal: Normal
) -> tuple[Tensor, Tensor]:
    """A latent (B, D), and ln q of it, (B,) float64 nats."""
    count, dims = mean.shape
    noise = student_noise(normal((count, 2 * dims)), degrees[:, None])
    zero = torch.zeros_like(noise).double()
    log_q = _log_student(noise.double(), zero, zero, degrees.double())
    return mean + log_scale.exp() * noise, log_q - log_scale.double().sum(1)


def _log_student(value: Tensor, mean: Tensor, log_scale: Tensor, degrees: Tensor) -> Tensor:
    """ln of the Student-t density, values (B, D), degrees (B,) -> (B,)."""
    n = degrees[:, None]
    apart = (value - mean) * torch.exp(-log_scale)
    log_p = -0.5 * (n + 1) * torch.log1p(apart.square() / n) - log_scale
    return (log_p - _log_student_constant(n)).sum(1)


def _log_student_constant(degrees: Tensor) -> Tensor:
    """ln(sqrt(n) B(n / 2, 1 / 2)): minus the logarithm of the density at 0."""
    half = 0.5 * degrees
    beta = torch.lgamma(half) - torch.lgamma(half + 0.5) + 0.5 * math.log(math.pi)
    return 0.5 * degrees.log() + beta


def _log_standard(value: Tensor) -> Tensor:
    """ln N(value; 0, 1), (B, D) -> (B,)."""
    return (-0.5 * value.square() - 0.5 * math.log(2 * math.pi)).sum(1)


def categorical_kl(log_p: Tensor) -> Tensor:
    """KL divergence from equally likely classes: log probabilities (B, V, K) -> (B, V) nats."""
    # clamp: rounding may give a value slightly below 0
    return (math.log(log_p.shape[-1]) + (log_p.exp() * log_p).sum(-1)).clamp(min=0)


def categorical_draw(log_p: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
    """A one-hot sample (B, V K) of log probabilities (B, V, K), and ln p(z) - ln q(z | x), (B,)."""
    log_p = log_p.float()
    log_phi = torch.special.log_ndtr(normal(tuple(log_p.shape))).clamp(max=-1e-7)
    chosen = (log_p - torch.log(-log_phi)).argmax(-1, keepdim=True)  # the Gumbel-max trick
    one_hot = torch.zeros_like(log_p).scatter(-1, chosen, 1.0)
    log_q = log_p.gather(-1, chosen)[..., 0].double()  # (B, V)
    return one_hot.flatten(1), (-math.log(log_p.shape[-1]) - log_q).sum(1)


def uniform_one_hot(shape: tuple[int, ...], normal: Normal) -> Tensor:
    """One-hot samples of equally likely classes: shape (count, V, K) -> (count, V K)."""
    noise = normal(shape)
    chosen = noise.argmax(-1, keepdim=True)  # by symmetry each of K draws is equally likely largest
    return torch.zeros_like(noise).scatter(-1, chosen, 1.0).flatten(1)


def _log_normal(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """ln N(value; mean, exp(log_std)^2), elementwise."""
    apart = (value - mean) * torch.exp(-log_std)
    return -0.5 * apart.square() - log_std - 0.5 * math.log(2 * math.pi)

"""What a bottleneck knows of a latent: small named tuples of tensors, with what they can do.

A posterior is a tuple, so that `torch.func.vmap` and `torch.utils._pytree` see its tensors. Nobody
asks which kind it is; penalties, metrics and figures ask for what it can do:

    kl()            how far it is from the prior, (B, D) nats     -> `HasDivergence`
    draw(normal)    a latent, and ln p(z) - ln q(z | x)           -> `CanDraw`
    draw_prior(count, normal)    latents of its prior             -> `HasPrior`
    choices()       entries of codebooks, by the codebook's name  -> `HasChoices`

A bottleneck of one's own returns a named tuple of its own with the methods that make sense for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from aelab.errors import ShapeError

#: A shape -> standard normal numbers of that shape, where the posterior's tensors are.
Normal = Callable[[tuple[int, ...]], Tensor]


@runtime_checkable
class HasDivergence(Protocol):
    """A posterior that knows its divergence from the prior."""

    def kl(self) -> Tensor:
        """(B, D) nats for each latent dimension, at least 0."""


@runtime_checkable
class CanDraw(Protocol):
    """A posterior that latents can be drawn from, as likelihoods need them."""

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x) of it, (B,) float64 nats."""


@runtime_checkable
class HasPrior(Protocol):
    """A posterior whose prior can be drawn from."""

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) latents of the prior."""


@runtime_checkable
class HasChoices(Protocol):
    """A posterior of codebooks; how large each is says the bottleneck's `codebooks`."""

    def choices(self) -> Mapping[str, Tensor]:
        """Name of a codebook -> (B, n) int64, the entries chosen; one codebook is called ``."""


class Deterministic(NamedTuple):
    """The latent is what the encoder says: a plain autoencoder."""


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


class CodePosterior(NamedTuple):
    """The choices of one codebook that nothing is learned from.

    Attributes:
        index: (B, n) int64, the entry chosen for each of an image's n vectors.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs

    def choices(self) -> Mapping[str, Tensor]:
        """The only codebook's choices."""
        return {"": self.index}


class LearnedCodePosterior(NamedTuple):
    """The choices of one learned codebook.

    Attributes:
        index: (B, n) int64, the entry chosen for each of an image's n vectors.
        commitment: (B,), mean squared distance of the features from the entries chosen.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    commitment: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """The only codebook's choices."""
        return {"": self.index}


#: Any named tuple of tensors.
Posterior = Any

_P = TypeVar("_P")


def changed(posterior: _P, change: Callable[[Tensor], Tensor]) -> _P:
    """The same kind of posterior with `change` applied to each of its tensors."""
    return type(posterior)(*map(change, posterior))  # type: ignore[call-overload]


def joined(posteriors: Iterable[_P]) -> _P:
    """Posteriors of several batches as one; each of their tensors begins with the batch."""
    parts = list(posteriors)
    return type(parts[0])(*(torch.cat(column) for column in zip(*parts, strict=True)))


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
    return 0.5 * (mean.square() + torch.expm1(2 * log_std) - 2 * log_std)


def gaussian_draw(mean: Tensor, log_std: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
    """A latent of N(mean, exp(log_std)^2), and ln p(z) - ln q(z | x) under a standard normal prior.

    Args:
        mean, log_std: (B, D) or (B, ...).
        normal: draws standard normal numbers.

    Returns:
        (B, D), and (B,) float64 nats.
    """
    mean, log_std = mean.flatten(1).float(), log_std.flatten(1).float()
    noise = normal(tuple(mean.shape))
    latent = mean + log_std.exp() * noise
    ratio = 0.5 * noise.double().square() + log_std.double() - 0.5 * latent.double().square()
    return latent, ratio.sum(1)

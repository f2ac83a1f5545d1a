"""Formulas about the latent: KL divergences and statistics over a batch.

Everywhere `log_std` is the natural logarithm of the standard deviation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses.reconstruction import per_image
from aelab.posteriors import HasDivergence, gaussian_kl_per_dim
from aelab.types import Output


def gaussian_kl(
    mean: Tensor,
    log_std: Tensor,
    reduction: Literal["sum", "mean"] = "sum",
    free_bits_nats: float = 0.0,
) -> Tensor:
    """KL divergence of the posterior from the standard normal, summed over the latent.

    Args:
        mean: (B, D), any real.
        log_std: (B, D), natural logarithm of the standard deviation (not of the variance).
        reduction: `sum` over the latent, or `mean` over it.
        free_bits_nats: below this value (of one dimension of one image) a dimension is free: it
            counts as this value and gets no gradient. The value reported is the one with the
            floor.

    Returns:
        (B,), nats per image (per dimension for `mean`); at least D * free_bits_nats.

    Raises:
        ShapeError: if the two shapes differ.

    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B; free bits: Kingma et al. 2016,
        arXiv:1606.04934, section 2.3 (there of the batch's mean, here of each image, so that the
        value does not depend on the batch).
    """
    return _divergence(gaussian_kl_per_dim(mean, log_std), reduction, free_bits_nats)


def feature_statistics(latent: Tensor, target_std: float = 0.5) -> Tensor:
    """How far a batch of latents is from mean 0 and standard deviation `target_std`.

    |target_std - mean over dimensions of the unbiased standard deviation over the batch| plus
    |mean of all values|. Of a batch of one image only the second part.

    Args:
        latent: (B, ...), any real.
        target_std: the wished-for standard deviation.

    Returns:
        (B,), the batch's value for each image; at least 0.

    Source: the documents' `TrainAutoencoderSpecial`.
    """
    latents = latent.reshape(latent.shape[0], -1)
    if latents.shape[1] == 0:
        raise ConfigError(
            "the term feature_statistics needs a latent, and this model does not give one",
            hint="build the model as EncoderDecoder(encoder, decoder)",
        )
    value = latents.mean().abs()
    if latents.shape[0] > 1:
        value = value + (target_std - latents.std(dim=0).mean()).abs()
    return value.expand(latents.shape[0])


def kl_term(
    output: Output, reduction: Literal["sum", "mean"] = "sum", free_bits_nats: float = 0.0
) -> Tensor:
    """The posterior's own divergence from its prior, as `gaussian_kl`; (B,) nats, at least 0.

    Raises:
        ConfigError: the posterior knows no divergence.
    """
    if not isinstance(output.posterior, HasDivergence):
        raise ConfigError(
            "the term kl needs a latent with a divergence from its prior, and this model has none",
            hint="use VariationalAutoencoder, or take the term out of the objective",
        )
    return _divergence(output.posterior.kl(), reduction, free_bits_nats)


def feature_statistics_term(output: Output, target_std: float = 0.5) -> Tensor:
    """`feature_statistics` of a model's output; (B,), at least 0."""
    return feature_statistics(output.latent, target_std)


def commitment_term(output: Output) -> Tensor:
    """How far the features are from the codebook's entries that replace them; (B,), at least 0.

    The mean over an image's numbers of (feature - entry)^2; its gradient reaches the features only.

    Raises:
        ConfigError: the model's bottleneck has no such number.

    Source: van den Oord et al. 2017, arXiv:1711.00937, eq. 3, third term.
    """
    commitment: Tensor | None = getattr(output.posterior, "commitment", None)
    if commitment is None:
        raise ConfigError(
            "the term commitment needs a learned codebook, and this model has none",
            hint="use the bottleneck VQ, or take the term out of the objective",
        )
    return commitment


def iwae_bound_term(output: Output) -> Tensor:
    """Minus the importance-weighted bound on the log-likelihood, -ln 1/K sum_k w_k; (B,) nats.

    Raises:
        ConfigError: the model gives no weights.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8.
    """
    weights: Tensor | None = getattr(output.posterior, "log_weight", None)
    if weights is None:
        raise ConfigError(
            "the term iwae_bound needs importance weights, and this model gives none",
            hint="use ImportanceWeightedAutoencoder, called with noise (B, K, D): at the mean code "
            "there is no bound; or take the term out of the objective",
        )
    return math.log(weights.shape[1]) - torch.logsumexp(weights, 1)


def _divergence(kl: Tensor, reduction: Literal["sum", "mean"], free_bits_nats: float) -> Tensor:
    return per_image(kl.clamp(min=free_bits_nats) if free_bits_nats else kl, reduction)

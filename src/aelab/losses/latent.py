"""Losses of the latent: KL divergences and statistics over a batch.

In all of them `log_std` is the natural logarithm of the standard deviation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses.draws import numeric_latents
from aelab.losses.gradients import gradient_through, with_more_gradient
from aelab.losses.reconstruction import per_image
from aelab.posteriors import (
    HasDivergence,
    HasLevels,
    HasSampledDivergence,
    code_of,
    gaussian_kl_per_dim,
)
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
        free_bits_nats: lower limit of the KL of one dimension of one image. Below it the dimension
            counts as this value and gets no gradient. The returned value includes the limit.

    Returns:
        (B,), nats per image (per dimension for `mean`); at least D * free_bits_nats.

    Raises:
        ShapeError: if the two shapes differ.

    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B; free bits: Kingma et al. 2016,
        arXiv:1606.04934, section 2.3 (there for the batch's mean; here for each image, so that
        the value does not depend on the batch).
    """
    return _divergence(gaussian_kl_per_dim(mean, log_std), reduction, free_bits_nats)


def feature_statistics(latent: Tensor, target_std: float = 0.5) -> Tensor:
    """Deviation of a batch of latents from mean 0 and standard deviation `target_std`.

    |target_std - mean over dimensions of the unbiased standard deviation over the batch| plus
    |mean of all values|. For a batch of one image only the second part.

    Args:
        latent: (B, ...), any real.
        target_std: the desired standard deviation.

    Returns:
        (B,), the value of the batch, repeated for each image; at least 0.

    Source: the documents' `TrainAutoencoderSpecial`.
    """
    # (B, ...) -> (B, D)
    latents = latent.reshape(latent.shape[0], -1)
    if latents.shape[1] == 0:
        raise ConfigError(
            "the term feature_statistics needs a latent, and this model does not give one",
            hint="build the model as EncoderDecoder(encoder, decoder)",
        )
    value = latents.mean().abs()
    if latents.shape[0] > 1:
        # A deviation over the batch needs at least two images.
        value = value + (target_std - latents.std(dim=0).mean()).abs()
    # A view (B,): the mean over images is then the value itself.
    return value.expand(latents.shape[0])


def kl_term(
    output: Output,
    reduction: Literal["sum", "mean"] = "sum",
    free_bits_nats: float = 0.0,
    group_size: int = 1,
) -> Tensor:
    """The divergence of the posterior from its prior, as `gaussian_kl`; (B,) nats, at least 0.

    Args:
        output: of the model.
        reduction: over the latent.
        free_bits_nats: lower limit of a group of dimensions of one image, as in `gaussian_kl`.
        group_size: neighbouring dimensions that share one limit; must divide D.

    Raises:
        ConfigError: the posterior has no divergence, or `group_size` does not divide D.

    Source: groups: Kingma et al. 2016, arXiv:1606.04934, section 2.3.
    """
    if not isinstance(output.posterior, HasDivergence):
        raise ConfigError(
            "the term kl needs a latent with a divergence from its prior, and this model has none",
            hint="use VariationalAutoencoder, or take the term out of the objective",
        )
    # (B, D), or (B, V) with one value for each categorical variable.
    kl = output.posterior.kl()
    if group_size != 1:
        dims = kl[0].numel()
        if group_size < 1 or dims % group_size:
            raise ConfigError(
                f"the term kl: group_size is {group_size}, which does not divide the {dims} "
                "dimensions of the latent"
            )
        kl = kl.reshape(len(kl), -1, group_size).sum(2)  # (B, groups)
        if reduction == "mean":  # of the dimensions, as without groups
            return _divergence(kl, "sum", free_bits_nats) / dims
    return _divergence(kl, reduction, free_bits_nats)


def sampled_kl_term(output: Output) -> Tensor:
    """ln q(z | x) - ln p(z) at the latent that was drawn: the divergence on average over draws.

    For priors and posteriors without a closed form. Validation draws keyed noise for it.

    Returns:
        (B,) nats; at least -1000000, since a single draw may lie below 0.

    Raises:
        ConfigError: the posterior does not know it.
    """
    if not isinstance(output.posterior, HasSampledDivergence):
        raise ConfigError(
            "the term sampled_kl needs a latent whose density is known at the drawn latent",
            hint="use MixturePrior, VampPriorAutoencoder, FlowGaussian, WrappedNormal, StudentT or "
            "HamiltonianAutoencoder, or the term kl",
        )
    return output.posterior.sampled_kl()


def level_kl_term(output: Output, free_bits_nats: float = 0.0) -> Tensor:
    """The divergences of the levels of a hierarchy, added; (B,) nats, at least 0.

    Validation draws keyed noise for it, because lower levels depend on the latents above.

    Args:
        output: of the model.
        free_bits_nats: lower limit of the divergence of one level of one image. Below it the level
            counts as this value and gets no gradient, so that no level is left unused.

    Raises:
        ConfigError: the model has no levels.

    Source: Soenderby et al. 2016, arXiv:1602.02282, equation 3; free bits: Kingma et al. 2016,
        arXiv:1606.04934, section 2.3.
    """
    if not isinstance(output.posterior, HasLevels):
        raise ConfigError(
            "the term level_kl needs latents on several levels, and this model has none",
            hint="use ladder_vae or top_down_vae, or the term kl",
        )
    return _divergence(output.posterior.levels(), "sum", free_bits_nats)


def latent_l1_term(output: Output, reduction: Literal["sum", "mean"] = "mean") -> Tensor:
    """Sum or mean of |z| over the latent, which makes codes sparse; (B,), at least 0.

    Raises:
        ConfigError: the model gives no latent of numbers.

    Source: Ng 2011, CS294A lecture notes on sparse autoencoders.
    """
    return per_image(numeric_latents(output, "latent_l1").abs(), reduction)


def latent_l2_term(output: Output, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """Half of the sum or mean of z^2 over the latent; (B,), at least 0.

    Raises:
        ConfigError: the model gives no latent of numbers.

    Source: Ghosh et al. 2020, arXiv:1903.12436, equation 11 (RAE).
    """
    return 0.5 * per_image(numeric_latents(output, "latent_l2").square(), reduction)


def kl_sparse_term(output: Output, target: float = 0.05, sigmoid: bool = True) -> Tensor:
    """KL divergence between a target activity of units and their mean activity over the batch.

    sum_d r ln(r / a_d) + (1 - r) ln((1 - r) / (1 - a_d)), with a_d the mean activity of dimension d
    over the batch and r the target.

    Args:
        output: of the model.
        target: r, the share of images for which a unit should be active, above 0 and below 1.
        sigmoid: whether the activity is sigmoid(z), else z itself, which must be in 0..1.

    Returns:
        (B,) nats, the batch's value for each image; at least 0.

    Raises:
        ConfigError: the model gives no latent of numbers, or `target` makes no sense.

    Source: Ng 2011, CS294A lecture notes on sparse autoencoders.
    """
    latents = numeric_latents(output, "kl_sparse")
    if not 0 < target < 1:
        raise ConfigError(f"kl_sparse: target is {target}; it must lie between 0 and 1")
    # (B, D)
    active = latents.sigmoid() if sigmoid else latents
    share = active.mean(0).clamp(1e-6, 1 - 1e-6)  # (D,)
    value = target * (math.log(target) - share.log())
    value = value + (1 - target) * (math.log(1 - target) - torch.log1p(-share))
    return value.sum().clamp(min=0).expand(len(latents))


def feature_statistics_term(output: Output, target_std: float = 0.5) -> Tensor:
    """`feature_statistics` of a model's output; (B,), at least 0."""
    return feature_statistics(code_of(output.latent, output.posterior), target_std)


def commitment_term(output: Output) -> Tensor:
    """Squared distance of the features from their codebook entries; (B,), at least 0.

    The mean of (feature - entry)^2 over an image; its gradient reaches only the features.

    Raises:
        ConfigError: the model's bottleneck has no commitment loss.

    Source: van den Oord et al. 2017, arXiv:1711.00937, eq. 3, third term.
    """
    commitment: Tensor | None = getattr(output.posterior, "commitment", None)
    if commitment is None:
        raise ConfigError(
            "the term commitment needs a learned codebook, and this model has none",
            hint="use the bottleneck VQ, or take the term out of the objective",
        )
    return commitment


def code_entropy_term(output: Output) -> Tensor:
    """Entropy of single choices of a sign quantizer, minus the entropy of the batch's choices.

    Returns:
        (B,) nats per vector; at least -100. It is minus the logarithm of the codebook size if all
        entries are used equally and every choice is certain.

    Raises:
        ConfigError: the model's bottleneck has no such value.

    Source: Yu et al. 2023, arXiv:2310.05737, equation 5 (MAGVIT-v2).
    """
    entropy: Tensor | None = getattr(output.posterior, "code_entropy", None)
    if entropy is None:
        raise ConfigError(
            "the term code_entropy needs a quantizer of signs, and this model has none",
            hint="use the bottleneck LFQ or BSQ, or take the term out of the objective",
        )
    return entropy


def iwae_bound_term(output: Output, partial: bool = False) -> Tensor:
    """The negative importance-weighted bound on the log-likelihood, -ln 1/K sum_k w_k; (B,) nats.

    Args:
        output: of a model that gives importance weights.
        partial: the decoder learns from the bound of all latents together, which is also the value;
            the encoder from the mean over groups, whose gradient is less noisy (PIWAE).

    Raises:
        ConfigError: the model gives no weights, or `partial` without groups or in half precision.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8; groups: Rainforth et al. 2018,
        arXiv:1802.04537, equation 15 (MIWAE) and section 5 (PIWAE).
    """
    weights: Tensor | None = getattr(output.posterior, "log_weight", None)
    if weights is None:
        weights = output.details.get("log_weight")
    if weights is None:
        raise ConfigError(
            "the term iwae_bound needs importance weights, and this model gives none",
            hint="use ImportanceWeightedAutoencoder, called with noise (B, K, D): at the mean code "
            "there is no bound; or take the term out of the objective",
        )
    # weights: ln w_k, (B, K), or in groups (B, M, K)
    bound = math.log(weights.shape[-1]) - torch.logsumexp(weights, -1)
    if not partial:
        return bound if bound.ndim == 1 else bound.mean(1)
    if bound.ndim == 1:
        raise ConfigError(
            "the term iwae_bound has the option partial, but the model has one group of latents",
            hint="give the model groups=2 or more, or leave partial out",
        )
    if not hasattr(output.posterior, "log_weight"):
        raise ConfigError(
            "the term iwae_bound has the option partial, which is for a Gaussian posterior and "
            "gradient='plain' only",
            hint="leave partial out",
        )
    flat = weights.flatten(1)  # (B, M * K)
    whole = math.log(flat.shape[1]) - torch.logsumexp(flat, 1)
    # Everything that the encoder gives passes through these two.
    nodes = [output.posterior.mean, output.posterior.log_std]
    now, wanted = gradient_through(whole, nodes), gradient_through(bound.mean(1), nodes)
    if now is None or wanted is None:
        if weights.grad_fn is None:  # in validation, or checked without a model
            return whole
        raise ConfigError(
            "the term iwae_bound cannot tell encoder and decoder apart in this precision",
            hint="precision: float32, or leave partial out",
        )
    return with_more_gradient(whole, nodes, [w - n for w, n in zip(wanted, now, strict=True)])


def _divergence(kl: Tensor, reduction: Literal["sum", "mean"], free_bits_nats: float) -> Tensor:
    # `clamp` has gradient 0 below the limit, which is what free bits mean.
    return per_image(kl.clamp(min=free_bits_nats) if free_bits_nats else kl, reduction)

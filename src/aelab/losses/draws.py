"""What terms need of latents: their numbers, and draws of the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.posteriors import HasPrior, HasSampledDivergence, code_of
from aelab.types import Output


def numeric_latents(output: Output, term: str) -> Tensor:
    """The latent as (B, D) numbers, without a class that the model was told.

    Raises:
        ConfigError: it has none; the message names the term.
    """
    latents = code_of(output.latent, output.posterior)
    if latents.shape[1] == 0 or not latents.is_floating_point():
        raise ConfigError(
            f"the term {term} needs a latent of numbers, and this model does not give one",
            hint="build the model as EncoderDecoder(encoder, decoder), or variational",
        )
    return latents


def prior_draws(output: Output, latents: Tensor) -> Tensor:
    """Samples (B, D) of the posterior's prior, or of the standard normal for a plain autoencoder.

    Raises:
        ConfigError: the model has a prior that only the model itself can draw.
    """
    if isinstance(output.posterior, HasPrior):
        drawn: Tensor = output.posterior.draw_prior(
            len(latents), lambda shape: standard_normal(shape, latents)
        )
        return code_of(drawn, output.posterior)  # (B, D)
    if isinstance(output.posterior, HasSampledDivergence):
        raise ConfigError(
            "a term compares latents with draws of the prior, and a flow prior or a hierarchy can "
            "be drawn by the whole model only",
            hint="use the term sampled_kl or level_kl, or another prior: MixturePrior, Gaussian",
        )
    return standard_normal(tuple(latents.shape), latents)


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers, on the device of `like`.

    In training from the default generator, which is reseeded for each batch; otherwise the same
    numbers each time, so that two validations of one model agree.
    """
    if torch.is_grad_enabled():
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    generator = torch.Generator().manual_seed(_FIXED)
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)


#: Seed of the draws of validations.
_FIXED = 2026

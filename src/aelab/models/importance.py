"""The importance-weighted autoencoder: a variational one trained on a tighter bound."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.posteriors import ImportancePosterior
from aelab.types import Output, TermSpec


class ImportanceWeightedAutoencoder(Autoencoder):
    """Several latents an image, weighted by how well they explain it; for binary images.

    The objective is the term `iwae_bound`: minus the logarithm of the mean importance weight, in
    nats an image: at least the negative log-likelihood in expectation. One sample makes it the
    ordinary evidence bound. Validation draws K latents an image too, from keyed noise.

    Args:
        encoder: a `VariationalEncoder`.
        decoder: latent to probabilities in 0..1: give it `activation_last_layer="sigmoid"`.
        samples: latents an image, K; the decoder works K times for each group.
        groups: M; the bound is the mean of M bounds of K latents each, whose gradient for the
            encoder is less noisy (MIWAE).

    Attributes:
        noise_shape: (M * K, D).

    Raises:
        ConfigError: `encoder` has no Gaussian bottleneck, or fewer than one sample.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8; groups: Rainforth et al. 2018,
        arXiv:1802.04537, equation 15.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, samples: int = 50, groups: int = 1
    ) -> None:
        if not isinstance(encoder, VariationalEncoder) or not isinstance(
            encoder.bottleneck, Gaussian
        ):
            raise ConfigError(
                "ImportanceWeightedAutoencoder: encoder must be a VariationalEncoder, "
                f"not {type(encoder).__name__}",
                hint="write VariationalEncoder(encoder, encoder_dims, latent_dims)",
            )
        for name, count in (("samples", samples), ("groups", groups)):
            if count < 1:
                raise ConfigError(
                    f"ImportanceWeightedAutoencoder: {name} = {count}; possible: 1, 2.."
                )
        terms = (TermSpec("iwae_bound", "iwae_bound"),)
        super().__init__(encoder.encoder, encoder.bottleneck, decoder, terms)
        self.samples, self.groups = int(samples), int(groups)
        self.noise_shape = (self.groups * self.samples, encoder.bottleneck.latent_dims)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) in 0..1, and noise (B, K, D) or None.

        The reconstruction is that of the first latent. Posterior: `mean`, `log_std`, and
        `log_weight` (B, K): ln p(image, latent) - ln q(latent | image), nats. Without noise there
        is none: at the mean code ln p(image | mean) minus the KL divergence bounds nothing.
        """
        mean, posterior = self.bottleneck(self.encoder(images), None)
        log_std = posterior.log_std
        if noise is None:
            return Output(self.decoder(mean), mean, posterior)
        latent = mean[:, None] + log_std.exp()[:, None] * noise
        decoded = self.decoder(latent.flatten(0, 1))
        target = images.repeat_interleave(noise.shape[1], 0)
        likelihood = _log_bernoulli(decoded, target).view(noise.shape[:2])
        ratio = 0.5 * noise.square() + log_std[:, None] - 0.5 * latent.square()
        weight = likelihood + ratio.sum(2)
        shown = decoded.view(*noise.shape[:2], *decoded.shape[1:])[:, 0]
        if self.groups > 1:
            weight = weight.view(len(weight), self.groups, -1)
        return Output(shown, latent[:, 0], ImportancePosterior(mean, log_std, weight))


def _log_bernoulli(probability: Tensor, images: Tensor) -> Tensor:
    """ln p of each image, (B,)."""
    p = probability.clamp(1e-6, 1 - 1e-6)
    return (images * torch.log(p) + (1 - images) * torch.log1p(-p)).flatten(1).sum(1)

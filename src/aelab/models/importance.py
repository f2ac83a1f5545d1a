"""The importance-weighted autoencoder (IWAE), trained on a tighter bound than a VAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.posteriors import ImportancePosterior
from aelab.types import Output, TermSpec


class ImportanceWeightedAutoencoder(Autoencoder):
    """A variational autoencoder with several weighted latents per image (IWAE); for binary images.

    The objective is the term `iwae_bound`: the negative logarithm of the mean importance weight, in
    nats per image. In expectation it is at least the negative log-likelihood; with one sample it is
    the ordinary evidence bound. Validation also draws K latents per image, from keyed noise.

    Args:
        encoder: a `VariationalEncoder`.
        decoder: maps latents to probabilities in 0..1: use `activation_last_layer="sigmoid"`.
        samples: K, latents per image; the decoder runs K times per image and group.
        groups: M; the bound is the mean of M bounds with K latents each, which gives the encoder
            a less noisy gradient (MIWAE).

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
        """Images (B, C, H, W) in 0..1, and noise (B, K, D) or None -> `Output`.

        The reconstruction is that of the first latent. Posterior: `mean`, `log_std`, and
        `log_weight` (B, K): ln p(image, latent) - ln q(latent | image), nats. Without noise there
        are no weights, because the value at the mean code is not a bound.
        """
        mean, posterior = self.bottleneck(self.encoder(images), None)
        log_std = posterior.log_std
        if noise is None:
            return Output(self.decoder(mean), mean, posterior)
        latent = mean[:, None] + log_std.exp()[:, None] * noise  # (B, K, D)
        decoded = self.decoder(latent.flatten(0, 1))  # (B * K, C, H, W)
        target = images.repeat_interleave(noise.shape[1], 0)
        likelihood = log_bernoulli(decoded, target).view(noise.shape[:2])  # (B, K)
        # ln p(z) - ln q(z | x) of each dimension, (B, K, D); the constants 0.5 ln(2 pi) cancel.
        ratio = 0.5 * noise.square() + log_std[:, None] - 0.5 * latent.square()
        weight = likelihood + ratio.sum(2)
        shown = decoded.view(*noise.shape[:2], *decoded.shape[1:])[:, 0]
        if self.groups > 1:
            weight = weight.view(len(weight), self.groups, -1)
        return Output(shown, latent[:, 0], ImportancePosterior(mean, log_std, weight))


def log_bernoulli(probability: Tensor, images: Tensor) -> Tensor:
    """ln p(image | probability), (B,)."""
    p = probability.clamp(1e-6, 1 - 1e-6)  # sigmoids reach exactly 0 and 1 in float32
    return (images * torch.log(p) + (1 - images) * torch.log1p(-p)).flatten(1).sum(1)

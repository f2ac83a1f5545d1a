"""Gaussian latents with learned priors: a mixture, or the posteriors of learned images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.models.shapes import image_shape
from aelab.posteriors import MixturePriorPosterior
from aelab.types import Output, TermSpec


class MixturePrior(nn.Module):
    """A `Gaussian` bottleneck with a mixture of learned Gaussians as prior.

    The divergence has no closed form: the term `sampled_kl` estimates it at the drawn latent.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        components: K, at least 1.
        kl_loss_weight: weight of the term `sampled_kl`; 0 leaves it out.

    Attributes:
        prior_mean, prior_log_std: (K, D).
        prior_logits: (K,).

    Raises:
        ConfigError: no component.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, section 2 (MoG prior).
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"gaussian", "latent_dims", "noise_shape"}
    )

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        components: int = 32,
        kl_loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if components < 1:
            raise ConfigError(f"MixturePrior: components is {components}; possible: 1, 2..")
        self.gaussian = Gaussian(num_features, latent_dims)
        self.latent_dims = self.gaussian.latent_dims
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)
        # Spread as the standard normal is, so that the first step does not pull all codes to 0.
        self.prior_mean = nn.Parameter(torch.randn(components, self.latent_dims))
        self.prior_log_std = nn.Parameter(torch.zeros(components, self.latent_dims))
        self.prior_logits = nn.Parameter(torch.zeros(components))
        self.terms = sampled_kl_terms(kl_loss_weight)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, MixturePriorPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D), and posterior with prior."""
        latent, (mean, log_std) = self.gaussian(features, noise)
        posterior = with_mixture(
            mean, log_std, latent, self.prior_mean, self.prior_log_std, self.prior_logits
        )
        return latent, posterior


class VampPriorAutoencoder(Autoencoder):
    """A variational autoencoder with the mean posterior of learned pseudo-images as prior.

    Args:
        encoder: a `VariationalEncoder` with a `Gaussian` bottleneck.
        decoder: latent to images.
        shape: (C, H, W) of the images.
        components: K, number of pseudo-images.
        reconstruction_loss: name of the reconstruction; sums of nats make the total a bound.
        kl_loss_weight: weight of the term `sampled_kl`.

    Attributes:
        pseudo_images: (K, C, H, W) before the sigmoid.

    Raises:
        ConfigError: `encoder` has no Gaussian bottleneck, or there is no component.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, equation 10.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: Sequence[int],
        components: int = 100,
        reconstruction_loss: str = "bce",
        kl_loss_weight: float = 1.0,
    ) -> None:
        if not isinstance(encoder, VariationalEncoder) or not isinstance(
            encoder.bottleneck, Gaussian
        ):
            raise ConfigError(
                "VampPriorAutoencoder: encoder must be a VariationalEncoder, "
                f"not {type(encoder).__name__}",
                hint="write VariationalEncoder(encoder, encoder_dims, latent_dims)",
            )
        if components < 1:
            raise ConfigError(f"VampPriorAutoencoder: components is {components}; possible: 1, 2..")
        terms = (
            TermSpec(reconstruction_loss, reconstruction_loss, 1.0, {"reduction": "sum"}),
            *sampled_kl_terms(kl_loss_weight),
        )
        super().__init__(encoder.encoder, encoder.bottleneck, decoder, terms)
        # Grey pictures that differ a little, so that the encoder distinguishes them from the start.
        size = (int(components), *image_shape(shape, "VampPriorAutoencoder"))
        self.pseudo_images = nn.Parameter(0.5 * torch.randn(size))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) in 0..1, noise (B, D) or None -> images, latent, posterior with prior."""
        latent, (mean, log_std) = self.bottleneck(self.encoder(images), noise)
        # The sigmoid keeps the learned images in 0..1, the range of the encoder's inputs.
        pseudo = self.pseudo_images.sigmoid()
        _, (prior_mean, prior_log_std) = self.bottleneck(self.encoder(pseudo), None)
        # Equal weights 1 / K, as in the paper.
        logits = prior_mean.new_zeros(len(prior_mean))
        posterior = with_mixture(mean, log_std, latent, prior_mean, prior_log_std, logits)
        return Output(self.decoder(latent), latent, posterior)


def with_mixture(
    mean: Tensor,
    log_std: Tensor,
    latent: Tensor,
    prior_mean: Tensor,
    prior_log_std: Tensor,
    prior_logits: Tensor,
) -> MixturePriorPosterior:
    """The posterior (B, D) with a prior of K components, which is the same for every image."""
    count = mean.shape[0]
    return MixturePriorPosterior(
        mean,
        log_std,
        latent,
        prior_mean.expand(count, *prior_mean.shape),  # views: no memory for B copies
        prior_log_std.expand(count, *prior_log_std.shape),
        prior_logits.log_softmax(0).expand(count, -1),
    )


def sampled_kl_terms(weight: float) -> tuple[TermSpec, ...]:
    """The term `sampled_kl` with a weight; no term for weight 0."""
    return (TermSpec("sampled_kl", "sampled_kl", float(weight)),) if weight else ()

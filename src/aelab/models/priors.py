"""Gaussian latents with learned priors: a mixture, a flow, or the posteriors of learned images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, OnGaussian, VariationalEncoder
from aelab.models.shapes import image_shape
from aelab.models.splines import SplineCoupling
from aelab.posteriors import FlowPriorPosterior, MixturePriorPosterior, Normal
from aelab.types import Output, TermSpec


class MixturePrior(OnGaussian):
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

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        components: int = 32,
        kl_loss_weight: float = 1.0,
    ) -> None:
        if components < 1:
            raise ConfigError(f"MixturePrior: components is {components}; possible: 1, 2..")
        super().__init__(num_features, latent_dims)
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


class FlowPrior(OnGaussian):
    """A `Gaussian` bottleneck with a learned flow as prior: an invertible map to a normal.

    The divergence has no closed form: the term `sampled_kl` estimates it at the drawn latent. The
    prior is the standard normal at the start.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        layers: couplings of monotone splines, at least 1; the dimensions are reversed before every
            second one.
        hidden: width of their networks.
        kl_loss_weight: weight of the term `sampled_kl`; 0 leaves it out.

    Raises:
        ConfigError: no layer.

    Source: Chen et al. 2017, arXiv:1611.02731, section 3.2 (flow prior, there autoregressive);
        splines: Durkan et al. 2019, arXiv:1906.04032.
    """

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        layers: int = 4,
        hidden: int = 64,
        kl_loss_weight: float = 1.0,
    ) -> None:
        if layers < 1:
            raise ConfigError(f"FlowPrior: layers is {layers}; possible: 1, 2..")
        super().__init__(num_features, latent_dims)
        self.flow = nn.ModuleList(SplineCoupling(self.latent_dims, hidden) for _ in range(layers))
        self.terms = sampled_kl_terms(kl_loss_weight)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, FlowPriorPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D), and posterior with prior."""
        latent, (mean, log_std) = self.gaussian(features, noise)
        made, log_prior = latent, torch.zeros_like(latent[:, 0])
        for number, layer in enumerate(self.flow):
            made, log_det = layer(made.flip(1) if number % 2 else made)
            log_prior = log_prior + log_det
        log_prior = log_prior - 0.5 * (made.square() + math.log(2 * math.pi)).sum(1)
        return latent, FlowPriorPosterior(mean, log_std, latent, log_prior)

    @torch.no_grad()
    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples of the prior, (count, D): the inverse flow of normal numbers."""
        made = normal((count, self.latent_dims)).to(self.gaussian.linear_mu.weight)
        for number, layer in reversed(list(enumerate(self.flow))):
            made, _ = layer(made, inverse=True)
            made = made.flip(1) if number % 2 else made
        return made


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

    #: The pseudo-images are encoded once a batch, so their cost does not grow with it.
    works_once_a_batch = True

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

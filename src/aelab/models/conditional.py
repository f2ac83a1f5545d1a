"""A variational autoencoder that knows the class of each image (CVAE)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder, variational_terms
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.models.shapes import image_shape
from aelab.posteriors import ClassGaussianPosterior
from aelab.types import Output


class ConditionalAutoencoder(Autoencoder):
    """A variational autoencoder whose encoder, decoder and prior know the class of an image.

    The code need not hold what the class says already. The class enters three times:

    - encoder: a learned picture of the class is added to the image. For a linear first layer this
      equals appending the class to its input;
    - decoder: its input is the code followed by K numbers, 1 for the class and 0 for the others.
      They are part of the latent, so walks and sliders can change the class;
    - prior: with `class_prior` a learned normal distribution for each class.

    Without a class all K numbers are 0, no picture is added, and the prior is the standard normal.

    Args:
        encoder: a `VariationalEncoder` with a `Gaussian` bottleneck of D dimensions.
        decoder: maps D + K numbers to images.
        shape: (C, H, W) of the images.
        classes: K, at least 2; the number of classes of the data sets.
        class_prior: whether each class has its own prior; else the standard normal.
        label_dropping: share of training images whose class is hidden, 0 to below 1. With more
            than 0 the model can also be used without classes.
        reconstruction_loss: name or function known to `losses`; with sums of nats the total is a
            bound on the log-likelihood of an image given its class.
        kl_loss_weight: weight of the term `kl`.

    Attributes:
        label_classes: K; by it training passes labels to the model.
        needs_labels: whether images without a class cannot be used.
        noise_shape: (D,), or (D + 1,) with `label_dropping`.

    Raises:
        ConfigError: no Gaussian bottleneck, fewer than two classes, or another `label_dropping`.

    Source: Sohn et al. 2015, "Learning structured output representation using deep conditional
        generative models", equation 4; dropping: Ho & Salimans 2022, arXiv:2207.12598, algorithm 1.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {"label_classes"}

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: Sequence[int],
        classes: int,
        class_prior: bool = False,
        label_dropping: float = 0.0,
        reconstruction_loss: str | Callable[[Tensor, Tensor], Tensor] = "bce",
        kl_loss_weight: float = 1.0,
    ) -> None:
        if not isinstance(encoder, VariationalEncoder) or not isinstance(
            encoder.bottleneck, Gaussian
        ):
            raise ConfigError(
                "ConditionalAutoencoder: encoder must be a VariationalEncoder, "
                f"not {type(encoder).__name__}",
                hint="write VariationalEncoder(encoder, encoder_dims, latent_dims)",
            )
        if classes < 2:
            raise ConfigError(f"ConditionalAutoencoder: classes is {classes}; possible: 2, 3..")
        if not 0 <= label_dropping < 1:
            raise ConfigError(
                f"ConditionalAutoencoder: label_dropping is {label_dropping}; possible: 0 to "
                "below 1, usually 0.1"
            )
        terms = variational_terms(reconstruction_loss, 1.0, kl_loss_weight, None)
        super().__init__(encoder.encoder, encoder.bottleneck, decoder, terms)
        self.label_classes = int(classes)
        self.label_dropping = float(label_dropping)
        self.latent_dims = encoder.bottleneck.latent_dims
        self.noise_shape = (self.latent_dims + (self.label_dropping > 0),)
        # Zeros: at the start the class has no effect on the encoder and the prior.
        self.class_images = nn.Parameter(torch.zeros(classes, *image_shape(shape, "shape")))
        self.class_prior = bool(class_prior)
        if class_prior:
            self.prior_mean = nn.Parameter(torch.zeros(classes, self.latent_dims))
            self.prior_log_std = nn.Parameter(torch.zeros(classes, self.latent_dims))

    @property
    def needs_labels(self) -> bool:
        """Whether images without a class cannot be used: no class was hidden in training."""
        return not self.label_dropping

    def forward(
        self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None
    ) -> Output:
        """Images (B, C, H, W), noise or None, labels (B,) or None -> `Output`.

        The latent is (B, D + K). Labels below 0 are unknown. In training the last number of the
        noise decides which labels are hidden.
        """
        one_hot = self._one_hot(images, labels)
        if self.training and self.label_dropping and noise is not None:
            # The share of a standard normal below its own value is uniform in 0..1.
            kept = torch.special.ndtr(noise[:, -1:]) >= self.label_dropping
            one_hot = one_hot * kept
        posterior = self._posterior(images, one_hot)
        code = posterior.mean
        if noise is not None:
            code = code + posterior.log_std.exp() * noise[:, : self.latent_dims]
        latent = torch.cat([code, one_hot], 1)  # (B, D + K)
        return Output(self.decoder(latent), latent, posterior)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean codes of images with their classes, (B, D + K)."""
        one_hot = self._one_hot(images, labels)
        return torch.cat([self._posterior(images, one_hot).mean, one_hot], 1)

    def with_label(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (B, D + K) with other classes (B,)."""
        return torch.cat([latents[:, : self.latent_dims], self._one_hot(latents, labels)], 1)

    def _one_hot(self, given: Tensor, labels: Tensor | None) -> Tensor:
        """(B, K): 1 for the class of each image; zeros where it is unknown."""
        if labels is None:
            return given.new_zeros(given.shape[0], self.label_classes)
        known = F.one_hot(labels.clamp(min=0), self.label_classes).to(given.dtype)
        return known * (labels >= 0)[:, None]

    def _posterior(self, images: Tensor, one_hot: Tensor) -> ClassGaussianPosterior:
        # (B, K) x (K, C, H, W): a row of zeros adds nothing.
        shown = images + torch.einsum("bk,kchw->bchw", one_hot, self.class_images)
        mean, (_, log_std) = self.bottleneck(self.encoder(shown), None)
        if not self.class_prior:
            zeros = torch.zeros_like(mean)
            return ClassGaussianPosterior(mean, log_std, zeros, zeros, one_hot)
        prior = one_hot @ self.prior_mean, one_hot @ self.prior_log_std
        return ClassGaussianPosterior(mean, log_std, *prior, one_hot)

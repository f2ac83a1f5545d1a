"""An autoencoder whose decoder gives a distribution of 256 levels for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, GaussianMap
from aelab.models.shapes import image_shape
from aelab.ops.logistic_mixture import mixture_log_likelihood, mixture_mean
from aelab.types import Output, TermSpec


class LogisticMixtureAutoencoder(Autoencoder):
    """An autoencoder whose pixels follow mixtures of discretised logistic distributions.

    Its term `logistic_mixture` is a likelihood of 8-bit images, so that bounds are in nats and bits
    of images that anybody may compare. Reproductions are the means of the mixtures.

    Args:
        encoder, bottleneck: as of `Autoencoder`; a Gaussian bottleneck adds the term `kl` with
            weight 1, the evidence bound.
        decoder: maps the latent to (B, K P, H, W) without a last activation: K components with
            P = 3 numbers for images of one channel, and 10 for three.
        shape: (C, H, W) of the images.

    Raises:
        ShapeError: called with a decoder of other sizes; the message says which.

    Source: Salimans et al. 2017, arXiv:1701.05517, sections 2.1 and 2.2 (PixelCNN++).
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {"mixture"}

    def __init__(
        self, encoder: nn.Module, bottleneck: nn.Module, decoder: nn.Module, shape: Sequence[int]
    ) -> None:
        terms = [TermSpec("logistic_mixture", "logistic_mixture")]
        if isinstance(bottleneck, Gaussian | GaussianMap):
            terms.append(TermSpec("kl", "kl"))
        super().__init__(encoder, bottleneck, decoder, terms)
        self.shape = image_shape(shape, "LogisticMixtureAutoencoder")

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1 -> the means of their mixtures, and these as `mixture`."""
        latent, posterior = self.bottleneck(self.encoder(images), noise)
        parameters = self.mixture(latent)
        mean = mixture_mean(parameters.detach(), self.shape[0])
        return Output(mean, latent, posterior, {"mixture": parameters})

    def mixture(self, latent: Tensor) -> Tensor:
        """The parameters of the mixtures, (B, K P, H, W)."""
        parameters: Tensor = self.decoder(latent)
        return parameters

    def decode(self, latent: Tensor) -> Tensor:
        """The means of the mixtures, (B, C, H, W) in 0..1."""
        return mixture_mean(self.mixture(latent), self.shape[0])

    def log_likelihood(self, latent: Tensor, images: Tensor) -> Tensor:
        """ln p(image | latent), (B,) nats, of images (B, C, H, W) of 256 levels in 0..1."""
        return mixture_log_likelihood(self.mixture(latent), images)

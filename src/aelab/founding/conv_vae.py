"""`ConvVAE` of document 004: three strided convolutions, a Gaussian latent, and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.autoencoders import Autoencoder, variational_terms
from aelab.models.bottlenecks import Gaussian
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.shapes import shape_words
from aelab.types import Output

#: Sizes that three halvings reduce to 4, for which the document's linear layers are made.
DOCUMENT_SIZES = range(25, 33)
#: Width of the linear layers between features and latent.
HIDDEN = 256


class ConvVAE(Autoencoder):
    """The variational autoencoder of document 004.

    Three convolutions (kernel 3, stride 2, padding 1) with ReLU, a linear layer of 256, the mean
    and the logarithm of the variance; back through linear layers of 256 and of the feature map and
    three transposed convolutions to a sigmoid. Its objective is

        bce (mean over pixels) + kld_weight * KL (sum over the latent, nats)

    so that the beta of a bound per image is `kld_weight * C * H * W`: 0.005 is 5.1 at 32 pixels.

    The document's network always outputs 32x32 pixels, so images must be 32x32.

    Args:
        in_ch: channels of the images.
        d_size: channels of the first convolution; the second has twice, the third four times it.
        latent_dim: D.
        input_size: 25 to 32; all of them make 4x4 features and the same network, as in the
            document.
        image_size: height and width of the images, or one number for both, if they are not 32x32
            (not in the document). The network then outputs this size.
        out_ch: channels of the output; the document's decoder always has 1.
        kld_weight: the document's KLD_WEIGHT.

    Raises:
        ShapeError: `input_size` is not one of the document's; in `forward`, if the images have
            another shape than the network's output.

    Source: founding document 004; KL: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {
        "latent_dim",
        "output_shape",
        "reparameterize",
        "sample_z",
    }

    def __init__(
        self,
        in_ch: int = 3,
        d_size: int = 32,
        latent_dim: int = 256,
        input_size: int = 28,
        image_size: int | Sequence[int] | None = None,
        out_ch: int = 1,
        kld_weight: float = 1.0,
    ) -> None:
        sides = _sides(input_size, image_size)
        halved = [_halvings(side) for side in sides]
        encoded_shape = (4 * d_size, halved[0][3], halved[1][3])
        num_features = math.prod(encoded_shape)
        super().__init__(
            encoder(in_ch, d_size, num_features),
            Gaussian(HIDDEN, latent_dim, log_variance=True),
            decoder(latent_dim, encoded_shape, halved, out_ch),
            variational_terms("bce", 1.0, kld_weight, "gaussian"),
        )
        self.latent_dim = int(latent_dim)
        self.output_shape = (int(out_ch), *sides)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) in 0..1, and noise (B, D) or None -> images, latent and posterior."""
        if tuple(images.shape[1:]) != self.output_shape:
            raise ShapeError(
                f"ConvVAE: outputs images of {shape_words(self.output_shape)}, "
                f"but was given {shape_words(images.shape[1:])}",
                hint=self._advice(*images.shape[1:]),
            )
        return super().forward(images, noise)

    def reparameterize(self, mu: Tensor, logvar: Tensor, noise: Tensor | None = None) -> Tensor:
        """A draw from the posterior: mu + exp(logvar / 2) * noise.

        Args:
            mu: (B, D), mean.
            logvar: (B, D), natural logarithm of the variance, `2 * posterior.log_std`.
            noise: (B, D), standard normal; None draws it from torch's default generator.

        Returns:
            (B, D).
        """
        noise = torch.randn_like(mu) if noise is None else noise
        return mu + torch.exp(0.5 * logvar) * noise

    def sample_z(self, mu: Tensor, logvar: Tensor, eps: Tensor | None = None) -> Tensor:
        """The same as `reparameterize`, with the document's name for the noise."""
        return self.reparameterize(mu, logvar, eps)

    def _advice(self, channels: int, height: int, width: int) -> str:
        if channels != self.output_shape[0]:
            return f"build it with in_ch={channels}, out_ch={channels}, or make the images grey"
        size = height if height == width else (height, width)
        target = shape_words(self.output_shape[1:])
        return (
            f"resize the images to {target}, shape={self.output_shape}, as document 004 does; "
            f"or build it with image_size={size}, which the document does not have"
        )


def encoder(in_ch: int, d_size: int, num_features: int) -> nn.Sequential:
    """(B, in_ch, H, W) -> (B, 256)."""
    layers: list[nn.Module] = []
    for before, after in ((in_ch, d_size), (d_size, 2 * d_size), (2 * d_size, 4 * d_size)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, FlattenPixels(), nn.Linear(num_features, HIDDEN), nn.ReLU())


def decoder(
    latent_dim: int,
    encoded_shape: tuple[int, int, int],
    halved: Sequence[Sequence[int]],
    out_ch: int,
) -> nn.Sequential:
    """(B, D) -> (B, out_ch, H, W) in 0..1; `halved`: heights and widths of all maps."""
    layers: list[nn.Module] = [nn.Linear(latent_dim, HIDDEN), nn.ReLU()]
    layers += [nn.Linear(HIDDEN, math.prod(encoded_shape)), nn.ReLU()]
    layers.append(UnflattenPixels(encoded_shape))
    deepest = encoded_shape[0]
    channels = (deepest, deepest // 2, deepest // 4, out_ch)
    for index in range(3):
        # A map of size n grows to 2n - 1, or with one pixel of output padding to 2n.
        height, width = ((side[2 - index] + 1) % 2 for side in halved)
        before, after = channels[index : index + 2]
        layers.append(
            nn.ConvTranspose2d(
                before, after, 3, stride=2, padding=1, output_padding=(height, width)
            )
        )
        layers.append(nn.ReLU() if index < 2 else nn.Sigmoid())
    return nn.Sequential(*layers)


def _sides(input_size: int, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Height and width of the output."""
    if image_size is None:
        if input_size not in DOCUMENT_SIZES:
            raise ShapeError(
                f"ConvVAE: input_size is 25 to 32 in document 004 (4x4 features), not {input_size}",
                hint=f"write image_size={input_size} for a network of that size",
            )
        return 32, 32
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ShapeError(
            f"ConvVAE: image_size is a number or (height, width) from 1 up, not {image_size!r}"
        )
    return int(sides[0]), int(sides[1])


def _halvings(side: int) -> tuple[int, int, int, int]:
    """The side of the image and of the maps after one, two and three convolutions."""
    first = (side + 1) // 2
    second = (first + 1) // 2
    return side, first, second, (second + 1) // 2

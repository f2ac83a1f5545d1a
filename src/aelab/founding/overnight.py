"""`VariationalAutoencoderConv`: the model that the documents' author trained for ten hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from aelab.models.autoencoders import Autoencoder, variational_terms
from aelab.models.blocks import Conv2dBlock
from aelab.models.bottlenecks import Gaussian
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.shapes import image_shape


class VariationalAutoencoderConv(Autoencoder):
    """Convolutions to a Gaussian code, and back: the model of the documents' overnight runs.

    Args:
        shape: (C, H, W) of the images.
        latent_dims: D.
        kernel_size: one integer, or one for each layer.
        channels: output channels of each convolution.
        encoder_dims: width of a linear layer between convolutions and code; None for no such layer.
        dropout: dropout probability before the code, 0..1; the documents' runs had 0.5.
        act_last_layer: ReLU after the last layer, so that the output is at least 0, as in the
            documents' runs; False leaves it unbounded.
        reconstruction_loss, reconstruction_loss_weight, kl_loss_weight, kl: as in
            `VariationalAutoencoder`.

    Raises:
        ShapeError: the images are too small for the convolutions.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dims: int,
        kernel_size: int | Sequence[int] = 15,
        channels: Sequence[int] = (16, 32),
        encoder_dims: int | None = None,
        dropout: float = 0.5,
        act_last_layer: bool = True,
        reconstruction_loss: str | Callable[[Tensor, Tensor], Tensor] = "l2",
        reconstruction_loss_weight: float = 1.0,
        kl_loss_weight: float = 1.0,
        kl: str | None = None,
    ) -> None:
        shape = image_shape(shape, "VariationalAutoencoderConv")
        convolution = Conv2dBlock((shape[0], *channels), kernel_size, act_fn=nn.ReLU)
        encoded_shape = convolution.get_output_shape(shape)
        num_features = math.prod(encoded_shape)
        encoder: list[nn.Module] = [convolution, FlattenPixels(), nn.Dropout(dropout)]
        if encoder_dims is not None:
            encoder.append(nn.Linear(num_features, encoder_dims))
        decoder = nn.Sequential(
            nn.Linear(latent_dims, num_features),
            UnflattenPixels(encoded_shape),
            convolution.create_transposed(act_last_layer=act_last_layer),
        )
        terms = variational_terms(
            reconstruction_loss, reconstruction_loss_weight, kl_loss_weight, kl
        )
        bottleneck = Gaussian(num_features if encoder_dims is None else encoder_dims, latent_dims)
        super().__init__(nn.Sequential(*encoder), bottleneck, decoder, terms)

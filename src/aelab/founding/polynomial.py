"""Layers that are polynomials of each input, and the autoencoders of old files made of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import chain, per_layer
from aelab.models.activations import Activation, make_activation
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.reshaping import Reshape
from aelab.models.shapes import image_shape


class KAELayer(nn.Module):
    """A linear layer of the powers 0 to `order` of each input: y = sum over p of C_p x^p, + bias.

    With order 1 it is a linear layer with two biases. Costs `order` + 1 times a linear layer.

    Args:
        input_dim, out_dim: I and O, numbers of values.
        order: the highest power, at least 1.
        bias: whether O values are added.
        activation: after the sum.

    Source: Yu et al. 2024, "KAE: Kolmogorov-Arnold autoencoder for representation learning".
    """

    def __init__(
        self,
        input_dim: int,
        out_dim: int,
        order: int,
        bias: bool = True,
        activation: Activation = None,
    ) -> None:
        super().__init__()
        if order < 1:
            raise ConfigError(f"KAELayer: order is a whole number from 1 up, got {order}")
        self.coeffs = nn.Parameter(torch.randn(out_dim, input_dim, order + 1) * 0.01)
        self.bias = nn.Parameter(torch.zeros(1, out_dim)) if bias else None
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        powers = [torch.ones_like(x)]
        for _ in range(self.coeffs.shape[2] - 1):
            powers.append(powers[-1] * x)
        # (..., I, P) and (O, I, P), as one matrix product.
        y = F.linear(torch.stack(powers, -1).flatten(-2), self.coeffs.flatten(1))
        y = y if self.bias is None else y + self.bias[0]
        return y if self.act is None else self.act(y)

    def extra_repr(self) -> str:
        """The sizes, for `print(model)`."""
        out_dim, input_dim, powers = self.coeffs.shape
        return f"{input_dim}, {out_dim}, order={powers - 1}, bias={self.bias is not None}"


def MLPAE(
    shape: Sequence[int], channels: Sequence[int], activation: Activation = None
) -> EncoderDecoder:
    """A plain autoencoder of linear layers, each followed by the activation, also the last ones.

    Args:
        shape: (C, H, W).
        channels: numbers of values after each layer of the encoder; the last is the latent.
        activation: after every layer; that of the output limits the images, too.
    """
    widths = [math.prod(image_shape(shape, "MLPAE")), *channels]
    encoder: list[nn.Module | None] = [nn.Flatten(1)]
    decoder: list[nn.Module | None] = [Reshape(shape)]
    for before, after in itertools.pairwise(widths):
        encoder += [nn.Linear(before, after), make_activation(activation)]
        decoder += [make_activation(activation), nn.Linear(after, before)]
    return EncoderDecoder(chain(encoder), chain(decoder[::-1]))


def KANPolyAE(
    shape: Sequence[int],
    channels: Sequence[int],
    order: int | Sequence[int],
    encoder_activation: Activation | Sequence[Activation] = None,
    decoder_activation: Activation | Sequence[Activation] = None,
) -> EncoderDecoder:
    """An autoencoder of polynomial layers (`KAELayer`).

    Args:
        shape: (C, H, W).
        channels: numbers of values after each layer of the encoder; the last is the latent.
        order: the highest power; one for all layers, or one for each.
        encoder_activation, decoder_activation: one for all layers, or one for each in the order
            of the data.

    Raises:
        ConfigError: a list of another length than `channels`.
    """
    widths = [math.prod(image_shape(shape, "KANPolyAE")), *channels]
    count = len(channels)
    orders = per_layer(order, count, "KANPolyAE: order")
    ends = per_layer(encoder_activation, count, "KANPolyAE: encoder_activation")
    starts = per_layer(decoder_activation, count, "KANPolyAE: decoder_activation")[::-1]
    encoder: list[nn.Module | None] = [nn.Flatten(1)]
    decoder: list[nn.Module | None] = [Reshape(shape)]
    for i in range(count):
        encoder.append(KAELayer(widths[i], widths[i + 1], orders[i], activation=ends[i]))
        decoder.append(KAELayer(widths[i + 1], widths[i], orders[i], activation=starts[i]))
    return EncoderDecoder(chain(encoder), chain(decoder[::-1]))


def CNNKAE(
    shape: Sequence[int],
    latent_dim: int,
    channels: Sequence[int] = (24, 32, 48),
    kernel_size: int = 5,
    encoder_kae_order: int = 0,
    decoder_kae_order: int = 0,
    activation: Activation = None,
    latent_activation: Activation = None,
    output_activation: Activation = None,
) -> EncoderDecoder:
    """Convolutions without padding, and to and from the latent a linear or a polynomial layer.

    Args:
        shape: (C, H, W).
        latent_dim: D.
        channels: after each convolution of the encoder; the decoder mirrors them.
        kernel_size: of all; each convolution takes `kernel_size` - 1 from height and width.
        encoder_kae_order, decoder_kae_order: highest power of the layer to, and from, the latent;
            0: a linear layer.
        activation, latent_activation, output_activation: between convolutions, of the latent, of
            the output.

    Raises:
        ShapeError: the images are too small for the convolutions.
    """
    colours, height, width = image_shape(shape, "CNNKAE")
    lost = len(channels) * (kernel_size - 1)
    if min(height, width) <= lost:
        raise ShapeError(
            f"CNNKAE: {len(channels)} convolutions of size {kernel_size} need images larger than "
            f"{lost}x{lost}, not {height}x{width}",
            hint="use a smaller kernel_size or fewer channels",
        )
    widths = [colours, *channels]
    encoder: list[nn.Module | None] = []
    decoder: list[nn.Module | None] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        encoder += [nn.Conv2d(before, after, kernel_size), make_activation(activation)]
        following = output_activation if i == 0 else activation
        back = nn.ConvTranspose2d(after, before, kernel_size)
        decoder += [make_activation(following), back]
    map_shape = (widths[-1], height - lost, width - lost)
    size = math.prod(map_shape)
    encoder += [
        nn.Flatten(1),
        _linear(size, latent_dim, encoder_kae_order),
        make_activation(latent_activation),
    ]
    decoder += [Reshape(map_shape), _linear(latent_dim, size, decoder_kae_order)]
    return EncoderDecoder(chain(encoder), chain(decoder[::-1]))


def _linear(before: int, after: int, order: int) -> nn.Module:
    return KAELayer(before, after, order) if order else nn.Linear(before, after)

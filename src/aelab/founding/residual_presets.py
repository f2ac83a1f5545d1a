"""Residual and patch autoencoders of old files, and a decoder that sums up two others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import PixelsToChannels, ResidualAdd, chain, per_layer
from aelab.models.activations import Activation, make_activation
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.decoders import DecoderConv2d
from aelab.models.implicit import ImageManifoldDecoder
from aelab.models.reshaping import Reshape
from aelab.models.shapes import image_shape


class HalvingBlock(nn.Module):
    """Half the size and twice the channels: act(convolution of stride 2 + the pixels themselves).

    Args:
        channels: C, before it.
        kernel_size: odd.
        batch_norm: before the convolution; the path of the pixels is normalised, too.
        activation: after the sum.
    """

    def __init__(
        self, channels: int, kernel_size: int, batch_norm: bool, activation: Activation
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels) if batch_norm else None
        self.unshuffle = PixelsToChannels(2)
        self.conv = nn.Conv2d(
            channels, 2 * channels, kernel_size, stride=2, padding=kernel_size // 2
        )
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2 C, H / 2, W / 2)."""
        x = x if self.norm is None else self.norm(x)
        halves = self.unshuffle(x).chunk(2, dim=1)
        y: Tensor = self.conv(x) + (halves[0] + halves[1]) / 2
        return y if self.act is None else self.act(y)


class DoublingBlock(nn.Module):
    """Twice the size and half the channels, without weights except those of the normalisation.

    Args:
        channels: 2 C, before it.
        batch_norm: before it.
    """

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 C, H, W) -> (B, C, 2 H, 2 W)."""
        x = x if self.norm is None else self.norm(x)
        y = F.pixel_shuffle(x, 2)
        return torch.cat([y, y], dim=1)


def ResAE(
    input_channels: int,
    num_channels: int,
    num_encoded_channels: int | None = None,
    kernel_size: int = 3,
    num_layers: int = 4,
    batch_norm: bool = True,
    activation: Activation = "gelu",
    verbose: bool = False,
) -> EncoderDecoder:
    """Halving blocks with a path of pixels around each; the decoder only rearranges pixels.

    In the original, the decoder's blocks have convolutions that nothing uses. They are left out,
    so that there are fewer parameters, with the same function.

    Args:
        input_channels: of the images.
        num_channels: after the first 1x1 convolution; each layer doubles them.
        num_encoded_channels: of the latent, by a 1x1 convolution; None: as the last layer.
        kernel_size: odd.
        num_layers: of halving blocks.
        batch_norm: in every block.
        activation: of every halving block but the last.
        verbose: has no effect; `aelab check` shows the shapes.

    Raises:
        ConfigError: an even kernel.
        ShapeError: images whose sizes are no multiples of 2 ** `num_layers`, when they come.
    """
    if kernel_size % 2 == 0:
        raise ConfigError(f"ResAE: kernel_size must be odd, not {kernel_size}")
    encoder: list[nn.Module | None] = [nn.Conv2d(input_channels, num_channels, 1)]
    decoder: list[nn.Module | None] = [nn.Conv2d(num_channels, input_channels, 1)]
    channels = num_channels
    for number in range(1, num_layers + 1):
        act = activation if number < num_layers else None
        encoder.append(HalvingBlock(channels, kernel_size, batch_norm, act))
        channels *= 2
        decoder.append(DoublingBlock(channels, batch_norm))
    if num_encoded_channels is not None and num_encoded_channels != channels:
        encoder.append(nn.Conv2d(channels, num_encoded_channels, 1))
        decoder.append(nn.ConvTranspose2d(num_encoded_channels, channels, 1))
    return EncoderDecoder(chain(encoder), chain(decoder[::-1]))


def ResConvStack(
    channels: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    padding: int | Sequence[int] = 1,
    activation: Activation | Sequence[Activation] = None,
    batch_norm: bool | Sequence[bool] = False,
    depth: int | Sequence[int] = 0,
    scale: int | Sequence[int] = 1,
    transpose: bool = False,
) -> nn.Sequential:
    """Convolutions, residual where the channels stay, with changes of size between them.

    Every option is one value for all layers, or one for each.

    Args:
        channels: before the first layer and after each.
        kernel_size, padding, activation: of each convolution.
        batch_norm: before each.
        depth: further residual convolutions after each.
        scale: the size becomes so many times smaller before each layer; larger with `transpose`.
        transpose: whether the convolutions are transposed, for decoders.

    Raises:
        ConfigError: fewer than two numbers of channels; a list of another length.
    """
    if len(channels) < 2:
        raise ConfigError(f"ResConvStack: channels needs at least 2 numbers, got {len(channels)}")
    count = len(channels) - 1
    given = {
        "kernel_size": kernel_size, "padding": padding, "activation": activation,
        "batch_norm": batch_norm, "depth": depth, "scale": scale,
    }  # fmt: skip
    each = {name: per_layer(v, count, f"ResConvStack: {name}") for name, v in given.items()}
    convolution = nn.ConvTranspose2d if transpose else nn.Conv2d
    layers: list[nn.Module | None] = []
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        if each["batch_norm"][i]:
            layers.append(nn.BatchNorm2d(before))
        if each["scale"][i] > 1:
            layers += _resized(before, each["scale"][i], transpose)
        conv = convolution(before, after, each["kernel_size"][i], padding=each["padding"][i])
        layers.append(ResidualAdd(conv) if before == after else conv)
        layers.append(make_activation(each["activation"][i]))
        for _ in range(each["depth"][i]):
            size = each["kernel_size"][i]
            layers.append(ResidualAdd(nn.Conv2d(after, after, size, padding=size // 2)))
    return chain(layers)


def _resized(channels: int, factor: int, up: bool) -> list[nn.Module | None]:
    """A convolution around a shuffle of pixels, which keeps the number of channels."""
    more = channels * factor**2
    if up:
        return [nn.ConvTranspose2d(channels, more, 3, padding=1), nn.PixelShuffle(factor)]
    return [PixelsToChannels(factor), nn.Conv2d(more, channels, 3, padding=1)]


def PatchAutoencoder2d(
    shape: Sequence[int],
    code_size: int,
    lib_size: int,
    patch_size: int | Sequence[int],
    mlp_blocks: int = 2,
    mlp_cells: int | None = None,
    mlp_activation: Activation = "relu",
    output_activation: Activation = "sigmoid",
) -> EncoderDecoder:
    """Each patch as weights of a library of patches, and residual linear layers over all of them.

    Args:
        shape: (C, H, W).
        code_size: D, length of the latent.
        lib_size: number of patches in the library.
        patch_size: its height and width; H and W are multiples of them.
        mlp_blocks: residual blocks of three linear layers, in each half.
        mlp_cells: values between those; None: as many as outside.
        mlp_activation, output_activation: in the blocks, of the image.

    Raises:
        ShapeError: sizes that are no multiples of the patch.
    """
    channels, height, width = image_shape(shape, "PatchAutoencoder2d")
    given = [patch_size] * 2 if isinstance(patch_size, int) else patch_size
    size = (int(given[0]), int(given[1]))
    if height % size[0] or width % size[1]:
        raise ShapeError(
            f"PatchAutoencoder2d: {height}x{width} pixels must be multiples of patch_size "
            f"{size[0]}x{size[1]}"
        )
    grid = (height // size[0], width // size[1])
    values = lib_size * math.prod(grid)

    def blocks() -> list[nn.Module | None]:
        cells = values if mlp_cells is None else mlp_cells
        widths = (values, cells, cells, values)
        return [
            ResidualAdd(
                chain(
                    layer
                    for before, after in itertools.pairwise(widths)
                    for layer in (nn.Linear(before, after), make_activation(mlp_activation))
                )
            )
            for _ in range(mlp_blocks)
        ]

    encoder = [
        nn.Conv2d(channels, lib_size, size, stride=size),
        nn.Flatten(1),
        *blocks(),
        nn.Linear(values, code_size),
    ]
    decoder = [
        nn.Linear(code_size, values),
        *blocks(),
        Reshape((lib_size, *grid)),
        nn.ConvTranspose2d(lib_size, channels, size, stride=size),
        make_activation(output_activation),
    ]
    return EncoderDecoder(chain(encoder), chain(decoder))


class EnsembleDecoder2d(nn.Module):
    """The sum of a convolutional decoder's sigmoid and an implicit decoder.

    Args:
        shape: (C, H, W).
        code_size: D.
        activation: of the convolutional decoder.
    """

    def __init__(
        self, shape: Sequence[int], code_size: int, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(shape, "EnsembleDecoder2d")
        self.conv = DecoderConv2d(shape, code_size, activation=activation)
        self.manifold = ImageManifoldDecoder(
            num_input_channels=code_size,
            num_output_channels=channels,
            default_shape=(height, width),
            pos_embedding_freqs=(7, 17, 77),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        images: Tensor = torch.sigmoid(self.conv(latent)) + self.manifold(latent)
        return images

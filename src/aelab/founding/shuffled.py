"""Autoencoders and decoders of old files whose sizes change by shuffling pixels into channels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.founding.helpers import PixelsToChannels, chain, per_layer
from aelab.models.activations import Activation, make_activation
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.reshaping import Reshape
from aelab.models.shapes import image_shape


class AddedWhereEqual(nn.Module):
    """layers(x), plus x where both have the same shape.

    Args:
        layers: any shape -> any shape.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        y: Tensor = self.layers(x)
        return y + x if y.shape == x.shape else y


def NewAutoEncoder(
    in_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    channels: int | Sequence[int] = 32,
    kernel_size: int | Sequence[int] = 3,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    shuffle: int | Sequence[int] = 0,
    batch_norm: bool | Sequence[bool] = True,
    activation: Activation = "relu6",
) -> EncoderDecoder:
    """Convolutions with shuffles of pixels between them; the decoder mirrors the encoder.

    Each layer is a normalisation, a convolution and an activation, plus its input where the shapes
    agree. From a layer with `shuffle` on, all maps but the latent have `shuffle` ** 2 times the
    channels. The last layer of both halves is the convolution alone.

    In the original the decoder does not run where layers shuffle: a convolution of it expects the
    channels before the shuffle. Here it expects those after it, so such a model has fewer
    parameters. Without `shuffle` both are the same.

    Args:
        in_channels: of the images.
        num_layers: of each half.
        out_channels: must be `in_channels` or None.
        channels: after each layer of the encoder; the last is that of the latent.
        kernel_size, stride, padding, dilation: of each convolution, one value or one for each.
        shuffle: each layer makes squares of so many pixels to channels; 0 or 1: it does not.
        batch_norm: before each convolution but the last.
        activation: after each convolution but the last.

    Raises:
        ConfigError: a list of another length than `num_layers`; another `out_channels`.
        ShapeError: images whose sizes cannot be shuffled, when they come.
    """
    if out_channels not in (None, in_channels):
        raise ConfigError(
            f"NewAutoEncoder: out_channels is {out_channels} for images of {in_channels} channels",
            hint="leave it out",
        )
    given = {
        "channels": channels, "kernel_size": kernel_size, "stride": stride, "padding": padding,
        "dilation": dilation, "shuffle": shuffle, "batch_norm": batch_norm,
    }  # fmt: skip
    each = {name: per_layer(v, num_layers, f"NewAutoEncoder: {name}") for name, v in given.items()}
    each["shuffle"] = [max(1, int(factor)) for factor in each["shuffle"]]
    # Channels of all maps from the image to the latent, and of the layers' convolutions.
    maps, times = [in_channels], 1
    for number, count in enumerate(each["channels"]):
        made = count if number == num_layers - 1 else count * times
        times = each["shuffle"][number] ** 2 if each["shuffle"][number] > 1 else times
        maps.append(made * each["shuffle"][number] ** 2)
    encoder, decoder = [], []
    for number, (before, after) in enumerate(itertools.pairwise(maps)):
        options = {name: values[number] for name, values in each.items() if name != "channels"}
        bare = number == num_layers - 1
        encoder.append(_layer(before, after, options, None if bare else activation, bare))
        bare = number == 0
        decoder.append(_layer(after, before, options, None if bare else activation, bare, up=True))
    return EncoderDecoder(chain(encoder), chain(decoder[::-1]))


def _layer(
    before: int,
    after: int,
    options: dict[str, Any],
    activation: Activation,
    bare: bool,
    up: bool = False,
) -> nn.Module:
    """A layer of `NewAutoEncoder`; `before` and `after` are counted with the shuffle."""
    factor = options["shuffle"]
    area = factor**2
    shuffled: nn.Module | None = None
    norm = nn.BatchNorm2d(before) if options["batch_norm"] and not bare else None
    settings = {k: options[k] for k in ("kernel_size", "stride", "padding", "dilation")}
    act = make_activation(activation)
    if up:
        shuffled = nn.PixelShuffle(factor) if factor > 1 else None
        layers = [norm, shuffled, nn.ConvTranspose2d(before // area, after, **settings), act]
    else:
        shuffled = PixelsToChannels(factor) if factor > 1 else None
        layers = [norm, nn.Conv2d(before, after // area, **settings), act, shuffled]
    return AddedWhereEqual(chain(layers))


def ConvUpscaleDecoder(
    shape: Sequence[int],
    code_size: int,
    kernel_size: int | Sequence[int] = 3,
    num_layers: int = 4,
    num_hidden: int = 64,
    upscale_every: int = 3,
    activation: Activation = "relu",
) -> nn.Sequential:
    """A linear layer, transposed convolutions that enlarge the map by their edges, and doublings.

    Every `upscale_every`-th convolution makes four times the channels, which become a map of twice
    the size. In the original the sizes are right for kernels of 2 and 3 only; here for all.

    Args:
        shape: (C, H, W) of the image.
        code_size: D.
        kernel_size: of each convolution, one number or (height, width).
        num_layers: of convolutions, before the last of size 1.
        num_hidden: channels of all maps between.
        upscale_every: layers from one doubling to the next.
        activation: after every layer but the last.

    Raises:
        ShapeError: the image is too small, or its size before a doubling is odd.
    """
    colours, *size = image_shape(shape, "ConvUpscaleDecoder")
    kernel = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    doubles = [(number + 1) % upscale_every == 0 for number in range(num_layers)]
    for number in reversed(range(num_layers)):  # from the image back to the first map
        if doubles[number] and any(side % 2 for side in size):
            raise ShapeError(
                f"ConvUpscaleDecoder: layer {number + 1} doubles the size, so {size[0]}x{size[1]} "
                "after it must be even",
                hint="change the size of the images, num_layers or upscale_every",
            )
        size = [side // 2 if doubles[number] else side for side in size]
        size = [side - (edge - 1) for side, edge in zip(size, kernel, strict=True)]
        if min(size) < 1:
            raise ShapeError(
                f"ConvUpscaleDecoder: the image is too small for {num_layers} layers",
                hint="use larger images, or fewer layers",
            )
    layers: list[nn.Module | None] = [
        nn.Linear(code_size, num_hidden * math.prod(size)),
        Reshape((num_hidden, *size)),
        make_activation(activation),
    ]
    for double in doubles:
        made = num_hidden * 4 if double else num_hidden
        layers.append(nn.ConvTranspose2d(num_hidden, made, (kernel[0], kernel[1])))
        layers.append(make_activation(activation))
        layers.append(nn.PixelShuffle(2) if double else None)
    layers.append(nn.ConvTranspose2d(num_hidden, colours, 1))
    return chain(layers)

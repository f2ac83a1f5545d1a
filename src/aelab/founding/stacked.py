"""The stacked autoencoder of document 000: layers are added to encoder and decoder in training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.shapes import conv_size, conv_transpose_size, image_shape, per_layer, shape_words
from aelab.types import Output, TermSpec


class SymmetricConv2d(nn.Module):
    """A convolution and its transposed convolution, with shared or separate weights.

    The biases are always separate, and the activation follows both.

    Args:
        channels_in, channels_out: channels of the convolution.
        kernel_size, stride: the transposed convolution pads its output by `stride - 1`.
        activation: activation after the convolution and after the transposed one.
        symmetric: whether the two share the weight.
        identity: initialise so that the convolution passes on the centre of each channel, and the
            transposed one adds zeros around it.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        stride: int = 1,
        activation: Activation = None,
        symmetric: bool = True,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel_size, stride)
        # Both weights have the same shape and fan-in, so torch's initial values are those of
        # nn.ConvTranspose2d, shared or not.
        bound = 1 / math.sqrt(channels_in * kernel_size**2)
        self.bias_back = nn.Parameter(torch.empty(channels_in).uniform_(-bound, bound))
        self.weight_back: nn.Parameter | None = None
        if not symmetric:
            self.weight_back = nn.Parameter(torch.empty_like(self.convolution.weight))
            nn.init.kaiming_uniform_(self.weight_back, a=math.sqrt(5))
        self.activation = make_activation(activation, in_place=True)
        if identity:
            self._become_identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H', W')."""
        features: Tensor = self.convolution(x)
        return features if self.activation is None else self.activation(features)

    def back(self, x: Tensor) -> Tensor:
        """(B, channels_out, H', W') -> (B, channels_in, H, W)."""
        weight = self.convolution.weight if self.weight_back is None else self.weight_back
        stride = self.convolution.stride
        padding = [step - 1 for step in stride]
        features = F.conv_transpose2d(x, weight, self.bias_back, stride, 0, padding)
        return features if self.activation is None else self.activation(features)

    def _become_identity(self) -> None:
        for parameter in self.parameters():
            (nn.init.dirac_ if parameter.ndim == 4 else nn.init.zeros_)(parameter)


class SymmetricLinear(nn.Module):
    """A linear layer on the flattened map and one back, with transposed or separate weights.

    Args:
        shape: (C, H, W) of the map.
        code_size: D.
        symmetric: whether the two share the weight; the biases are separate.
    """

    def __init__(self, shape: Sequence[int], code_size: int, symmetric: bool = True) -> None:
        super().__init__()
        self.flatten, self.unflatten = FlattenPixels(), UnflattenPixels(shape)
        self.linear = nn.Linear(math.prod(shape), code_size)
        self.linear_back = nn.Linear(code_size, math.prod(shape)) if not symmetric else None
        self.bias_back: nn.Parameter | None = None
        if symmetric:
            # The standard deviation of the other bias, which nn.Linear draws uniformly in +-bound.
            spread = 1 / math.sqrt(3 * math.prod(shape))
            self.bias_back = nn.Parameter(torch.randn(math.prod(shape)) * spread)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        latent: Tensor = self.linear(self.flatten(x))
        return latent

    def back(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        if self.linear_back is not None:
            features: Tensor = self.unflatten(self.linear_back(x))
            return features
        features = self.unflatten(F.linear(x, self.linear.weight.T, self.bias_back))
        return features


class StackedSymmetricAutoencoderConv2d(nn.Module):
    """Convolutions and one linear layer, each with its inverse; layers are added in training.

    The encoder consists of layers 0 to `layer_index`, the decoder of the same layers backwards. The
    latent is the flattened output of the newest layer, pixel by pixel. It becomes shorter with
    every layer, and has `code_size` numbers after the linear layer. Unused layers cost nothing.
    They get no gradient, so the optimiser neither decays them nor keeps moments for them, and
    starts with new moments when they are added.

    With `fade_in_images` a new layer is added without a jump. During that time the decoder gets
    (1 - fade) times the map before the new layer plus fade times the same map after the layer and
    its inverse; fade goes from 0 to 1. The latent then consists of both maps, one after the other,
    so that `decode(encode(images))` is always the whole model; at the end the old map is dropped.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the latent after the linear layer.
        kernel_size, stride: one integer, or one for each convolution.
        groups, space_to_depth, dropout, batch_norm: the original accepted and ignored them; here
            only their defaults are allowed.
        channels: output channels of each convolution.
        activation: activation after each convolution in both directions, including the last one.
        symmetric: whether encoder and decoder share weights; the biases are separate.
        layer_index: the newest layer in use, from 0; with a schedule, the newest at its start
            (0). None without a schedule: all layers.
        new_layer_every_images: number of images after which a further layer is added.
        layers_per_epochs: (layers, epochs): add this many layers after each this many epochs.
        fade_in_images: number of images over which a new layer fades in; 0: at once.
        identity_init: initialise convolutions as an identity, as far as shapes allow; not those
            that change the number of channels, because new channels with zero weight would get no
            gradient if both directions share it.

    Attributes:
        layers: one `SymmetricConv2d` for each of `channels`, then one `SymmetricLinear`.
        shapes: shape of the image and after each layer.
        layer_index: the newest layer in use; the last one until `at` is called.
        fade: share of the newest layer, above 0 up to 1.

    Raises:
        ConfigError: an argument without effect, or a contradictory schedule.
        ShapeError: a convolution does not fit, or its inverse does not give the same shape.

    Source: founding document 000, 2024-01-21. Fading: Karras et al. 2018, arXiv:1710.10196,
    section 3, there for resolutions.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"decode", "encode", "fade", "layer_index", "layers", "noise_shape", "shapes"}
    )

    noise_shape: tuple[int, ...] | None = None
    terms: tuple[TermSpec, ...] = ()

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        channels: Sequence[int] = (16, 32),
        activation: Activation = "leaky_relu",
        symmetric: bool = True,
        space_to_depth: bool = False,
        dropout: float = 0.0,
        batch_norm: bool = False,
        *,
        layer_index: int | None = None,
        new_layer_every_images: int | None = None,
        layers_per_epochs: tuple[int, int] | None = None,
        fade_in_images: int = 0,
        identity_init: bool = False,
    ) -> None:
        super().__init__()
        _refuse_ignored(
            groups=groups != 1,
            space_to_depth=space_to_depth,
            dropout=dropout != 0,
            batch_norm=batch_norm,
        )
        kernels = per_layer(kernel_size, len(channels), "kernel_size", _NAME)
        strides = per_layer(stride, len(channels), "stride", _NAME)
        self.shapes = _shapes(image_shape(shape, _NAME), channels, kernels, strides)
        self.layers = nn.ModuleList(
            SymmetricConv2d(
                before[0],
                width,
                kernel,
                step,
                activation,
                symmetric,
                identity=identity_init and before[0] == width,
            )
            for before, width, kernel, step in zip(
                self.shapes, channels, kernels, strides, strict=False
            )
        )
        self.layers.append(SymmetricLinear(self.shapes[-1], int(code_size), symmetric))
        self.shapes.append((int(code_size),))
        self.new_layer_every_images, self.layers_per_epochs = _schedule(
            new_layer_every_images, layers_per_epochs, fade_in_images
        )
        self.fade_in_images = int(fade_in_images)
        self.last_index = len(self.layers) - 1
        self.first_index = _checked_index(layer_index, self.last_index)
        scheduled = self.new_layer_every_images or self.layers_per_epochs
        fixed = layer_index is not None and not scheduled
        self.layer_index = self.first_index if fixed else self.last_index
        self.fade = 1.0

    def at(self, images: int, epoch: int) -> None:
        """Adds the layers that are due after this number of images and whole epochs."""
        if self.layers_per_epochs is not None:
            layers, epochs = self.layers_per_epochs
            joined = epoch // epochs * layers
        elif self.new_layer_every_images is not None:
            joined = images // self.new_layer_every_images
        else:
            return
        self.layer_index = min(self.first_index + joined, self.last_index)
        self.fade = 1.0
        joined = self.layer_index - self.first_index
        if self.fade_in_images and self.new_layer_every_images and joined:
            since = images - joined * self.new_layer_every_images
            if since == 0:  # with fade 0 it would cost time without any effect
                self.layer_index -= 1
            else:
                self.fade = min(1.0, since / self.fade_in_images)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W) in 0..1 -> images, and the latent; `noise` is unused."""
        latent = self.encode(images)
        return Output(self.decode(latent), latent)

    def encode(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D); D is the present `sum(self.latent_sizes)`."""
        features = images
        for layer in itertools.islice(self.layers, self.layer_index):
            features = layer(features)
        newest = _flat(self.layers[self.layer_index](features))
        return newest if self.fade == 1.0 else torch.cat([newest, _flat(features)], 1)

    def decode(self, latent: Tensor) -> Tensor:
        """(B, D) with the present D -> images (B, C, H, W).

        Raises:
            ShapeError: a latent of another length, from an earlier or later time.
        """
        sizes = self.latent_sizes
        if latent.shape[-1] != sum(sizes):
            raise ShapeError(
                f"{_NAME}: with layer {self.layer_index} as the newest and fade {self.fade:g} the "
                f"latent has {sum(sizes)} numbers, not {latent.shape[-1]}",
                hint="encode the images again, or set the clock back with at(images, epoch)",
            )
        newest, *before = torch.split(latent, sizes, 1)
        features = _unflat(newest, self.shapes[self.layer_index + 1])
        features = self.layers[self.layer_index].back(features)  # type: ignore[operator]
        if before:
            old = _unflat(before[0], self.shapes[self.layer_index])
            features = torch.lerp(old, features, self.fade)
        for index in reversed(range(self.layer_index)):
            features = self.layers[index].back(features)  # type: ignore[operator]
        return features

    @property
    def latent_sizes(self) -> list[int]:
        """Sizes of the newest map and, while it fades in, of the one before it."""
        newest = math.prod(self.shapes[self.layer_index + 1])
        before = math.prod(self.shapes[self.layer_index])
        return [newest] if self.fade == 1.0 else [newest, before]

    def extra_repr(self) -> str:
        """The schedule, for `print(model)`."""
        if self.layers_per_epochs is not None:
            layers, epochs = self.layers_per_epochs
            return f"{layers} layers every {epochs} epochs, from layer {self.first_index}"
        if self.new_layer_every_images is not None:
            return (
                f"a layer every {self.new_layer_every_images} images, from layer "
                f"{self.first_index}, fade_in_images={self.fade_in_images}"
            )
        return f"layer_index={self.layer_index}"


_NAME = "StackedSymmetricAutoencoderConv2d"


def _flat(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W*C), pixel by pixel; a flat latent is unchanged."""
    return features if features.ndim == 2 else features.permute(0, 2, 3, 1).flatten(1)


def _unflat(latent: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `_flat`."""
    if len(shape) == 1:
        return latent
    channels, height, width = shape
    return latent.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def _refuse_ignored(**given: bool) -> None:
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{_NAME}: {name} has no effect on this model; the original ignored it silently",
                hint=f"leave {name} out: an old run with it is the same run",
            )


def _shapes(
    shape: tuple[int, int, int],
    channels: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, ...]]:
    """The image's shape and that after each convolution; checks that the inverse fits exactly."""
    shapes: list[tuple[int, ...]] = [shape]
    for index, (width, kernel, stride) in enumerate(zip(channels, kernels, strides, strict=True)):
        before = shapes[-1]
        place = (
            f"{_NAME}: layer {index} of {len(channels) + 1} (kernel {kernel}, stride {stride}, "
            f"{width} channels)"
        )
        if min(before[1:]) < kernel or width < 1:
            raise ShapeError(
                f"{place} does not fit into its {shape_words(before)} input",
                hint="use fewer channels (layers), a smaller kernel_size, or larger images",
            )
        after = [conv_size(size, kernel, stride) for size in before[1:]]
        back = [conv_transpose_size(size, kernel, stride) for size in after]
        if back != list(before[1:]):
            raise ShapeError(
                f"{place} makes {shape_words(after)} of {shape_words(before[1:])}, but its "
                f"transposed "
                f"layer gives {shape_words(back)}",
                hint="sizes less the kernel must leave a remainder of stride - 1: change one of "
                "them by one",
            )
        shapes.append((int(width), *after))
    return shapes


def _schedule(
    every_images: int | None, per_epochs: tuple[int, int] | None, fade: int
) -> tuple[int | None, tuple[int, int] | None]:
    """Checks the two schedules: at most one of them, and enough time for fading."""
    if every_images is not None and per_epochs is not None:
        raise ConfigError(f"{_NAME}: give new_layer_every_images or layers_per_epochs, not both")
    numbers = [every_images] if per_epochs is None else [*per_epochs]
    if any(number is not None and number < 1 for number in numbers) or fade < 0:
        raise ConfigError(
            f"{_NAME}: a schedule counts whole images, layers and epochs from 1 up, got "
            f"new_layer_every_images={every_images}, layers_per_epochs={per_epochs}, "
            f"fade_in_images={fade}"
        )
    if fade and every_images is None:
        raise ConfigError(
            f"{_NAME}: fade_in_images needs new_layer_every_images: the model knows images and "
            "whole epochs, not the images of an epoch",
            hint="write layers_per_epochs as images: one epoch of 47,000 images is "
            "new_layer_every_images=47_000",
        )
    if every_images is not None and fade > every_images:
        raise ConfigError(
            f"{_NAME}: fade_in_images={fade} is longer than new_layer_every_images={every_images}",
            hint="one layer fades in at a time: use at most half of the interval",
        )
    return every_images, per_epochs


def _checked_index(layer_index: int | None, last: int) -> int:
    index = 0 if layer_index is None else int(layer_index)
    if not 0 <= index <= last:
        raise ConfigError(
            f"{_NAME}: layer_index={layer_index} is not a layer; possible: 0 to {last} (the linear "
            "layer)"
        )
    return index

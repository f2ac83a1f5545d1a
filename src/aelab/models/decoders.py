"""Decoders: map a latent (B, D) to images (B, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.models.activations import Activation, make_activation
from aelab.models.blocks import Conv2dBlock
from aelab.models.encoders import hidden_layers
from aelab.models.reshaping import Reshape, UnflattenPixels
from aelab.models.shapes import image_shape


class DecoderConv2d(nn.Module):
    """One linear layer and a stack of transposed convolutions; the mirror of `EncoderConv2d`.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the latent.
        kernel_size, stride, groups: one integer, or one per layer.
        channels: of each transposed convolution's *input*, first layer first.
        activation: between the transposed convolutions.
        activation_last_layer: after the last one; None leaves the output unbounded.
        space_to_depth: as in `Conv2dBlock`.
        legacy_linear: whether to leave out the activations between the layers. The published
            comparison of data sets (November 2023) used a decoder with this bug.

    Attributes:
        linear: maps the latent to the first feature map, pixel by pixel.
        convolution: the transposed `Conv2dBlock`.
        encoded_shape: (C, H, W) of the first feature map.

    Raises:
        ShapeError: the images are too small for the convolutions, or odd for `space_to_depth`.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "convolution", "encoded_shape", "linear", "shape"}
    )

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        groups: int | Sequence[int] = 1,
        channels: Sequence[int] = (16, 32),
        activation: Activation = "relu",
        activation_last_layer: Activation = None,
        space_to_depth: bool = False,
        legacy_linear: bool = False,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "DecoderConv2d")
        self.code_size = int(code_size)
        convolution = Conv2dBlock(
            channels=(*channels, self.shape[0]),
            kernel_size=kernel_size,
            stride=stride,
            groups=groups,
            act_fn=None if legacy_linear else activation,
            act_last_layer=activation_last_layer,
            transpose=True,
            space_to_depth=space_to_depth,
            output_shape=self.shape,
        )
        # Computed backwards from the image, so that the output has exactly its size.
        self.encoded_shape = convolution.get_input_shape(self.shape)
        self.linear = nn.Linear(self.code_size, math.prod(self.encoded_shape))
        self.unflatten = UnflattenPixels(self.encoded_shape)
        self.convolution = convolution

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        # (B, D) -> (B, H*W*C) -> (B, C, H, W) of `encoded_shape` -> images
        images: Tensor = self.convolution(self.unflatten(self.linear(latent)))
        return images


class DecoderMLP(nn.Module):
    """Linear layers from the latent to the image; the mirror of `EncoderMLP`.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the latent.
        hidden: width of each hidden layer, first layer first.
        act_fn: activation after every hidden layer.
        activation_last_layer: after the last one; None leaves the output unbounded.
        normalization: `bn1d`, `layernorm`, `rms` or None, before each hidden activation.
        dropout: probability after each hidden activation, 0..1.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"code_size", "layers", "shape"})

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        hidden: Sequence[int] = (256,),
        act_fn: Activation = nn.ReLU,
        activation_last_layer: Activation = None,
        normalization: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "DecoderMLP")
        self.code_size = int(code_size)
        widths = [self.code_size, *hidden]
        last = make_activation(activation_last_layer, in_place=True)
        self.layers = nn.Sequential(
            *hidden_layers(widths, act_fn, normalization, dropout),
            nn.Linear(widths[-1], math.prod(self.shape)),
            *([last] if last is not None else []),
            Reshape(self.shape),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        images: Tensor = self.layers(latent)
        return images

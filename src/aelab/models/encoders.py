"""Encoders: map images (B, C, H, W) to features (B, D)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.models.activations import Activation, make_activation, make_normalization
from aelab.models.blocks import Conv2dBlock
from aelab.models.reshaping import FlattenPixels
from aelab.models.shapes import image_shape


class EncoderConv2d(nn.Module):
    """A stack of convolutions and one linear layer.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the result.
        kernel_size, stride, groups: one integer, or one per layer.
        channels: of each convolution's output.
        act_fn: activation after every convolution.
        space_to_depth, dropout, batch_norm, cheap: as in `Conv2dBlock`.

    Attributes:
        convolution: the `Conv2dBlock`.
        linear: maps the features of the last convolution, pixel by pixel, to the code.
        encoded_shape: (C, H, W) after the convolutions.

    Raises:
        ShapeError: the images are too small for the convolutions.
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
        act_fn: Activation = nn.ReLU,
        space_to_depth: bool = False,
        dropout: float = 0.0,
        batch_norm: bool = False,
        cheap: bool = False,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "EncoderConv2d")
        self.code_size = int(code_size)
        self.convolution = Conv2dBlock(
            channels=(self.shape[0], *channels),
            kernel_size=kernel_size,
            stride=stride,
            groups=groups,
            act_fn=act_fn,
            act_last_layer=True,
            batch_norm=batch_norm,
            space_to_depth=space_to_depth,
            dropout=dropout,
            cheap=cheap,
        )
        self.encoded_shape = self.convolution.get_output_shape(self.shape)
        self.flatten = FlattenPixels()
        # Most parameters are here if the last map is large; strides reduce it.
        self.linear = nn.Linear(math.prod(self.encoded_shape), self.code_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D)."""
        # (B, C, H, W) of `encoded_shape` -> (B, H*W*C) -> (B, D)
        features: Tensor = self.linear(self.flatten(self.convolution(images)))
        return features


class EncoderMLP(nn.Module):
    """Linear layers from the flattened image to the code.

    Args:
        shape: (C, H, W) of the images.
        code_size: D, length of the result.
        hidden: width of each hidden layer; empty: a single linear map.
        act_fn: activation after every hidden layer.
        normalization: `bn1d`, `layernorm`, `rms` or None, before each activation.
        dropout: probability after each hidden activation, 0..1.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"code_size", "layers", "shape"})

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        hidden: Sequence[int] = (256,),
        act_fn: Activation = nn.ReLU,
        normalization: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "EncoderMLP")
        self.code_size = int(code_size)
        widths = [math.prod(self.shape), *hidden]
        self.layers = nn.Sequential(
            nn.Flatten(1),
            *hidden_layers(widths, act_fn, normalization, dropout),
            nn.Linear(widths[-1], self.code_size),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D)."""
        features: Tensor = self.layers(images)
        return features


def hidden_layers(
    widths: Sequence[int], act_fn: Activation, normalization: str | None, dropout: float
) -> list[nn.Module]:
    """Linear, normalisation, activation and dropout for each neighbouring pair of `widths`."""
    layers: list[nn.Module | None] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [
            nn.Linear(width_in, width_out),
            make_normalization(normalization, width_out),
            make_activation(act_fn, in_place=True),
            nn.Dropout(dropout) if dropout else None,
        ]
    return [layer for layer in layers if layer is not None]

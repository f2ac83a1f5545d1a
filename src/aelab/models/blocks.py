"""`Conv2dBlock`: a stack of convolutions, normal or transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.reshaping import DepthToSpace, SpaceToDepth
from aelab.models.shapes import conv_size, conv_transpose_size, per_layer, shape_words


class Conv2dBlock(nn.Module):
    """`len(channels) - 1` unpadded convolutions, each followed by its activation.

    Optional batch normalisation and channel dropout follow every convolution but the last; optional
    pooling follows the last. With `space_to_depth` every convolution is followed by `SpaceToDepth`
    (the next one has four times the input channels); a transposed one is preceded by
    `DepthToSpace`.

    Args:
        channels: of the input and of each layer's output; at least two numbers.
        kernel_size: one integer, or one per layer.
        stride: one integer, or one per layer; transposed layers pad their output by `stride - 1`
            unless `output_shape` is given.
        groups: one integer, or one per layer.
        pool_kernel_size: size and stride of the pooling after the last layer; 0: none.
        pool_type: `max` or `avg`.
        act_fn: activation of all layers: name, class, module or None.
        act_last_layer: True: `act_fn` after the last layer too; False or None: no activation;
            else the activation of the last layer.
        bias: whether convolutions have a bias.
        transpose: whether convolutions are transposed.
        batch_norm: whether batch normalisation follows every layer but the last.
        space_to_depth: whether each layer halves (transposed: doubles) height and width.
        dropout: probability of dropping a channel after every layer but the last, 0..1.
        cheap: whether each convolution is a depthwise one followed by a 1x1 one.
        output_shape: (H, W) or (C, H, W) of the output of a transposed block, for an input of
            `get_input_shape(output_shape)`; sizes then need not be multiples of the strides.

    Raises:
        ConfigError: `output_shape` for a block that is not transposed.
        ShapeError: wrong numbers of channels, kernels, strides or groups; also from the
            `get_..._shape` methods if an image does not fit.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"channels", "create_transposed", "get_input_shape", "get_output_shape", "layers"}
    )

    def __init__(
        self,
        channels: Sequence[int],
        kernel_size: int | Sequence[int] = 5,
        stride: int | Sequence[int] = 1,
        groups: int | Sequence[int] = 1,
        pool_kernel_size: int = 0,
        pool_type: Literal["max", "avg"] = "max",
        act_fn: Activation = None,
        act_last_layer: bool | Activation = True,
        bias: bool = True,
        transpose: bool = False,
        batch_norm: bool = False,
        space_to_depth: bool = False,
        dropout: float = 0.0,
        cheap: bool = False,
        output_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.channels = [int(count) for count in channels]
        self.num_layers = len(self.channels) - 1
        if self.num_layers < 1 or min(self.channels) < 1:
            raise ShapeError(
                "Conv2dBlock: channels needs at least two positive numbers (input and one layer), "
                f"not {self.channels}"
            )
        self.kernel_size = per_layer(kernel_size, self.num_layers, "kernel_size", "Conv2dBlock")
        self.stride = per_layer(stride, self.num_layers, "stride", "Conv2dBlock")
        self.groups = per_layer(groups, self.num_layers, "groups", "Conv2dBlock")
        if pool_type not in ("max", "avg"):
            raise ConfigError(f"Conv2dBlock: pool_type must be max or avg, not {pool_type!r}")
        self.pool_kernel_size, self.pool_type = int(pool_kernel_size), pool_type
        self.bias, self.transpose, self.batch_norm = bias, transpose, batch_norm
        self.space_to_depth, self.dropout, self.cheap = space_to_depth, float(dropout), cheap
        self.act_last_layer: bool | Activation = act_last_layer
        # A stride-s convolution maps s sizes to one; this choice inverts the largest of them.
        self.output_padding = [(stride - 1, stride - 1) for stride in self.stride]
        if output_shape is not None:
            self.output_padding = self._padding_for(output_shape)
        self._activation_argument = act_fn
        self._act_fn = make_activation(act_fn, in_place=True)
        self.layers = nn.Sequential(*self._make_layers())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the shape of `get_output_shape`."""
        features: Tensor = self.layers(x)
        return features

    def get_output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The output shape (C, H, W) for an input of (H, W) or (C, H, W).

        Raises:
            ShapeError: the input does not fit; the message names the layer and the sizes.
        """
        height, width = (int(size) for size in shape[-2:])
        if len(shape) == 3 and shape[0] != self.num_input_channels:
            raise ShapeError(
                f"Conv2dBlock: takes {self.num_input_channels} channels, but the input "
                f"{shape_words(shape)} has {shape[0]}"
            )
        for index in range(self.num_layers):
            height, width = self._layer_output(index, height, width)
        if self.pool_kernel_size:
            pooled = height // self.pool_kernel_size, width // self.pool_kernel_size
            if min(pooled) < 1:
                raise ShapeError(
                    f"Conv2dBlock: pooling of {self.pool_kernel_size} does not fit into "
                    f"{shape_words((height, width))}"
                )
            height, width = pooled
        return self.num_output_channels, height, width

    def get_input_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The input shape (C, H, W) that gives an output of (H, W) or (C, H, W)."""
        height, width = (int(size) for size in shape[-2:])
        for index in reversed(range(self.num_layers)):
            height, width = self._layer_output(index, height, width, transpose=not self.transpose)
        return self.num_input_channels, height, width

    def create_transposed(
        self, act_last_layer: bool | Activation = None, output_shape: Sequence[int] | None = None
    ) -> Conv2dBlock:
        """A new block in the reverse direction: layers reversed, `transpose` flipped, new weights.

        Args:
            act_last_layer: as in the constructor; None keeps this block's setting.
            output_shape: as in the constructor: the shape of this block's input images.

        Raises:
            ConfigError: a block with pooling cannot be reversed.
        """
        if self.pool_kernel_size:
            raise ConfigError(
                "Conv2dBlock: a block with pooling cannot be transposed",
                hint="use stride or space_to_depth instead of pool_kernel_size",
            )
        return type(self)(
            channels=self.channels[::-1],
            kernel_size=self.kernel_size[::-1],
            stride=self.stride[::-1],
            groups=self.groups[::-1],
            act_fn=self._activation_argument,
            act_last_layer=self.act_last_layer if act_last_layer is None else act_last_layer,
            bias=self.bias,
            transpose=not self.transpose,
            batch_norm=self.batch_norm,
            space_to_depth=self.space_to_depth,
            dropout=self.dropout,
            cheap=self.cheap,
            output_shape=output_shape,
        )

    @property
    def num_input_channels(self) -> int:
        """Input channels of `forward`."""
        return self.channels[0] * (4 if self.space_to_depth and self.transpose else 1)

    @property
    def num_output_channels(self) -> int:
        """Output channels of `forward`."""
        return self.channels[-1] * (4 if self.space_to_depth and not self.transpose else 1)

    def _make_layers(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for index in range(self.num_layers):
            is_last = index == self.num_layers - 1
            if self.space_to_depth and self.transpose:
                layers.append(DepthToSpace())
            layers += self._make_convolutions(index)
            if self.space_to_depth and not self.transpose:
                layers.append(SpaceToDepth())
            if self.batch_norm and not is_last:
                # After SpaceToDepth, so with four times the channels.
                layers.append(nn.BatchNorm2d(self._width_after(index)))
            if self.dropout and not is_last:
                layers.append(nn.Dropout2d(self.dropout))
            if self.pool_kernel_size and is_last:
                pool = nn.MaxPool2d if self.pool_type == "max" else nn.AvgPool2d
                layers.append(pool(self.pool_kernel_size))
            activation = self._last_activation() if is_last else self._act_fn
            if activation is not None:
                layers.append(activation)
        return layers

    def _make_convolutions(self, index: int) -> list[nn.Module]:
        width_in = self.channels[index]
        width_out = self.channels[index + 1]
        # SpaceToDepth of the layer before has multiplied the channels by 4.
        if self.space_to_depth and not self.transpose and index > 0:
            width_in *= 4
        # DepthToSpace of the next layer will divide them by 4.
        if self.space_to_depth and self.transpose and index < self.num_layers - 1:
            width_out *= 4
        kernel_size, stride, groups = (
            self.kernel_size[index],
            self.stride[index],
            self.groups[index],
        )
        if width_in % groups or width_out % groups:
            raise ShapeError(
                f"Conv2dBlock: layer {index + 1} ({width_in} -> {width_out} channels) cannot be "
                f"split into {groups} groups"
            )
        # `cheap`: one group per channel (depthwise), then a 1x1 convolution mixes the channels.
        inner_out, inner_groups = (width_in, width_in) if self.cheap else (width_out, groups)
        first: nn.Module
        if self.transpose:
            first = nn.ConvTranspose2d(
                width_in,
                inner_out,
                kernel_size,
                stride,
                output_padding=self.output_padding[index],
                groups=inner_groups,
                bias=self.bias,
            )
        else:
            first = nn.Conv2d(
                width_in, inner_out, kernel_size, stride, groups=inner_groups, bias=self.bias
            )
        if not self.cheap:
            return [first]
        return [first, nn.Conv2d(width_in, width_out, 1, groups=groups, bias=self.bias)]

    def _width_after(self, index: int) -> int:
        return self.channels[index + 1] * (4 if self.space_to_depth else 1)

    def _last_activation(self) -> nn.Module | None:
        if self.act_last_layer is True:
            return self._act_fn
        if self.act_last_layer is False or self.act_last_layer is None:
            return None
        return make_activation(self.act_last_layer, in_place=True)

    def _layer_output(
        self, index: int, height: int, width: int, transpose: bool | None = None
    ) -> tuple[int, int]:
        transpose = self.transpose if transpose is None else transpose
        kernel_size, stride = self.kernel_size[index], self.stride[index]
        if transpose:
            factor = 2 if self.space_to_depth else 1
            rows, columns = self.output_padding[index]
            return (
                conv_transpose_size(height * factor, kernel_size, stride, rows),
                conv_transpose_size(width * factor, kernel_size, stride, columns),
            )
        sizes = conv_size(height, kernel_size, stride), conv_size(width, kernel_size, stride)
        place = (
            f"Conv2dBlock: layer {index + 1} of {self.num_layers} "
            f"(kernel {kernel_size}, stride {stride})"
        )
        if min(height, width) < kernel_size:
            raise ShapeError(
                f"{place} does not fit into its {shape_words((height, width))} input",
                hint="use a smaller kernel_size, fewer channels (layers), or larger images",
            )
        if not self.space_to_depth:
            return sizes
        if sizes[0] % 2 or sizes[1] % 2:
            raise ShapeError(
                f"{place} gives {shape_words(sizes)}, but space_to_depth needs even sizes",
                hint="change kernel_size or the image size by one",
            )
        return sizes[0] // 2, sizes[1] // 2

    def _padding_for(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """The output padding of every layer for an output of exactly `shape`."""
        if not self.transpose:
            raise ConfigError(
                "Conv2dBlock: output_shape is for a transposed block",
                hint="add transpose=True, or leave output_shape out",
            )
        height, width = (int(size) for size in shape[-2:])
        padding: list[tuple[int, int]] = []
        for index in reversed(range(self.num_layers)):
            kernel_size, stride = self.kernel_size[index], self.stride[index]
            # The rows and columns that the forward convolution would drop by rounding down.
            padding.insert(0, ((height - kernel_size) % stride, (width - kernel_size) % stride))
            height, width = self._layer_output(index, height, width, transpose=False)
        return padding

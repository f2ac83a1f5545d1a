"""Residual encoder and decoder: stride-2 convolutions, pre-norm blocks, and a linear head.

Any image size is possible: a stride-2 convolution rounds halves up, and the decoder crops the extra
row or column.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from aelab.errors import ConfigError, ShapeError, did_you_mean, one_of
from aelab.models.activations import Activation, RMSNorm, make_activation
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.shapes import image_shape

#: Factor on the initial weights of an unbounded last layer, so that the first output is near black.
UNBOUNDED_START = 0.1


class PixelNorm(nn.Module):
    """Normalises over the channels of each pixel, with one learned factor per channel.

    Args:
        channels: C.
        centered: True: subtract the mean of the channels first and learn an offset (LayerNorm);
            False: only scale the root mean square to 1 (RMSNorm).

    Source: Ba et al. 2016, arXiv:1607.06450; Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, channels: int, centered: bool = False) -> None:
        super().__init__()
        self.norm: nn.Module = nn.LayerNorm(channels) if centered else RMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # (B, H, W, C): torch's norms work on the last axis.
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class MapNorm(nn.Module):
    """Scales the root mean square of a whole feature map to 1, with factor and offset per channel.

    Unlike `PixelNorm` it keeps how strong the pixels of an image are beside each other.

    Args:
        channels: C.

    Source: Wu & He 2018, arXiv:1803.08494, with one group and without the mean, as in Zhang &
        Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # (B, 1, 1, 1); 1e-6 keeps a map of zeros at zero.
        scale = x.square().mean((1, 2, 3), keepdim=True).add(1e-6).rsqrt()
        return x * scale * self.weight[:, None, None] + self.bias[:, None, None]


#: Normalisations within one image, so that an image does not depend on its batch.
PER_IMAGE_NORMS = ("group", "layer", "map", "rms", "none")


def make_per_image_norm(name: str | None, channels: int) -> nn.Module:
    """A normalisation of `PER_IMAGE_NORMS` for feature maps of `channels`; None is `none`.

    `group` normalises groups of at most 16 channels over the whole map (Wu & He 2018,
    arXiv:1803.08494), `map` the whole map (`MapNorm`), `layer` and `rms` the channels of each pixel
    (`PixelNorm`).

    Raises:
        ConfigError: unknown name.
    """
    if name is None or name == "none":
        return nn.Identity()
    if name == "group":
        # The largest number of groups that divides the channels, of 16 channels or more each.
        groups = next(n for n in range(max(1, channels // 16), 0, -1) if channels % n == 0)
        return nn.GroupNorm(groups, channels)
    if name == "map":
        return MapNorm(channels)
    if name in ("layer", "rms"):
        return PixelNorm(channels, centered=name == "layer")
    raise ConfigError(
        f"unknown normalisation {name!r} within an image{did_you_mean(name, PER_IMAGE_NORMS)}",
        hint=f"possible: {one_of(PER_IMAGE_NORMS)}",
    )


class ResidualBlock(nn.Module):
    """x + conv(act(conv(norm(x)))); starts as the identity, as its last convolution starts at 0.

    Args:
        channels: of input, output and hidden layer.
        kernel_size: odd.
        norm: one of `PER_IMAGE_NORMS`.
        act_fn: between the convolutions.
        pre_activation: whether it follows the norm, too.

    Source: pre-activation form of He et al. 2016, arXiv:1603.05027, figure 4e; zero at the start:
    Goyal et al. 2017, arXiv:1706.02677, section 5.1.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        norm: str | None = "rms",
        act_fn: Activation = "relu",
        pre_activation: bool = False,
    ) -> None:
        super().__init__()
        self.norm = make_per_image_norm(norm, channels)
        # Not in place: without a norm it would change the block's own input.
        self.before = (make_activation(act_fn) if pre_activation else None) or nn.Identity()
        self.first = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.act = make_activation(act_fn, in_place=True) or nn.Identity()
        self.second = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        # The block starts as the identity: x + 0.
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        branch: Tensor = self.second(self.act(self.first(self.before(self.norm(x)))))
        return x + branch


class ModulatedBlock(ResidualBlock):
    """A residual block whose normalised channels are scaled and shifted by the latent.

    x + conv(act(conv(norm(x) (1 + scale) + shift))), with (scale, shift) linear in the latent: so
    every stage of a decoder sees the latent itself, and not only what the stages before kept of it.

    Args:
        channels, kernel_size, norm, act_fn, pre_activation: as in `ResidualBlock`.
        code_size: D, length of the latent.

    Source: Perez et al. 2018, arXiv:1709.07871; in decoders: Karras et al. 2019, arXiv:1812.04948.
    """

    def __init__(
        self,
        channels: int,
        code_size: int,
        kernel_size: int = 3,
        norm: str | None = "rms",
        act_fn: Activation = "relu",
        pre_activation: bool = False,
    ) -> None:
        super().__init__(channels, kernel_size, norm, act_fn, pre_activation)
        self.modulation = nn.Linear(code_size, 2 * channels)

    def modulated(self, x: Tensor, latent: Tensor) -> Tensor:
        """(B, C, H, W) and (B, D) -> (B, C, H, W)."""
        # (B, 2C) -> (B, 2C, 1, 1) -> twice (B, C, 1, 1)
        scale, shift = self.modulation(latent)[..., None, None].chunk(2, dim=1)
        # 1 + scale: a zero latent leaves the normalised channels unchanged.
        normed = self.norm(x) * (1 + scale) + shift
        branch: Tensor = self.second(self.act(self.first(self.before(normed))))
        return x + branch


class Upsample(nn.Module):
    """Doubles height and width by a convolution, cropped to a given size.

    Args:
        channels_in, channels_out: of the feature maps.
        size: (H, W) of the result: twice the input's, or one less.
        nearest: repeat each pixel and convolve 3x3, instead of a transposed convolution.
    """

    def __init__(
        self, channels_in: int, channels_out: int, size: tuple[int, int], nearest: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.nearest = nearest
        self.convolution: nn.Conv2d | nn.ConvTranspose2d = (
            nn.Conv2d(channels_in, channels_out, 3, padding=1)
            if nearest
            # Kernel 4 with stride 2 covers every pixel equally often: no checkerboard pattern.
            else nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', H, W), the given size."""
        if self.nearest:
            x = functional.interpolate(x, scale_factor=2)
        doubled: Tensor = self.convolution(x)
        return doubled[..., : self.size[0], : self.size[1]]

    def extra_repr(self) -> str:
        """The size, for `print(model)`."""
        return f"size={self.size}"


#: How the weights of a residual part begin.
Initial = Literal["variance", "torch"]


def initialize(part: nn.Module, initial: Initial, owner: str) -> None:
    """Sets the first weights of a part: `variance` as `keep_variance`, `torch` leaves torch's.

    Raises:
        ConfigError: another name.
    """
    if initial == "variance":
        keep_variance(part)
    elif initial != "torch":
        near = did_you_mean(initial, ("variance", "torch"))
        raise ConfigError(f"{owner}: initial must be 'variance' or 'torch', not {initial!r}{near}")


@torch.no_grad()
def keep_variance(part: nn.Module) -> None:
    """Initialises weights so that signals keep their variance from layer to layer; biases are 0.

    With torch's initialisation and ReLU a signal shrinks by sqrt(6) per layer. Images then hardly
    differ in the latent, and training with a high learning rate may end at the mean image. The last
    convolutions of blocks stay 0.

    Source: He et al. 2015, arXiv:1502.01852, equation 10; a transposed convolution of kernel 4 and
    stride 2 sums 4 weights per channel.
    """
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            # weight[0].numel() is the fan-in; the factor 2 makes up for ReLU's zeros.
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=math.sqrt(1 / (4 * module.in_channels)))
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in part.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.weight)
        if isinstance(module, ModulatedBlock):  # latents begin with a deviation of about 2
            nn.init.normal_(
                module.modulation.weight, std=0.6 / math.sqrt(module.modulation.in_features)
            )


def halved_sizes(shape: Sequence[int], num_halvings: int) -> list[tuple[int, int]]:
    """The sizes (H, W) before and after each stride-2 convolution; halves are rounded up."""
    sizes = [(int(shape[-2]), int(shape[-1]))]
    for _ in range(num_halvings):
        height, width = sizes[-1]
        # As a convolution of stride 2 with padding kernel // 2.
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


class EncoderResidual(nn.Module):
    """An encoder of stride-2 convolutions, each followed by residual blocks, and a linear head.

    Args:
        shape: (C, H, W) of the images, of any size.
        code_size: D, length of the result.
        channels: of each stage's output; each stage halves height and width, rounding up.
        blocks: residual blocks per stage; one integer, or one per stage.
        hidden: widths of the head between feature map and code; empty: one linear map.
        kernel_size: of the convolutions, odd.
        norm: `rms`, `layer`, `map` or `group`, all within one image, or `none`.
        act_fn: in the blocks, and between the layers of the head.
        squeeze: channels to which a 1x1 convolution brings the last feature map before the head,
            most of whose weights lie there; None for none.
        pre_activation: whether `act_fn` also follows each norm.
        initial: first weights: `variance` keeps that of signals from layer to layer; `torch` leaves
            torch's, which are smaller.

    Attributes:
        encoded_shape: (C, H, W) of the last feature map, as the head sees it.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "convolution", "encoded_shape", "head", "shape"}
    )

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] = (24, 48, 64),
        blocks: int | Sequence[int] = 1,
        hidden: Sequence[int] = (128,),
        kernel_size: int = 3,
        norm: str | None = "rms",
        act_fn: Activation = "relu",
        squeeze: int | None = None,
        pre_activation: bool = False,
        initial: Initial = "variance",
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "EncoderResidual")
        self.code_size = int(code_size)
        stages = check_stages(channels, blocks, kernel_size, "EncoderResidual")
        self.convolution = halving_stages(
            self.shape[0], stages, kernel_size, norm, act_fn, pre_activation
        )
        width = check_squeeze(squeeze, "EncoderResidual") or stages[-1][0]
        self.encoded_shape = (width, *halved_sizes(self.shape, len(stages))[-1])
        self.norm = make_per_image_norm(norm, stages[-1][0])
        self.after = (make_activation(act_fn) if pre_activation else None) or nn.Identity()
        self.squeeze = nn.Conv2d(stages[-1][0], width, 1) if squeeze else None
        self.flatten = FlattenPixels()
        self.head = _head((math.prod(self.encoded_shape), *hidden, self.code_size), act_fn)
        initialize(self, initial, "EncoderResidual")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D)."""
        maps: Tensor = self.after(self.norm(self.convolution(images)))
        if self.squeeze is not None:
            maps = self.squeeze(maps)
        features: Tensor = self.head(self.flatten(maps))
        return features


class DecoderResidual(nn.Module):
    """The mirror of `EncoderResidual`: a head, residual blocks, transposed stride-2 convolutions.

    Args:
        shape: (C, H, W) of the images, of any size.
        code_size: D, length of the latent.
        channels: of each stage's *input*, first stage first; each stage doubles height and width.
        blocks: residual blocks before each doubling; one integer, or one per stage.
        hidden: widths of the head between latent and feature map.
        kernel_size, norm, act_fn: as in `EncoderResidual`.
        activation_last_layer: after the last convolution; None leaves the output unbounded.
        squeeze: channels of the head's feature map, which a 1x1 convolution brings to those of the
            first stage; None for none.
        modulated: the latent scales and shifts the channels in every block (`ModulatedBlock`).
        pre_activation, initial: as in `EncoderResidual`.
        upsample: `transposed`, or `nearest`: all doublings but the last repeat each pixel and
            convolve 3x3.

    Attributes:
        encoded_shape: (C, H, W) of the first feature map, as the head gives it.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"code_size", "convolution", "encoded_shape", "head", "shape"}
    )

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] = (64, 48, 24),
        blocks: int | Sequence[int] = 1,
        hidden: Sequence[int] = (128,),
        kernel_size: int = 3,
        norm: str | None = "rms",
        act_fn: Activation = "relu",
        activation_last_layer: Activation = None,
        squeeze: int | None = None,
        modulated: bool = False,
        pre_activation: bool = False,
        initial: Initial = "variance",
        upsample: Literal["transposed", "nearest"] = "transposed",
    ) -> None:
        super().__init__()
        if upsample not in ("transposed", "nearest"):
            raise ConfigError(
                f"DecoderResidual: upsample must be 'transposed' or 'nearest', not {upsample!r}"
                f"{did_you_mean(upsample, ('transposed', 'nearest'))}"
            )
        self.shape = image_shape(shape, "DecoderResidual")
        self.code_size = int(code_size)
        stages = check_stages(channels, blocks, kernel_size, "DecoderResidual")
        sizes = halved_sizes(self.shape, len(stages))[::-1]
        width = check_squeeze(squeeze, "DecoderResidual") or stages[0][0]
        self.encoded_shape = (width, *sizes[0])
        self.head = _head((self.code_size, *hidden, math.prod(self.encoded_shape)), act_fn)
        self.unflatten = UnflattenPixels(self.encoded_shape)
        self.squeeze = nn.Conv2d(width, stages[0][0], 1) if squeeze else None
        self.convolution = doubling_stages(
            stages, self.shape[0], sizes[1:], kernel_size, norm, act_fn,
            self.code_size if modulated else None, pre_activation, upsample == "nearest",
        )  # fmt: skip
        final = self.convolution[-1]
        last = make_activation(activation_last_layer, in_place=True)
        if last is not None:
            self.convolution.append(last)
        initialize(self, initial, "DecoderResidual")
        if last is None:
            assert isinstance(final, Upsample)
            # After `initialize`, which may overwrite it.
            final.convolution.weight.data.mul_(UNBOUNDED_START)

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        images: Tensor = self.unflatten(self.head(latent))
        if self.squeeze is not None:
            images = self.squeeze(images)
        for layer in self.convolution:
            if isinstance(layer, ModulatedBlock):
                images = layer.modulated(images, latent)
            else:
                images = layer(images)
        return images


def halving_stages(
    channels: int,
    stages: Sequence[tuple[int, int]],
    kernel_size: int = 3,
    norm: str | None = "rms",
    act_fn: Activation = "relu",
    pre_activation: bool = False,
) -> nn.Sequential:
    """Stride-2 convolutions, each followed by residual blocks; `stages` as from `check_stages`.

    (B, channels, H, W) -> (B, width of the last stage, ...), of the last of `halved_sizes`.
    """
    layers: list[nn.Module] = []
    widths = (channels, *(width for width, _ in stages))
    for before, (width, num_blocks) in zip(widths, stages, strict=False):
        layers.append(nn.Conv2d(before, width, kernel_size, 2, kernel_size // 2))
        layers += [
            ResidualBlock(width, kernel_size, norm, act_fn, pre_activation)
            for _ in range(num_blocks)
        ]
    return nn.Sequential(*layers)


def doubling_stages(
    stages: Sequence[tuple[int, int]],
    channels: int,
    sizes: Sequence[tuple[int, int]],
    kernel_size: int = 3,
    norm: str | None = "rms",
    act_fn: Activation = "relu",
    code_size: int | None = None,
    pre_activation: bool = False,
    nearest: bool = False,
) -> nn.Sequential:
    """Residual blocks, a norm and an `Upsample` for each stage; `stages` as from `check_stages`.

    (B, width of the first stage, h, w) -> (B, channels, H, W); `sizes`: (H, W) after each stage.
    With `code_size` the blocks are `ModulatedBlock` of a latent of that length. The last doubling,
    to the image, is always a transposed convolution: it has no layer of the full size.
    """
    layers: list[nn.Module] = []
    afterwards = [*(width for width, _ in stages[1:]), channels]
    each = zip(stages, afterwards, sizes, strict=True)
    for number, ((width, num_blocks), after, size) in enumerate(each, start=1):
        layers += [
            ResidualBlock(width, kernel_size, norm, act_fn, pre_activation)
            if code_size is None
            else ModulatedBlock(width, code_size, kernel_size, norm, act_fn, pre_activation)
            for _ in range(num_blocks)
        ]
        layers.append(make_per_image_norm(norm, width))
        if pre_activation:
            layers.append(make_activation(act_fn) or nn.Identity())
        layers.append(Upsample(width, after, size, nearest and number < len(stages)))
    return nn.Sequential(*layers)


def check_stages(
    channels: Sequence[int], blocks: int | Sequence[int], kernel_size: int, owner: str
) -> list[tuple[int, int]]:
    """(width, residual blocks) of each stage, checked."""
    widths = [int(width) for width in channels]
    if not widths or min(widths) < 1:
        raise ShapeError(f"{owner}: channels needs at least one positive number, not {widths}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ConfigError(
            f"{owner}: kernel_size is {kernel_size}; it must be odd", hint="use 3 or 5"
        )
    counts = [blocks] * len(widths) if isinstance(blocks, int) else [int(n) for n in blocks]
    if len(counts) != len(widths) or min(counts) < 0:
        raise ConfigError(
            f"{owner}: blocks is {blocks!r}; it must be one integer from 0 up, or one per stage",
            hint=f"there are {len(widths)} stages (channels has {len(widths)} values)",
        )
    return list(zip(widths, counts, strict=True))


def check_squeeze(squeeze: int | None, owner: str) -> int | None:
    """The channels of a squeezed feature map.

    Raises:
        ShapeError: fewer than 1.
    """
    if squeeze is not None and squeeze < 1:
        raise ShapeError(f"{owner}: squeeze is {squeeze}; it needs at least 1 channel, or None")
    return squeeze


def _head(widths: Sequence[int], act_fn: Activation) -> nn.Sequential:
    """Linear layers with activations between them, none after the last."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [
            nn.Linear(width_in, width_out),
            make_activation(act_fn, in_place=True) or nn.Identity(),
        ]
    # Without the activation after the last linear layer.
    return nn.Sequential(*layers[:-1])

"""DC-AE: residual autoencoding with pixel-(un)shuffle shortcuts, and linear attention on maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.attention import refuse_heads
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.residual import (
    ResidualBlock,
    check_stages,
    halved_sizes,
    make_per_image_norm,
)
from aelab.models.shapes import image_shape

#: Added to the divisor of linear attention, which is 0 where no query and key agree.
LEAST_WEIGHT = 1e-6


def average_channels(x: Tensor, channels: int) -> Tensor:
    """Means of neighbouring channels: (B, n channels, H, W) -> (B, channels, H, W)."""
    batch, _, height, width = x.shape
    return x.reshape(batch, channels, -1, height, width).mean(2)


def duplicate_channels(x: Tensor, times: int) -> Tensor:
    """Each channel `times` times, side by side: (B, C, H, W) -> (B, times C, H, W)."""
    return x[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)


class ShortcutDown(nn.Module):
    """Halves a map; the layer learns only what differs from a shortcut without weights.

    Shortcut: 2x2 squares become channels (pixel unshuffle), then neighbouring channels are
    averaged.

    Args:
        channels_in, channels_out: `channels_out` is a multiple of 4 and divides 4 `channels_in`.

    Raises:
        ShapeError: other numbers of channels.

    Source: Chen et al. 2024, arXiv:2410.10733, section 3.2 and figure 4.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        if channels_out % 4 or 4 * channels_in % channels_out:
            raise ShapeError(
                f"a halving from {channels_in} to {channels_out} channels has no shortcut: the "
                f"second must be a multiple of 4 that divides {4 * channels_in}",
                hint=f"use channels {channels_in} and {4 * -(-channels_in // 4)}, or twice that",
            )
        self.channels_out = channels_out
        self.convolution = nn.Conv2d(channels_in, channels_out // 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2); odd sizes are padded with a zero row or column."""
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
        shortcut = average_channels(F.pixel_unshuffle(x, 2), self.channels_out)
        return F.pixel_unshuffle(self.convolution(x), 2) + shortcut


class ShortcutUp(nn.Module):
    """Doubles a map; the mirror of `ShortcutDown`.

    Shortcut: channels are duplicated, then four of them become a 2x2 square (pixel shuffle).

    Args:
        channels_in, channels_out: `channels_in` divides 4 `channels_out`.
        size: (H, W) of the result: twice the input's, or one less.

    Raises:
        ShapeError: other numbers of channels.

    Source: Chen et al. 2024, arXiv:2410.10733, section 3.2 and figure 4.
    """

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        if 4 * channels_out % channels_in:
            raise ShapeError(
                f"a doubling from {channels_in} to {channels_out} channels has no shortcut: the "
                f"first must divide {4 * channels_out}",
                hint=f"use channels {channels_in} and {channels_in}, or half of that",
            )
        self.times, self.size = 4 * channels_out // channels_in, size
        self.convolution = nn.Conv2d(channels_in, 4 * channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', H, W), the given size."""
        doubled = F.pixel_shuffle(self.convolution(x) + duplicate_channels(x, self.times), 2)
        return doubled[..., : self.size[0], : self.size[1]]

    def extra_repr(self) -> str:
        """The size, for `print(model)`."""
        return f"size={self.size}"


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with the weights relu(q) . relu(k), divided by their sum, in linear time.

    Args:
        query, key, value: (..., N, d).

    Returns:
        (..., N, d). The (N, N) weights are never made: sums over the keys come first, which costs
        N d^2 instead of N^2 d.

    Source: Cai et al. 2023, "EfficientViT", arXiv:2205.14756, equations 2 and 3.
    """
    query, key = F.relu(query), F.relu(key)
    mixed = query @ (key.transpose(-1, -2) @ value)  # (..., N, d) @ (..., d, d)
    total = query @ key.sum(-2)[..., None]  # (..., N, 1)
    return mixed / (total + LEAST_WEIGHT)


class LinearAttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + gated convolutions(norm(x)); starts as the identity.

    The convolutions see neighbours, which linear attention is bad at: 1x1 to four times the width,
    3x3 of each channel alone, one half gates the other, 1x1 back.

    Args:
        channels: of the map.
        num_heads: divides `channels`.
        norm: one of `PER_IMAGE_NORMS`.

    Source: Cai et al. 2023, arXiv:2205.14756, figure 2; gates: Chen et al. 2024, arXiv:2410.10733.
    """

    def __init__(self, channels: int, num_heads: int = 4, norm: str | None = "rms") -> None:
        super().__init__()
        refuse_heads(channels, num_heads, "LinearAttentionBlock")
        self.num_heads = num_heads
        self.norm_attention = make_per_image_norm(norm, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.norm_local = make_per_image_norm(norm, channels)
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.local = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        for last in (self.out, self.narrow):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # (B, 3C, H, W) -> three of (B, heads, N, C / heads)
        parts = self.query_key_value(self.norm_attention(x)).chunk(3, dim=1)
        heads = [p.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3) for p in parts]
        mixed = linear_attention(*heads).transpose(2, 3).flatten(1, 2)  # (B, C, N)
        x = x + self.out(mixed.reshape(x.shape))
        value, gate = self.local(self.widen(self.norm_local(x))).chunk(2, dim=1)
        result: Tensor = x + self.narrow(value * F.silu(gate))
        return result


def _stage(
    channels: int, count: int, attends: bool, num_heads: int, norm: str | None, act_fn: Activation
) -> list[nn.Module]:
    if attends:
        return [LinearAttentionBlock(channels, num_heads, norm) for _ in range(count)]
    return [ResidualBlock(channels, norm=norm, act_fn=act_fn) for _ in range(count)]


class EncoderDC(nn.Module):
    """The encoder of DC-AE: halvings with shortcuts, residual blocks, attention in small maps.

    Args:
        shape: (C, H, W) of the images, any size; halves are rounded up.
        latent_channels: of the resulting map; divides the last of `channels`.
        channels: of each stage from the image on; the map is halved between two stages.
        blocks: in each stage, one integer or one for each.
        attention_stages: number of last stages whose blocks attend; the others are convolutions.
        num_heads: of linear attention.
        norm: one of `PER_IMAGE_NORMS`.
        act_fn: of residual blocks.

    Attributes:
        encoded_shape: (latent_channels, h, w).

    Raises:
        ShapeError: numbers of channels that have no shortcut, or heads that do not divide them.

    Source: Chen et al. 2024, arXiv:2410.10733.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"encoded_shape", "layers", "shape"})

    def __init__(
        self,
        shape: Sequence[int],
        latent_channels: int = 4,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int | Sequence[int] = 1,
        attention_stages: int = 1,
        num_heads: int = 4,
        norm: str | None = "rms",
        act_fn: Activation = "silu",
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "EncoderDC")
        _refuse_latent(channels[-1], latent_channels)
        self.latent_channels = int(latent_channels)
        stages = check_stages(channels, blocks, 3, "EncoderDC")
        layers: list[nn.Module] = [nn.Conv2d(self.shape[0], channels[0], 3, padding=1)]
        for stage, (width, count) in enumerate(stages):
            layers += [ShortcutDown(channels[stage - 1], width)] if stage else []
            attends = stage >= len(channels) - attention_stages
            layers += _stage(width, count, attends, num_heads, norm, act_fn)
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels[-1], self.latent_channels, 3, padding=1)
        self.encoded_shape = (self.latent_channels, *halved_sizes(self.shape, len(stages) - 1)[-1])

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, latent_channels, h, w)."""
        maps = self.layers(images)
        features: Tensor = self.last(maps) + average_channels(maps, self.latent_channels)
        return features


class DecoderDC(nn.Module):
    """The decoder of DC-AE, the mirror of `EncoderDC`.

    Args:
        shape: (C, H, W) of the images.
        latent_channels: of the map that is decoded; divides the first of `channels`.
        channels: of each stage from the latent on; the map is doubled between two stages.
        blocks: in each stage, one integer or one for each.
        attention_stages: number of first stages whose blocks attend.
        num_heads, norm, act_fn: as in `EncoderDC`.
        activation_last_layer: of the image; None leaves it unbounded.

    Attributes:
        encoded_shape: (latent_channels, h, w).

    Raises:
        ShapeError: as in `EncoderDC`.

    Source: Chen et al. 2024, arXiv:2410.10733.
    """

    block_attributes: ClassVar[frozenset[str]] = EncoderDC.block_attributes

    def __init__(
        self,
        shape: Sequence[int],
        latent_channels: int = 4,
        channels: Sequence[int] = (64, 64, 32),
        blocks: int | Sequence[int] = 1,
        attention_stages: int = 1,
        num_heads: int = 4,
        norm: str | None = "rms",
        act_fn: Activation = "silu",
        activation_last_layer: Activation = None,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "DecoderDC")
        _refuse_latent(channels[0], latent_channels)
        self.times = channels[0] // int(latent_channels)
        stages = check_stages(channels, blocks, 3, "DecoderDC")
        sizes = halved_sizes(self.shape, len(stages) - 1)[::-1]
        self.encoded_shape = (int(latent_channels), *sizes[0])
        self.first = nn.Conv2d(int(latent_channels), channels[0], 3, padding=1)
        layers: list[nn.Module] = []
        for stage, (width, count) in enumerate(stages):
            layers += [ShortcutUp(channels[stage - 1], width, sizes[stage])] if stage else []
            layers += _stage(width, count, stage < attention_stages, num_heads, norm, act_fn)
        last = make_activation(activation_last_layer, in_place=True)
        self.layers = nn.Sequential(
            *layers,
            make_per_image_norm(norm, channels[-1]),
            make_activation(act_fn, in_place=True) or nn.Identity(),
            nn.Conv2d(channels[-1], self.shape[0], 3, padding=1),
            *([] if last is None else [last]),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, latent_channels, h, w) -> images (B, C, H, W)."""
        images: Tensor = self.layers(self.first(latent) + duplicate_channels(latent, self.times))
        return images


def _refuse_latent(channels: int, latent_channels: int) -> None:
    if latent_channels < 1 or channels % latent_channels:
        possible = [n for n in range(1, channels + 1) if channels % n == 0]
        raise ShapeError(
            f"latent_channels {latent_channels} does not divide the {channels} channels beside it",
            hint=f"use latent_channels of {', '.join(map(str, possible))}",
        )


def dc_ae(
    shape: Sequence[int],
    latent_channels: int = 4,
    channels: Sequence[int] = (32, 64, 64),
    blocks: int | Sequence[int] = 1,
    attention_stages: int = 1,
    num_heads: int = 4,
    norm: str | None = "rms",
    act_fn: Activation = "silu",
    activation_last_layer: Activation = None,
) -> EncoderDecoder:
    """DC-AE, a deep-compression autoencoder: `EncoderDC` and `DecoderDC` with equal settings.

    The latent is a map of `latent_channels` and the image's size, halved `len(channels) - 1` times.

    Args:
        shape: (C, H, W) of the images, of any size.
        latent_channels, channels, ...: as in `EncoderDC`; the decoder has them the other way round.
        activation_last_layer: of the image; None leaves it unbounded.

    Raises:
        ShapeError: as in `EncoderDC`.

    Source: Chen et al. 2024, arXiv:2410.10733.
    """
    counts = [count for _, count in check_stages(channels, blocks, 3, "dc_ae")]
    rest = (attention_stages, num_heads, norm, act_fn)
    return EncoderDecoder(
        EncoderDC(shape, latent_channels, channels, counts, *rest),
        DecoderDC(
            shape, latent_channels, channels[::-1], counts[::-1], *rest, activation_last_layer
        ),
    )

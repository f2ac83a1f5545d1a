"""MLP-Mixer: linear layers mix the patches of an image, others the numbers of each patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.models.activations import Activation, make_activation, make_normalization
from aelab.models.attention import start_linear
from aelab.models.patches import (
    FlattenTokens,
    JoinPatches,
    Size,
    SplitPatches,
    SpreadTokens,
    patch_grid,
)


class MixerBlock(nn.Module):
    """x + mlp over the patches(norm(x)), then x + mlp over the numbers of a patch(norm(x)).

    Args:
        num_patches: N.
        num_hidden: width of a token.
        tokens_mlp_dim: width between the two layers that mix patches.
        channels_mlp_dim: width between the two layers that mix the numbers of a patch.
        dropout: probability on both branches, 0..1; in training mode only.
        normalization: `layernorm` or `rms`.
        activation: between two layers.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601, equation 1.
    """

    def __init__(
        self,
        num_patches: int,
        num_hidden: int,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        dropout: float = 0.0,
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        self.norm_tokens = make_normalization(normalization, num_hidden) or nn.Identity()
        self.tokens = _mlp(num_patches, tokens_mlp_dim, activation)
        self.norm_channels = make_normalization(normalization, num_hidden) or nn.Identity()
        self.channels = _mlp(num_hidden, channels_mlp_dim, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, hidden) -> the same shape."""
        # (B, hidden, N): the same weights for every one of the hidden numbers.
        across = self.tokens(self.norm_tokens(tokens).transpose(1, 2)).transpose(1, 2)
        tokens = tokens + self.dropout(across)
        result: Tensor = tokens + self.dropout(self.channels(self.norm_channels(tokens)))
        return result


def _mlp(width: int, inner: int, activation: Activation) -> nn.Sequential:
    between = make_activation(activation, in_place=True) or nn.Identity()
    return nn.Sequential(nn.Linear(width, inner), between, nn.Linear(inner, width))


def make_mixer_blocks(
    num_patches: int,
    num_layers: int,
    num_hidden: int,
    tokens_mlp_dim: int | None,
    channels_mlp_dim: int | None,
    dropout: float,
    normalization: str,
    activation: Activation,
) -> nn.Sequential:
    """`num_layers` mixer blocks and a final normalisation.

    None means the paper's widths: half of `num_hidden` over patches, four times it over numbers.
    Initial weights are those of `attention.make_blocks`.
    """
    widths = (tokens_mlp_dim or max(1, num_hidden // 2), channels_mlp_dim or 4 * num_hidden)
    blocks = [
        MixerBlock(num_patches, num_hidden, *widths, dropout, normalization, activation)
        for _ in range(num_layers)
    ]
    for block in blocks:
        start_linear(block)
        with torch.no_grad():
            for branch in (block.tokens, block.channels):
                branch[-1].weight.div_(math.sqrt(2 * num_layers))  # type: ignore[operator]
    return nn.Sequential(*blocks, make_normalization(normalization, num_hidden) or nn.Identity())


class EncoderMixer(nn.Module):
    """An encoder of patches without attention: mixer blocks, and one linear layer to the code.

    Each patch has its own weights in the layers that mix patches, so there are no position codes.
    The paper averages the tokens at the end; here they are joined, because a code needs to know
    where things are.

    Args:
        shape: (C, H, W) of the images, any size; odd ones are padded with zeros.
        code_size: D, length of the result.
        patch_size: side of a patch in pixels, or (height, width).
        stride: pixels between patches, at most `patch_size`; None: `patch_size`.
        num_layers: blocks.
        num_hidden: width of a token.
        tokens_mlp_dim: width of the layers that mix patches; None: `num_hidden / 2`.
        channels_mlp_dim: width of the layers that mix the numbers of a patch; None:
            4 `num_hidden`.
        dropout: probability, 0..1; in training mode only.
        normalization: `layernorm` or `rms`.
        activation: of the blocks.

    Raises:
        ShapeError: stride above patch.
        ConfigError: unknown name.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601, section 2.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"blocks", "code_size", "head", "patches", "shape"}
    )

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 4,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        tokens_mlp_dim: int | None = None,
        channels_mlp_dim: int | None = None,
        dropout: float = 0.0,
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        grid = patch_grid(shape, patch_size, stride, "EncoderMixer")
        self.shape, self.code_size = grid.shape, int(code_size)
        self.patches = SplitPatches(grid, num_hidden)
        widths = (num_hidden, tokens_mlp_dim, channels_mlp_dim)
        self.blocks = make_mixer_blocks(
            grid.num_patches, num_layers, *widths, dropout, normalization, activation
        )
        self.head = FlattenTokens(grid.num_patches, num_hidden, self.code_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D)."""
        # (B, C, H, W) -> tokens (B, N, hidden) -> (B, D)
        features: Tensor = self.head(self.blocks(self.patches(images)))
        return features


class DecoderMixer(nn.Module):
    """The mirror of `EncoderMixer`: a token for each patch, mixer blocks, overlap-added patches.

    Args:
        shape, code_size, ...: as in `EncoderMixer`.

    Raises:
        ShapeError, ConfigError: as in `EncoderMixer`.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601, section 2; the paper has no decoder.
    """

    block_attributes: ClassVar[frozenset[str]] = EncoderMixer.block_attributes

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 4,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        tokens_mlp_dim: int | None = None,
        channels_mlp_dim: int | None = None,
        dropout: float = 0.0,
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        grid = patch_grid(shape, patch_size, stride, "DecoderMixer")
        self.shape, self.code_size = grid.shape, int(code_size)
        self.head = SpreadTokens(grid.num_patches, num_hidden, self.code_size)
        widths = (num_hidden, tokens_mlp_dim, channels_mlp_dim)
        self.blocks = make_mixer_blocks(
            grid.num_patches, num_layers, *widths, dropout, normalization, activation
        )
        self.patches = JoinPatches(grid, num_hidden)
        self.patches.start_black()

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        images: Tensor = self.patches(self.blocks(self.head(latent)))
        return images

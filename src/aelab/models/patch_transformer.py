"""A transformer autoencoder with the patches of an image as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, did_you_mean
from aelab.models.activations import Activation
from aelab.models.attention import (
    Attention,
    Positions,
    make_blocks,
    refuse_heads,
    start_linear,
)
from aelab.models.autoencoders import EncoderDecoder
from aelab.models.patches import (
    FlattenTokens,
    JoinPatches,
    PatchGrid,
    Size,
    SplitPatches,
    SpreadTokens,
    patch_grid,
)

#: Number of summary tokens with `head="attention"`.
NUM_SUMMARIES = 8
HEADS = ("flatten", "attention")


class EncoderPatchTransformer(nn.Module):
    """An encoder of patches with positions, pre-norm transformer blocks, and a head to the code.

    Args:
        shape: (C, H, W) of the images, any size; odd ones are padded with zeros.
        code_size: D, length of the result.
        patch_size: side of a patch in pixels, or (height, width).
        stride: pixels between patches, at most `patch_size`; None: `patch_size`.
        num_layers: blocks.
        num_hidden: width of a token.
        num_heads: of each attention; must divide `num_hidden`.
        mlp_dim: width between the two linear layers of a block; None: 4 `num_hidden`.
        dropout: probability, 0..1; in training mode only.
        positions: `sincos` or `learned`.
        head: `flatten` (one linear layer over all tokens) or `attention` (learned queries attend to
            the tokens, then one linear layer, whose size does not depend on the image size).
        normalization: `layernorm` or `rms`.
        activation: of the blocks.

    Raises:
        ShapeError: stride above patch, or heads that do not divide the width.
        ConfigError: unknown name.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1; the attention head after
    Lee et al. 2019, arXiv:1810.00825, equation 11.
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
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        positions: str = "sincos",
        head: str = "flatten",
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        owner = "EncoderPatchTransformer"
        grid = _checked_grid(owner, shape, patch_size, stride, num_hidden, num_heads)
        self.shape, self.code_size = grid.shape, int(code_size)
        self.patches = SplitPatches(grid, num_hidden)
        self.positions = Positions(grid.rows, grid.columns, num_hidden, positions)
        self.blocks = make_blocks(
            num_layers, num_hidden, num_heads, mlp_dim, dropout, normalization, activation
        )
        if _head(head) == "flatten":
            self.head: nn.Module = FlattenTokens(grid.num_patches, num_hidden, self.code_size)
        else:
            self.head = _Summarised(num_hidden, num_heads, self.code_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D); images of a batch do not affect each other."""
        # (B, C, H, W) -> tokens (B, N, hidden) -> (B, D)
        features: Tensor = self.head(self.blocks(self.patches(images) + self.positions()))
        return features


class DecoderPatchTransformer(nn.Module):
    """A decoder with one token per patch, pre-norm transformer blocks, and overlap-added patches.

    Args:
        head: `flatten` (one linear layer computes the token of every patch) or `attention` (a few
            tokens are computed from the latent; each patch has its own learned mixture of them).
        shape, code_size, ...: as in `EncoderPatchTransformer`.

    Raises:
        ShapeError, ConfigError: as in `EncoderPatchTransformer`.

    Source: He et al. 2022, arXiv:2111.06377, section 3 (a decoder with one token per patch).
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
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        positions: str = "sincos",
        head: str = "flatten",
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        owner = "DecoderPatchTransformer"
        grid = _checked_grid(owner, shape, patch_size, stride, num_hidden, num_heads)
        self.shape, self.code_size = grid.shape, int(code_size)
        self.positions = Positions(grid.rows, grid.columns, num_hidden, positions)
        if _head(head) == "flatten":
            self.head: nn.Module = SpreadTokens(grid.num_patches, num_hidden, self.code_size)
        else:
            self.head = _Mixed(grid.num_patches, num_hidden, self.code_size)
        self.blocks = make_blocks(
            num_layers, num_hidden, num_heads, mlp_dim, dropout, normalization, activation
        )
        self.patches = JoinPatches(grid, num_hidden)
        self.patches.start_black()

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        tokens = self.head(latent) + self.positions()  # (B, N, hidden)
        images: Tensor = self.patches(self.blocks(tokens))
        return images


class PatchTransformerAutoencoder(EncoderDecoder):
    """`EncoderPatchTransformer` and `DecoderPatchTransformer` with equal settings.

    It has the arguments of `TransformerAutoencoder`, and allows any patch size, stride up to it,
    and image size. Its tokens are patches, so a reconstruction does not depend on other images.

    Args:
        shape, code_size, ...: as in `EncoderPatchTransformer`; `num_layers` for each of the two.

    Raises:
        ShapeError, ConfigError: as in `EncoderPatchTransformer`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        patch_size: Size = 4,
        stride: Size | None = None,
        num_layers: int = 4,
        num_hidden: int = 64,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        positions: str = "sincos",
        head: str = "flatten",
        normalization: str = "layernorm",
        activation: Activation = "gelu",
    ) -> None:
        first = (shape, code_size, patch_size, stride, num_layers, num_hidden, num_heads)
        rest = (mlp_dim, dropout, positions, head, normalization, activation)
        super().__init__(
            EncoderPatchTransformer(*first, *rest), DecoderPatchTransformer(*first, *rest)
        )


class _Summarised(nn.Module):
    """A head in which learned queries attend to the tokens, followed by one linear layer."""

    def __init__(self, num_hidden: int, num_heads: int, code_size: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(NUM_SUMMARIES, num_hidden))
        self.attention = Attention(num_hidden, num_heads)
        self.linear = nn.Linear(NUM_SUMMARIES * num_hidden, code_size)
        start_linear(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, hidden) -> (B, D)."""
        # (S, hidden) -> (B, S, hidden), a view.
        queries = self.queries.expand(tokens.shape[0], -1, -1)
        features: Tensor = self.linear(self.attention(queries, tokens).flatten(1))
        return features


class _Mixed(nn.Module):
    """A few tokens computed from the latent; each patch has its own learned mixture of them.

    Not by attention: that starts as a mean, equal for every patch, and training stays long at the
    loss of the best constant image.
    """

    def __init__(self, num_patches: int, num_hidden: int, code_size: int) -> None:
        super().__init__()
        self.shape = (NUM_SUMMARIES, num_hidden)
        self.linear = nn.Linear(code_size, NUM_SUMMARIES * num_hidden)
        # Divided by sqrt(S), so that a mixture of S tokens keeps their variance.
        self.mix = nn.Parameter(torch.randn(num_patches, NUM_SUMMARIES) / NUM_SUMMARIES**0.5)
        start_linear(self)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, N, hidden)."""
        carriers: Tensor = self.linear(latent)
        return self.mix @ carriers.reshape(latent.shape[0], *self.shape)  # (N, S) @ (B, S, hidden)


def _checked_grid(
    owner: str,
    shape: Sequence[int],
    patch_size: Size,
    stride: Size | None,
    num_hidden: int,
    num_heads: int,
) -> PatchGrid:
    grid = patch_grid(shape, patch_size, stride, owner)
    refuse_heads(num_hidden, num_heads, owner)
    return grid


def _head(name: str) -> str:
    if name not in HEADS:
        near = did_you_mean(name, HEADS)
        raise ConfigError(f"head must be 'flatten' or 'attention', not {name!r}{near}")
    return name

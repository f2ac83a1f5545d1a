"""Attention between tokens, pre-norm transformer blocks, and position codes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError, did_you_mean
from aelab.models.activations import Activation, make_activation, make_normalization


def refuse_heads(num_hidden: int, num_heads: int, owner: str) -> None:
    """Raises a ShapeError that names `owner`, unless `num_heads` divides `num_hidden`."""
    if num_heads < 1 or num_hidden < 1 or num_hidden % num_heads:
        possible = [n for n in range(1, max(1, num_hidden) + 1) if num_hidden % n == 0]
        raise ShapeError(
            f"{owner}: num_heads {num_heads} does not divide num_hidden {num_hidden}",
            hint=f"use num_heads of {', '.join(map(str, possible))}",
        )


#: With fewer tokens than a vector register has floats, torch's kernel for CPUs (2.13) gives 0 for a
#: query that is NaN, and so would hide it.
VECTOR = 16


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of queries over tokens.

    Args:
        num_hidden: width of a token.
        num_heads: divides `num_hidden`.
        dropout: probability on the attention weights, 0..1; in training mode only.
        causal: a query sees only tokens up to its own place.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """

    def __init__(
        self, num_hidden: int, num_heads: int, dropout: float = 0.0, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.causal = num_heads, dropout, causal
        self.query = nn.Linear(num_hidden, num_hidden)
        # One product for both; the queries may come from other tokens.
        self.key_value = nn.Linear(num_hidden, 2 * num_hidden)
        self.out = nn.Linear(num_hidden, num_hidden)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries (B, Q, hidden) and tokens (B, N, hidden) -> (B, Q, hidden)."""
        query = self._heads(self.query(queries))  # (B, heads, Q, hidden / heads)
        key, value = (self._heads(part) for part in self.key_value(tokens).chunk(2, dim=-1))
        # Not written out: the fused kernel does not store the (Q, N) weights.
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal,
        )
        if tokens.shape[1] < VECTOR:
            mixed = mixed + 0 * query
        # (B, heads, Q, hidden / heads) -> (B, Q, hidden)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _heads(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        # (B, N, hidden) -> (B, heads, N, hidden / heads)
        return x.view(batch, count, self.num_heads, width // self.num_heads).transpose(1, 2)


class TransformerBlock(nn.Module):
    """A pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        num_hidden: width of a token.
        num_heads: divides `num_hidden`.
        mlp_dim: width between the two linear layers.
        dropout: probability on attention and on both branches, 0..1.
        normalization: `layernorm` or `rms`.
        activation: between the two linear layers.
        causal: a token sees only those up to its own place.

    Source: Xiong et al. 2020, arXiv:2002.04745, figure 1 (b).
    """

    def __init__(
        self,
        num_hidden: int,
        num_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
        normalization: str = "layernorm",
        activation: Activation = "gelu",
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.norm_attention = make_normalization(normalization, num_hidden) or nn.Identity()
        self.attention = Attention(num_hidden, num_heads, dropout, causal)
        self.norm_mlp = make_normalization(normalization, num_hidden) or nn.Identity()
        self.mlp = nn.Sequential(
            nn.Linear(num_hidden, mlp_dim),
            make_activation(activation, in_place=True) or nn.Identity(),
            nn.Linear(mlp_dim, num_hidden),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, hidden) -> the same shape."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.dropout(self.attention(normed, normed))
        result: Tensor = tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))
        return result


def make_blocks(
    num_layers: int,
    num_hidden: int,
    num_heads: int,
    mlp_dim: int | None,
    dropout: float,
    normalization: str,
    activation: Activation,
    causal: bool = False,
) -> nn.Sequential:
    """`num_layers` transformer blocks and a final normalisation, initialised for deep stacks.

    Linear layers start Xavier-uniform with zero bias. The last layer of each branch is divided by
    sqrt(2 num_layers), so that the sum of all branches keeps the same scale for any depth.
    `mlp_dim` None means 4 `num_hidden`; `causal` as in `TransformerBlock`.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """
    inner = mlp_dim or 4 * num_hidden
    blocks = [
        TransformerBlock(num_hidden, num_heads, inner, dropout, normalization, activation, causal)
        for _ in range(num_layers)
    ]
    for block in blocks:
        start_linear(block)
        with torch.no_grad():
            for weight in (block.attention.out.weight, block.mlp[-1].weight):
                weight.div_(math.sqrt(2 * num_layers))  # type: ignore[operator]
    return nn.Sequential(*blocks, make_normalization(normalization, num_hidden) or nn.Identity())


def start_linear(module: nn.Module) -> None:
    """Initialises every linear layer of `module`: Xavier-uniform weights, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class Positions(nn.Module):
    """A position code for each cell of a grid.

    Args:
        rows, columns: of the grid.
        num_hidden: width of a code.
        kind: `sincos` (fixed sines and cosines of row and column) or `learned`.

    Raises:
        ConfigError: another kind.
    """

    codes: Tensor

    def __init__(self, rows: int, columns: int, num_hidden: int, kind: str = "sincos") -> None:
        super().__init__()
        if kind not in ("sincos", "learned"):
            near = did_you_mean(kind, ("sincos", "learned"))
            raise ConfigError(f"positions must be 'sincos' or 'learned', not {kind!r}{near}")
        if kind == "sincos":
            # Not stored: it follows from the sizes.
            self.register_buffer("codes", sincos(rows, columns, num_hidden), persistent=False)
        else:
            # Small at the start, as usual for learned codes (BERT, ViT): the content dominates.
            self.codes = nn.Parameter(0.02 * torch.randn(rows * columns, num_hidden))

    def forward(self) -> Tensor:
        """The codes, (N, hidden), row by row."""
        return self.codes


def sincos(rows: int, columns: int, num_hidden: int) -> Tensor:
    """Position codes (rows * columns, num_hidden), -1..1: sines and cosines of row, then column.

    Wavelengths grow geometrically from 2 pi to 2 pi * 10,000 cells. If four does not divide
    `num_hidden`, the last numbers are 0.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, once for each axis.
    """
    num = num_hidden // 4
    # (num,): a quarter of the width each for sines and cosines of row and column.
    rates = 10_000.0 ** (-torch.arange(num) / max(1, num))
    down = (torch.arange(rows)[:, None] * rates).repeat_interleave(columns, 0)  # (N, num)
    right = (torch.arange(columns)[:, None] * rates).repeat(rows, 1)  # (N, num)
    codes = torch.cat([down.sin(), down.cos(), right.sin(), right.cos()], dim=1)
    return F.pad(codes, (0, num_hidden - 4 * num))

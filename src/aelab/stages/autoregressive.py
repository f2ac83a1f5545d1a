"""Autoregressive models of codebook indices: each index given those before it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.models.attention import make_blocks, refuse_heads
from aelab.models.shapes import image_shape
from aelab.stages.denoising import NoisePosterior
from aelab.stages.medium import Codes
from aelab.types import Output, TermSpec

#: Latent numbers stay within this many standard deviations, where float32 keeps their order.
_FAR = 5.0


class _Autoregressive(nn.Module, ABC):
    """A distribution of L = C H W indices as a product of conditional ones.

    Its latent are L numbers, one for each index: the number's share of the standard normal
    distribution selects the index from its conditional distribution. So normal noise is decoded
    to samples, and indices are encoded to the middle of their share.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "shape"})
    medium = Codes()
    noise_shape: tuple[int, ...] | None = None

    def __init__(self, shape: Sequence[int], codebook_size: int) -> None:
        super().__init__()
        self.shape = image_shape(shape, type(self).__name__)
        self.codebook_size = int(codebook_size)
        if self.codebook_size < 2:
            raise ConfigError(
                f"{type(self).__name__}: codebook_size is {codebook_size}; at least 2"
            )
        self.length = math.prod(self.shape)
        self.terms = (TermSpec("code_nll", "code_nll"),)

    @abstractmethod
    def logits(self, index: Tensor) -> Tensor:
        """Indices (B, L) -> logits (B, L, K); those of place l depend on places before l only."""

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Indices (B, C, H, W) as floats -> likeliest ones given the true ones before, latent."""
        index = self._index(images)
        logits = self.logits(index)
        latent = self._to_normal(logits.detach(), index)
        likeliest = self._images(logits.detach().argmax(-1))
        return Output(likeliest, latent, NoisePosterior(latent), {"code_logits": logits})

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Indices (B, C, H, W) as floats -> normal numbers (B, L)."""
        index = self._index(images)
        return self._to_normal(self.logits(index), index)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Normal numbers (B, L) -> indices (B, C, H, W) as floats; L passes of the network."""
        share = torch.special.ndtr(latent.double())  # (B, L)
        index = torch.zeros(latent.shape, dtype=torch.int64, device=latent.device)
        for place in range(self.length):
            ends = self._ends(self.logits(index)[:, place])  # (B, K)
            chosen = (share[:, place : place + 1] > ends).sum(-1)
            index[:, place] = chosen.clamp(max=self.codebook_size - 1)
        return self._images(index)

    def _ends(self, logits: Tensor) -> Tensor:
        """The end of each entry's share of 0..1, (..., K) float64."""
        return logits.double().softmax(-1).cumsum(-1)

    def _to_normal(self, logits: Tensor, index: Tensor) -> Tensor:
        """The normal numbers in the middle of the indices' shares, (B, L)."""
        ends = F.pad(self._ends(logits), (1, 0))  # (B, L, K + 1)
        low, high = (ends.gather(-1, (index + more)[..., None])[..., 0] for more in (0, 1))
        number: Tensor = torch.special.ndtri((low + high) / 2)
        return number.clamp(-_FAR, _FAR).float()

    def _index(self, images: Tensor) -> Tensor:
        """(B, C, H, W) floats -> (B, L) int64: row by row, the channels of a pixel together."""
        index = images.round().long().movedim(1, 3).flatten(1)
        # One wait for the device; an index outside would end in an error of torch without a name.
        if not index.is_meta and not (
            0 <= int(index.min()) and int(index.max()) < self.codebook_size
        ):
            raise ShapeError(
                f"{type(self).__name__}: the indices are {int(index.min())} to "
                f"{int(index.max())}, but codebook_size is {self.codebook_size}",
                hint=f"use codebook_size={int(index.max()) + 1} or more: the size of the first "
                "run's largest codebook",
            )
        return index

    def _images(self, index: Tensor) -> Tensor:
        channels, height, width = self.shape
        return index.reshape(-1, height, width, channels).movedim(3, 1).float()

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"shape={self.shape}, codebook_size={self.codebook_size}"


class CodeTransformer(_Autoregressive):
    """A small causal transformer over the indices of an image, row by row.

    Args:
        shape: (C, H, W) of the indices, as `latents_of` gives them.
        codebook_size: K, entries of the largest codebook.
        num_hidden: width of a token.
        num_layers: transformer blocks.
        num_heads: divides `num_hidden`.
        dropout: probability on attention and on both branches, 0..1.

    Raises:
        ConfigError: a codebook with less than two entries.
        ShapeError: `num_heads` does not divide `num_hidden`; or an index outside of the codebook.

    Source: Esser et al. 2021, arXiv:2012.09841, section 3.2.
    """

    def __init__(
        self,
        shape: Sequence[int],
        codebook_size: int,
        num_hidden: int = 96,
        num_layers: int = 3,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(shape, codebook_size)
        refuse_heads(num_hidden, num_heads, "CodeTransformer")
        #: The last row stands before the first index.
        self.tokens = nn.Embedding(self.codebook_size + 1, num_hidden)
        self.places = nn.Parameter(0.02 * torch.randn(self.length, num_hidden))
        self.blocks = make_blocks(
            num_layers, num_hidden, num_heads, None, dropout, "layernorm", "gelu", causal=True
        )
        self.end = nn.Linear(num_hidden, self.codebook_size)

    def logits(self, index: Tensor) -> Tensor:
        """Indices (B, L) -> logits (B, L, K)."""
        before = F.pad(index[:, :-1], (1, 0), value=self.codebook_size)
        result: Tensor = self.end(self.blocks(self.tokens(before) + self.places))
        return result


class _GatedBlock(nn.Module):
    """Convolutions over the rows above and over the places to the left, with gates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.above = nn.Conv2d(width, 2 * width, (2, 3))
        self.left = nn.Conv2d(width, 2 * width, (1, 2))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Two maps (B, width, H, W) -> the same."""
        # Padding on one side only: a place sees no later one.
        up = self.above(F.pad(above, (1, 1, 1, 0)))
        aside = self.left(F.pad(left, (1, 0))) + self.across(up)
        return above + _gated(up), left + self.out(_gated(aside))


class PixelCNN(_Autoregressive):
    """Gated convolutions over a map of indices, in two stacks without a blind spot.

    Args:
        shape: (1, H, W) of the indices.
        codebook_size: K, entries of the codebook.
        width: channels.
        blocks: gated blocks; each sees one row and one place further.

    Raises:
        ConfigError: several indices at one place, or a codebook with less than two entries.
        ShapeError: an index outside of the codebook.

    Source: van den Oord et al. 2016, arXiv:1606.05328, section 2; as a prior over codes: van den
        Oord et al. 2017, arXiv:1711.00937, section 3.3.
    """

    def __init__(
        self, shape: Sequence[int], codebook_size: int, width: int = 64, blocks: int = 6
    ) -> None:
        super().__init__(shape, codebook_size)
        if self.shape[0] != 1:
            raise ConfigError(
                f"PixelCNN: the codes have {self.shape[0]} indices at each place, it takes one",
                hint="use CodeTransformer, which takes any number",
            )
        self.tokens = nn.Embedding(self.codebook_size, width)
        self.blocks = nn.ModuleList(_GatedBlock(width) for _ in range(blocks))
        self.end = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, self.codebook_size, 1),
        )  # fmt: skip

    def logits(self, index: Tensor) -> Tensor:
        """Indices (B, L) -> logits (B, L, K)."""
        _, height, width = self.shape
        entries = self.tokens(index).movedim(2, 1).reshape(len(index), -1, height, width)
        # Shifted by one: from here on a place may see its own row, and its own place.
        above = F.pad(entries, (0, 0, 1, 0))[:, :, :-1]
        left = F.pad(entries, (1, 0))[..., :-1]
        for block in self.blocks:
            above, left = block(above, left)
        result: Tensor = self.end(left).flatten(2).movedim(1, 2)
        return result


def _gated(values: Tensor) -> Tensor:
    """tanh of the first half of the channels, times the sigmoid of the second."""
    first, second = values.chunk(2, 1)
    return first.tanh() * second.sigmoid()

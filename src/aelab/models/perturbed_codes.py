"""A quantizer that is trained with noise of a level's width in place of rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.quantizers import from_vectors, straight_through, to_vectors
from aelab.models.shapes import shape_words
from aelab.posteriors import CodePosterior

#: Distribution functions that map any number to 0..1.
_CURVES = ("logistic", "normal")
#: Standard deviation of the uniform distribution on 0..1.
_UNIFORM_STD = 1 / math.sqrt(12)


class FSP(nn.Module):
    """Finite scalar perturbation: as `FSQ`, but trained with noise in place of rounding.

    A distribution function maps each number to 0..1, which is split into equal levels. In training
    uniform noise, half a level to each side, is added; noise that would leave 0..1 is left out.
    Without noise the number becomes the middle of its level. The latent is scaled to mean 0 and
    variance 1 for evenly used levels. Features should have about unit scale, as after
    `nn.LayerNorm`; the paper's penalties on their moments are left out for it.

    Args:
        shape: of one image's features, a number or (C, h, w); as many random numbers are drawn.
        levels: number of levels for each number of a vector, at least 2.
        curve: the distribution function: `logistic` (of scale 1/2, so 1/2 + tanh/2) or `normal`.

    Attributes:
        codebook_size: product of the levels.
        dims: numbers in a vector.

    Raises:
        ConfigError: fewer than 2 levels, or another curve.
        ShapeError: in `forward`, if the features have another shape, or cannot be cut into vectors.

    Source: arXiv:2602.17133 (finite scalar perturbation), as in vector-quantize-pytorch.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"codebook_size", "dims", "levels", "lookup", "noise_shape"}
    )

    counts: Tensor
    steps: Tensor

    def __init__(
        self,
        shape: int | Sequence[int],
        levels: Sequence[int] = (8, 5, 5, 5),
        curve: Literal["logistic", "normal"] = "logistic",
    ) -> None:
        super().__init__()
        self.levels = tuple(int(count) for count in levels)
        if not self.levels or min(self.levels) < 2:
            raise ConfigError(f"FSP: every number needs at least 2 levels, not {self.levels}")
        if curve not in _CURVES:
            raise ConfigError(f"FSP: curve is {curve!r}; possible: {', '.join(_CURVES)}")
        self.curve = curve
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        self.noise_shape: tuple[int, ...] | None = tuple(int(size) for size in sizes)
        self.dims, self.codebook_size = len(self.levels), math.prod(self.levels)
        self.codebooks = {"": self.codebook_size}
        counts = torch.tensor(self.levels, dtype=torch.float32)
        steps = [math.prod(self.levels[:position]) for position in range(self.dims)]
        self.register_buffer("counts", counts, persistent=False)
        #: Place values: the index is the sum of level * step over the numbers of a vector.
        self.register_buffer("steps", torch.tensor(steps), persistent=False)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, CodePosterior]:
        """Features (B, ...), normal noise of their shape or None -> latent (B, ...), index (B, n).

        With noise the gradient is that of the curve; without, rounding passes it unchanged.
        """
        if features.shape[1:] != self.noise_shape:
            raise ShapeError(
                f"FSP: the encoder gives {shape_words(features.shape[1:])}, "
                f"but {shape_words(self.noise_shape or ())} were declared",
                hint=f"use {tuple(features.shape[1:])} as shape",
            )
        vectors = to_vectors(features, self.dims, "FSP").float()  # (B, n, dims)
        if self.curve == "normal":
            share = torch.special.ndtr(vectors)
        else:
            share = (2 * vectors).sigmoid()
        # minimum: a share of 1, after rounding of large features, belongs to the last level.
        digits = torch.minimum((share.detach() * self.counts).floor(), self.counts - 1)
        index = (digits.long() * self.steps).sum(dim=-1)
        if noise is None:
            share = straight_through(share, (digits + 0.5) / self.counts)
        else:
            uniform = torch.special.ndtr(to_vectors(noise, self.dims, "FSP").float())
            moved = share + (uniform - 0.5) / self.counts  # half a level to each side
            share = torch.where((moved > 0) & (moved < 1), moved, share)
        latent = (share - 0.5) / _UNIFORM_STD
        return from_vectors(latent, features.shape), CodePosterior(index)

    def lookup(self, index: Tensor) -> Tensor:
        """Entries of the codebook: index (B, n), 0..K-1 -> (B, n, dims)."""
        digits = index[..., None] // self.steps % self.counts.long()
        return ((digits + 0.5) / self.counts - 0.5) / _UNIFORM_STD

    def extra_repr(self) -> str:
        """Levels, for `print(model)`."""
        return f"levels={self.levels}"

"""Quantizers without a table: the signs of the features are the code."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.models.quantizers import from_vectors, straight_through, to_vectors
from aelab.posteriors import BinaryPosterior
from aelab.types import TermSpec


class _Signs(nn.Module):
    """Signs of vectors of `dims` numbers; a subclass says how they are prepared and scaled."""

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "dims", "lookup"})

    noise_shape: tuple[int, ...] | None = None

    def __init__(
        self, dims: int, entropy_weight: float, diversity: float, sharpness: float
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if not 1 <= int(dims) <= 62:  # an index is a number of 63 bits
            raise ConfigError(f"{owner}: dims is {dims}; possible: 1..62")
        if sharpness <= 0 or diversity < 0:
            raise ConfigError(
                f"{owner}: sharpness must be above 0 and diversity at least 0, "
                f"not {sharpness} and {diversity}"
            )
        self.dims, self.codebook_size = int(dims), 2 ** int(dims)
        self.codebooks = {"": self.codebook_size}
        self.diversity, self.sharpness = float(diversity), float(sharpness)
        self.terms = (
            (TermSpec("code_entropy", "code_entropy", float(entropy_weight)),)
            if entropy_weight
            else ()
        )
        self.register_buffer("powers", 2 ** torch.arange(self.dims), persistent=False)

    powers: Tensor

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, BinaryPosterior]:
        """Features (B, ...) -> latent of the same shape, index (B, n) and penalties (B,)."""
        vectors = self._before(to_vectors(features, self.dims, type(self).__name__).float())
        size = self._size()
        bits = vectors.detach() > 0  # (B, n, dims)
        entries = torch.where(bits, size, -size)
        index = (bits * self.powers).sum(-1)  # (B, n)
        # P(bit = 1) of a softmax over the entries at -sharpness * distance^2: the cross terms are
        # 4 * size * feature apart, and the bits are independent (BSQ, equation 10).
        logits = 4 * self.sharpness * size * vectors
        certain = _bernoulli_entropy(logits).sum(-1).mean(1)  # (B,) nats a vector
        share = logits.sigmoid().mean((0, 1))  # (dims,): use of each bit over the batch
        varied = _entropy_of(share).sum()
        entropy = certain - self.diversity * varied
        commitment = (vectors - entries).square().mean((1, 2))
        latent = straight_through(vectors, entries)
        return from_vectors(latent, features.shape), BinaryPosterior(index, commitment, entropy)

    def lookup(self, index: Tensor) -> Tensor:
        """Index (B, n), 0..2^dims - 1 -> entries (B, n, dims)."""
        bits = index[..., None] // self.powers % 2
        return (2.0 * bits - 1.0) * self._size()

    def _before(self, vectors: Tensor) -> Tensor:
        return vectors

    def _size(self) -> float:
        return 1.0

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"dims={self.dims}"


class LFQ(_Signs):
    """Lookup-free quantization: each number becomes its sign, so that `dims` bits are an entry.

    Nothing is learned and nothing is searched. The term `code_entropy` makes single choices sure
    and all choices together varied; with independent bits both are sums over the bits.

    Args:
        dims: bits of an entry; features are cut into vectors of so many, in the way of `VQ`.
        entropy_weight: of the term `code_entropy`; 0 leaves it out. The default suits a
            reconstruction that is a mean over pixels of 0..1.
        diversity: weight of the variety of all choices against the sureness of single ones.
        sharpness: inverse temperature of the choice in that term.

    Attributes:
        codebook_size: 2^dims.

    Raises:
        ConfigError: an option that makes no sense.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Yu et al. 2023, arXiv:2310.05737, section 3.2 (MAGVIT-v2).
    """

    def __init__(
        self,
        dims: int = 8,
        entropy_weight: float = 0.001,
        diversity: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(dims, entropy_weight, diversity, sharpness)


class BSQ(_Signs):
    """Binary spherical quantization: vectors are brought to length 1, then to the nearest corner.

    Args:
        dims: bits of an entry; features are cut into vectors of so many, in the way of `VQ`.
        entropy_weight: of the term `code_entropy`; 0 leaves it out. The default suits a
            reconstruction that is a mean over pixels of 0..1.
        diversity: weight of the variety of all choices against the sureness of single ones.
        sharpness: inverse temperature of the choice in that term.

    Attributes:
        codebook_size: 2^dims.

    Raises:
        ConfigError: an option that makes no sense.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Zhao et al. 2024, arXiv:2406.07548, section 3.
    """

    def __init__(
        self,
        dims: int = 8,
        entropy_weight: float = 0.001,
        diversity: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(dims, entropy_weight, diversity, sharpness)

    def _before(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)

    def _size(self) -> float:
        return 1 / math.sqrt(self.dims)  # corners of the cube lie on the unit sphere


def _bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of a coin of probability sigmoid(logits), of the same shape."""
    # softplus(x) - x sigmoid(x), which is even in x.
    return F.softplus(logits) - logits * logits.sigmoid()


def _entropy_of(share: Tensor) -> Tensor:
    """Entropy in nats of coins of these probabilities."""
    p = share.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * torch.log1p(-p))

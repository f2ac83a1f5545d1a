"""Quantizers without a codebook table: the code is the signs of the features."""

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
    """Quantizes vectors of `dims` numbers to their signs; subclasses prepare and scale them."""

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "dims", "lookup"})

    noise_shape: tuple[int, ...] | None = None
    fixed_entries: ClassVar[bool] = True

    def __init__(
        self,
        dims: int = 8,
        entropy_weight: float = 0.001,
        diversity: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if not 1 <= int(dims) <= 62:  # an index is an int64
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
        # detach: the sign has no gradient; `straight_through` passes it on.
        bits = vectors.detach() > 0  # (B, n, dims), bool
        entries = torch.where(bits, size, -size)
        index = (bits * self.powers).sum(-1)  # (B, n)
        # Logits of the bits in a softmax over entries with logits -sharpness * distance^2. The
        # bits are independent, because the distance is a sum over them (BSQ, equation 10).
        logits = 4 * self.sharpness * size * vectors
        certain = _bernoulli_entropy(logits).sum(-1).mean(1)  # (B,) nats per vector
        share = logits.sigmoid().mean((0, 1))  # (dims,): use of each bit over the batch
        # A sum over bits is the entropy of all entries only because the bits count as independent.
        varied = _entropy_of(share).sum()
        entropy = certain - self.diversity * varied
        commitment = (vectors - entries).square().mean((1, 2))
        latent = straight_through(vectors, entries)
        return from_vectors(latent, features.shape), BinaryPosterior(index, commitment, entropy)

    def lookup(self, index: Tensor) -> Tensor:
        """Index (B, n), 0..2^dims - 1 -> entries (B, n, dims)."""
        # (B, n, dims): the binary digits of the index, the lowest first.
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
    """Lookup-free quantization: each number becomes its sign; an entry has `dims` bits.

    There is no codebook to learn or to search. The term `code_entropy` lowers the entropy of each
    choice and raises that of all choices together; bits are independent, so both are sums of bits.

    Args:
        dims: bits of an entry; features are split into vectors of `dims` numbers, as in `VQ`.
        entropy_weight: of the term `code_entropy`; 0: no such term. The default fits a
            reconstruction loss that is a mean over pixels in 0..1.
        diversity: weight of the entropy of all choices, relative to that of single choices.
        sharpness: inverse temperature of the choices in that term.

    Attributes:
        codebook_size: 2^dims.

    Raises:
        ConfigError: an invalid option.
        ShapeError: in `forward`, if features cannot be split into vectors of `dims`.

    Source: Yu et al. 2023, arXiv:2310.05737, section 3.2 (MAGVIT-v2).
    """


class BSQ(_Signs):
    """Binary spherical quantization: vectors are scaled to length 1, then to the nearest corner.

    Args:
        dims: bits of an entry; features are split into vectors of `dims` numbers, as in `VQ`.
        entropy_weight: of the term `code_entropy`; 0: no such term. The default fits a
            reconstruction loss that is a mean over pixels in 0..1.
        diversity: weight of the entropy of all choices, relative to that of single choices.
        sharpness: inverse temperature of the choices in that term.

    Attributes:
        codebook_size: 2^dims.

    Raises:
        ConfigError: an invalid option.
        ShapeError: in `forward`, if features cannot be split into vectors of `dims`.

    Source: Zhao et al. 2024, arXiv:2406.07548, section 3.
    """

    def _before(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)

    def _size(self) -> float:
        return 1 / math.sqrt(self.dims)  # so that the corners of the cube lie on the unit sphere


def _bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy of Bernoulli variables with the given logits, in nats, of the same shape."""
    # softplus(x) - x sigmoid(x): equal to -p ln p - (1 - p) ln(1 - p), and stable for large |x|.
    return F.softplus(logits) - logits * logits.sigmoid()


def _entropy_of(share: Tensor) -> Tensor:
    """Entropy of Bernoulli variables with the given probabilities, in nats."""
    p = share.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * torch.log1p(-p))

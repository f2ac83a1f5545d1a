"""A quantizer whose projection and codebook are random and are never trained."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.models.quantizers import (
    commitment_terms,
    from_vectors,
    in_full_precision,
    nearest_entries,
    straight_through,
    to_vectors,
)
from aelab.posteriors import LearnedCodePosterior


class RandomProjection(nn.Module):
    """Random-projection quantization: the entry nearest to a fixed random projection of a vector.

    Each vector is brought to mean 0 and variance 1, projected to `entry_dims` numbers, scaled to
    length 1, and replaced by the nearest of `codebook_size` random entries of length 1. Projection
    and entries stay as they are drawn; only the encoder learns. The paper makes labels from sound
    with it. Here the latent consists of the entries, so that a decoder can use it: for each vector
    of `dims` numbers, `entry_dims` numbers. Put `nn.BatchNorm1d(n, affine=False)` between encoder
    and quantizer: the features of an untrained encoder point in nearly the same direction for all
    images, and would all get the same entry.

    Args:
        codebook_size: K, number of entries.
        dims: numbers in a vector, at least 2; features are split as in `VQ`.
        entry_dims: numbers in an entry, at least 2.
        commitment_weight: of a loss term `commitment`, which keeps projected vectors near their
            entries; 0: no such term. It can keep all images at one entry.

    Attributes:
        projection: (dims, entry_dims).
        codebook: (K, entry_dims), entries of length 1.
        codebook_size, dims, entry_dims: as given.

    Raises:
        ConfigError: a size that is too small.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Chiu et al. 2022, arXiv:2202.01855, equation 1 and section 3.1 (BEST-RQ).
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"codebook_size", "dims", "entry_dims", "lookup"}
    )

    noise_shape: tuple[int, ...] | None = None
    projection: Tensor
    codebook: Tensor

    def __init__(
        self,
        codebook_size: int = 512,
        dims: int = 8,
        entry_dims: int = 4,
        commitment_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if int(codebook_size) < 1 or int(dims) < 2 or int(entry_dims) < 2:
            raise ConfigError(
                "RandomProjection: codebook_size must be at least 1, dims and entry_dims at least "
                f"2, not {codebook_size}, {dims} and {entry_dims}"
            )
        self.codebook_size = int(codebook_size)
        self.dims, self.entry_dims = int(dims), int(entry_dims)
        self.codebooks = {"": self.codebook_size}
        self.terms = commitment_terms(commitment_weight)
        projection = nn.init.xavier_normal_(torch.empty(self.dims, self.entry_dims))
        entries = F.normalize(torch.randn(self.codebook_size, self.entry_dims), dim=1)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", entries)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, LearnedCodePosterior]:
        """Features (B, ...) -> entries in place of vectors, commitment (B,) and index (B, n).

        The gradient of an entry is passed to the projected vector unchanged (straight-through).
        """
        vectors = to_vectors(features, self.dims, "RandomProjection").float()  # (B, n, dims)
        vectors = F.layer_norm(vectors, (self.dims,))
        with in_full_precision(vectors):
            projected = F.normalize(vectors @ self.projection, dim=-1)  # (B, n, entry_dims)
        index = nearest_entries(projected, self.codebook)  # (B, n)
        entries = self.codebook[index]
        commitment = (projected - entries).square().mean(dim=(1, 2))
        latent = straight_through(projected, entries)
        shape = list(features.shape)
        axis = 1 if len(shape) == 4 else -1
        shape[axis] = shape[axis] // self.dims * self.entry_dims
        return from_vectors(latent, torch.Size(shape)), LearnedCodePosterior(index, commitment)

    def lookup(self, index: Tensor) -> Tensor:
        """Entries of the codebook: index (B, n), 0..K-1 -> (B, n, entry_dims)."""
        return self.codebook[index]

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"codebook_size={self.codebook_size}, dims={self.dims}, entry_dims={self.entry_dims}"

"""`SimVQ`, from the package vector-quantize-pytorch (extra `vq`)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import MissingExtra
from aelab.models.quantizers import (
    commitment_terms,
    from_vectors,
    in_full_precision,
    nearest_entries,
    to_vectors,
)
from aelab.posteriors import LearnedCodePosterior


class SimVQ(nn.Module):
    """Vector quantization whose entries are a linear map of fixed random vectors.

    The optimiser changes all entries together through that map, so that none becomes unused; there
    is no moving average. Features are split into vectors as in `VQ`. Features get gradients by the
    rotation trick.

    Args:
        codebook_size: K, number of entries.
        dims: numbers in an entry.
        commitment_weight: of the default loss term `commitment`, which trains the entries; must be
            above 0 for this.
        pull: weight of pulling features to entries, relative to pulling entries to features.

    Attributes:
        codebook_size, dims: as given.

    Raises:
        MissingExtra: vector-quantize-pytorch is not installed.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Zhu et al. 2024, arXiv:2411.02038; rotation trick: Fifty et al. 2024, arXiv:2410.06424.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "dims", "lookup"})

    noise_shape: tuple[int, ...] | None = None
    fixed_entries: ClassVar[bool] = False

    def __init__(
        self,
        codebook_size: int = 512,
        dims: int = 8,
        commitment_weight: float = 1.0,
        pull: float = 0.25,
    ) -> None:
        super().__init__()
        try:
            import vector_quantize_pytorch as library
        except ImportError:
            raise MissingExtra("SimVQ", "vector-quantize-pytorch", "vq") from None
        self.codebook_size, self.dims, self.pull = int(codebook_size), int(dims), float(pull)
        self.codebooks = {"": self.codebook_size}
        self.terms = commitment_terms(commitment_weight)
        self.quantizer = library.SimVQ(dim=self.dims, codebook_size=self.codebook_size)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, LearnedCodePosterior]:
        """Features (B, ...) -> latent of the same shape, and commitment (B,) and index (B, n)."""
        from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

        vectors = to_vectors(features, self.dims, "SimVQ").float()  # (B, n, dims)
        with in_full_precision(vectors):
            codebook: Tensor = self.quantizer.codebook
            # As the library's `forward`, except for its search by `torch.cdist`, which is
            # inaccurate if features are far from zero.
            index = nearest_entries(vectors, codebook)
            entries = codebook[index]
            latent: Tensor = rotate_to(vectors, entries)
        # The library's loss, but for each image instead of the batch.
        learned = (vectors.detach() - entries).square().mean(dim=(1, 2))
        pulled = (vectors - entries.detach()).square().mean(dim=(1, 2))
        posterior = LearnedCodePosterior(index, learned + self.pull * pulled)
        return from_vectors(latent, features.shape), posterior

    def lookup(self, index: Tensor) -> Tensor:
        """Index (B, n), 0..K-1 -> entries (B, n, dims)."""
        entries: Tensor = self.quantizer.codebook[index]
        return entries

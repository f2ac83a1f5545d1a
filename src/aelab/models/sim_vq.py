"""`SimVQ`, from the package vector-quantize-pytorch, which the extra `vq` brings."""

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
    """Vector quantization with entries that are one linear map of fixed random vectors.

    The optimiser moves all entries at once through that map, so that none can die; there is no
    moving average. Features are cut into vectors in the way of `VQ`. Gradients reach the features
    by the rotation trick.

    Args:
        codebook_size: K, number of entries.
        dims: numbers in an entry.
        commitment_weight: of the wished-for term `commitment`, from which the entries learn; it
            must be above 0 for that.
        pull: how strongly the term pulls features to entries, against entries to features.

    Attributes:
        codebook_size, dims: as given.

    Raises:
        MissingExtra: vector-quantize-pytorch is not installed.
        ShapeError: in `forward`, if features cannot be cut into vectors of `dims`.

    Source: Zhu et al. 2024, arXiv:2411.02038; rotation trick: Fifty et al. 2024, arXiv:2410.06424.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"codebook_size", "dims", "lookup"})

    noise_shape: tuple[int, ...] | None = None

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
            # As the library's own `forward`, but for its search by `torch.cdist`, which loses
            # entries where features are far from zero.
            index = nearest_entries(vectors, codebook)
            entries = codebook[index]
            latent: Tensor = rotate_to(vectors, entries)
        # The library's loss, for each image instead of for the batch.
        learned = (vectors.detach() - entries).square().mean(dim=(1, 2))
        pulled = (vectors - entries.detach()).square().mean(dim=(1, 2))
        posterior = LearnedCodePosterior(index, learned + self.pull * pulled)
        return from_vectors(latent, features.shape), posterior

    def lookup(self, index: Tensor) -> Tensor:
        """Index (B, n), 0..K-1 -> entries (B, n, dims)."""
        entries: Tensor = self.quantizer.codebook[index]
        return entries

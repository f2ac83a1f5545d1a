"""Codes of many dimensions as points of the plane."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from aelab.errors import MissingExtra, ShapeError
from aelab.metrics.baseline import fit_pca

#: How a map can be made.
METHODS = ("pca", "tsne", "umap")


def pca_map(codes: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """(N, D) -> (N, 2) along the two principal components, and their shares of the variance."""
    if codes.shape[1] == 1:
        return torch.cat([codes, torch.zeros_like(codes)], 1), (1.0, 0.0)
    pca = fit_pca(codes, 2)
    total = codes.double().var(0).sum().clamp(min=1e-12).item()
    first, second = (value / total for value in pca.variance.tolist())
    return pca.project(codes), (first, second)


def tsne_map(codes: Tensor, seed: int, perplexity: float = 30.0) -> Tensor:
    """(N, D) -> (N, 2) by t-SNE; starts from PCA, so that maps of like codes look alike.

    Args:
        codes: N above 3.
        seed: of the random numbers.
        perplexity: effective number of neighbours; at most (N - 1) / 3.

    Raises:
        MissingExtra: scikit-learn is not installed.

    Source: van der Maaten & Hinton 2008, JMLR 9.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise MissingExtra("a t-SNE map", "scikit-learn", "latents") from None
    _enough(codes)
    method = TSNE(
        perplexity=min(perplexity, (len(codes) - 1) / 3), init="pca", random_state=seed, n_jobs=1
    )
    return torch.from_numpy(method.fit_transform(codes.double().numpy())).float()


def umap_map(codes: Tensor, seed: int, neighbours: int = 15) -> Tensor:
    """(N, D) -> (N, 2) by UMAP.

    Raises:
        MissingExtra: umap-learn is not installed.

    Source: McInnes et al. 2018, arXiv:1802.03426.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its libraries, about versions to come
            from umap import UMAP
    except ImportError:
        raise MissingExtra("a UMAP map", "umap-learn", "latents") from None
    _enough(codes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, which is meant
        method = UMAP(n_neighbors=min(neighbours, len(codes) - 1), random_state=seed, n_jobs=1)
        return torch.from_numpy(method.fit_transform(codes.numpy())).float()


def _enough(codes: Tensor) -> None:
    if len(codes) < 4:
        raise ShapeError(f"a map needs at least 4 codes, not {len(codes)}")

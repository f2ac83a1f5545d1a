"""Two-dimensional maps of codes: PCA, t-SNE and UMAP."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from aelab.errors import MissingExtra, ShapeError
from aelab.metrics.baseline import fit_pca

#: Names of the methods for a map.
METHODS = ("pca", "tsne", "umap")


def same_place(codes: Tensor) -> bool:
    """Whether all (N, D) codes are one point, within the precision of float32."""
    values = codes.double()
    spread = (values - values.mean(0)).abs().amax() if values.numel() else torch.zeros(())
    # 1e-7 is about half the relative precision of float32 (1.2e-7).
    return bool(spread <= 1e-7 * values.abs().amax()) if values.numel() else True


def pca_map(codes: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The codes along two principal components, (N, D) -> (N, 2), and the shares of variance.

    If there are fewer than two components (one or two images, one dimension, codes on a line), the
    missing coordinates are 0. Codes that are all equal are all at 0.
    """
    points = torch.zeros(len(codes), 2)
    if len(codes) < 2 or same_place(codes):
        return points, (0.0, 0.0)
    values = codes.double() - codes.double().mean(0)
    pca = fit_pca(values, 2)
    found = len(pca.variance)
    # Fewer than two components leave the other coordinates at 0.
    points[:, :found] = pca.project(values.float())
    shares = (pca.variance.double() / values.var(0).sum()).tolist()
    first, second = [*shares, 0.0][:2]
    return points, (first, second)


def tsne_map(codes: Tensor, seed: int, perplexity: float = 30.0) -> Tensor:
    """A t-SNE map, (N, D) -> (N, 2); starts from PCA, so that similar codes give similar maps.

    Args:
        codes: N above 3; codes that are all equal are all at 0.
        seed: seed of t-SNE.
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
    values = _moderate(codes)
    if values is None:
        return torch.zeros(len(codes), 2)
    method = TSNE(
        perplexity=min(perplexity, (len(codes) - 1) / 3), init="pca", random_state=seed, n_jobs=1
    )
    return torch.from_numpy(method.fit_transform(values.numpy())).float()


def umap_map(codes: Tensor, seed: int, neighbours: int = 15) -> Tensor:
    """A UMAP map, (N, D) -> (N, 2).

    Raises:
        MissingExtra: umap-learn is not installed.

    Source: McInnes et al. 2018, arXiv:1802.03426.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of its libraries
            from umap import UMAP
    except ImportError:
        raise MissingExtra("a UMAP map", "umap-learn", "latents") from None
    _enough(codes)
    values = _moderate(codes)
    if values is None:
        return torch.zeros(len(codes), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that a seed means one thread, which is intended
        method = UMAP(n_neighbors=min(neighbours, len(codes) - 1), random_state=seed, n_jobs=1)
        return torch.from_numpy(method.fit_transform(values.float().numpy())).float()


def _moderate(codes: Tensor) -> Tensor | None:
    """Codes with mean 0 and spread 1, float64; None if all codes are one point.

    t-SNE divides its initial positions by their deviation. For equal codes that is 0, and its
    compiled loop then writes out of bounds and crashes the process. It also needs two dimensions.
    """
    if same_place(codes):
        return None
    values = codes.double() - codes.double().mean(0)
    values = values / values.square().mean().sqrt()
    return torch.cat([values, torch.zeros_like(values)], 1) if values.shape[1] == 1 else values


def _enough(codes: Tensor) -> None:
    if len(codes) < 4:
        raise ShapeError(
            f"a map by t-SNE or UMAP needs at least 4 images, not {len(codes)}",
            hint="method=pca takes any number",
        )

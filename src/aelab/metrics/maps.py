"""Codes of many dimensions as points of the plane."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from aelab.errors import MissingExtra, ShapeError
from aelab.metrics.baseline import fit_pca

#: How a map can be made.
METHODS = ("pca", "tsne", "umap")


def same_place(codes: Tensor) -> bool:
    """Whether all of (N, D) codes are one point, up to what float32 can tell apart there."""
    values = codes.double()
    spread = (values - values.mean(0)).abs().amax() if values.numel() else torch.zeros(())
    return bool(spread <= 1e-7 * values.abs().amax()) if values.numel() else True


def pca_map(codes: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """(N, D) -> (N, 2) along the two principal components, and their shares of the variance.

    Where there are fewer than two (one image or two, one number, codes on a line), the missing ones
    are 0; codes that are all the same are all in one place.
    """
    points = torch.zeros(len(codes), 2)
    if len(codes) < 2 or same_place(codes):
        return points, (0.0, 0.0)
    values = codes.double() - codes.double().mean(0)
    pca = fit_pca(values, 2)
    found = len(pca.variance)
    points[:, :found] = pca.project(values.float())
    shares = (pca.variance.double() / values.var(0).sum()).tolist()
    first, second = [*shares, 0.0][:2]
    return points, (first, second)


def tsne_map(codes: Tensor, seed: int, perplexity: float = 30.0) -> Tensor:
    """(N, D) -> (N, 2) by t-SNE; starts from PCA, so that maps of like codes look alike.

    Args:
        codes: N above 3; all in one place where they are all the same.
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
    values = _moderate(codes)
    if values is None:
        return torch.zeros(len(codes), 2)
    method = TSNE(
        perplexity=min(perplexity, (len(codes) - 1) / 3), init="pca", random_state=seed, n_jobs=1
    )
    return torch.from_numpy(method.fit_transform(values.numpy())).float()


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
    values = _moderate(codes)
    if values is None:
        return torch.zeros(len(codes), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, which is meant
        method = UMAP(n_neighbors=min(neighbours, len(codes) - 1), random_state=seed, n_jobs=1)
        return torch.from_numpy(method.fit_transform(values.float().numpy())).float()


def _moderate(codes: Tensor) -> Tensor | None:
    """Codes about zero with a spread of 1, float64, as the libraries need them; None for one point.

    t-SNE divides its first positions by their deviation: of equal codes by 0, upon which its
    compiled loop leaves its arrays and takes the process along. It also wants two numbers a code.
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

"""PCA as a baseline: the error of a linear code of the same length."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aelab.errors import ShapeError
from aelab.metrics.subject import Subject, flat


class PCA(NamedTuple):
    """Principal components.

    Attributes:
        mean: (P,) of the data.
        components: (D, P), orthonormal rows, the one of largest variance first.
        variance: (D,), of the data along each component.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor

    def project(self, values: Tensor) -> Tensor:
        """Codes of values: (N, P) -> (N, D)."""
        return (values - self.mean) @ self.components.T

    def restore(self, codes: Tensor) -> Tensor:
        """Values of codes: (N, D) -> (N, P)."""
        return codes @ self.components + self.mean


def fit_pca(values: Tensor, size: int) -> PCA:
    """The principal components of (N, P) values; at most N - 1 and at most P of them.

    The sign of each component makes its largest weight positive, so that maps look the same on
    every machine.

    Raises:
        ShapeError: fewer than two values.
    """
    if values.ndim != 2 or len(values) < 2:
        raise ShapeError(f"PCA needs (N, P) values with N of at least 2, not {tuple(values.shape)}")
    # Double precision, for the small eigenvalues.
    values = values.double()
    mean = values.mean(0)
    # The (P, P) covariance, not an SVD of the (N, P) data: here images outnumber pixels.
    covariance = (values - mean).T @ (values - mean) / (len(values) - 1)
    variance, vectors = torch.linalg.eigh(covariance)  # ascending; columns are eigenvectors
    size = min(size, len(values) - 1, values.shape[1])
    components = vectors.flip(1)[:, :size].T
    # (D, 1): the weight of largest magnitude in each component.
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = components * torch.where(largest < 0, -1.0, 1.0)
    return PCA(mean.float(), components.float(), variance.flip(0)[:size].clamp(min=0).float())


def pca_skill(subject: Subject) -> dict[str, float]:
    """Reproduction error relative to that of PCA with a code of the same length.

    `pca_l1`, `pca_l2`: mean errors of the held-out images, clamped to 0..1, for PCA of the training
    images. `skill_l1`, `skill_l2`: 1 - error / PCA error: 0 is equal to a linear code, 1 perfect,
    below 0 worse. For a latent as long as the image PCA is perfect, and the skill is NaN.
    """
    size = subject.codes.shape[1]
    pca = fit_pca(flat(subject.train_images), size)
    target = flat(subject.images)
    linear = pca.restore(pca.project(target)).clamp(0, 1)
    shown = flat(subject.reconstructions).clamp(0, 1)
    values: dict[str, float] = {}
    for name, error in (("l1", torch.abs), ("l2", torch.square)):
        floor, ours = error(linear - target).mean().item(), error(shown - target).mean().item()
        values[f"pca_{name}"] = floor
        # A floor this small is rounding error: the code is as long as the image.
        values[f"skill_{name}"] = 1 - ours / floor if floor > 1e-9 else float("nan")
    return values

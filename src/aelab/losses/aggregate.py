"""Penalties on the latents of a whole batch: distances of their distribution from the prior.

Each returns the value of the batch for every image, as `feature_statistics` does, so a weight has
the same meaning at every batch size. Larger batches give better estimates; each micro-batch is
estimated separately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, one_of
from aelab.losses.draws import numeric_latents, prior_draws, standard_normal
from aelab.types import Images, Output

#: Multiples of the kernel width; their sum has a gradient at small and large distances (WAE).
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd_term(
    output: Output,
    kernel: Literal["imq", "rbf"] = "imq",
    scales: Sequence[float] = SCALES,
    prior_std: float = 1.0,
) -> Tensor:
    """Maximum mean discrepancy of the batch's latents from the prior, squared, summed over scales.

    The unbiased estimate, which can be slightly below 0 if the two distributions are equal.

    Args:
        output: its latent is (B, ...); the prior is the posterior's, or the normal distribution.
        kernel: `imq`, c / (c + |x - y|^2) with c = 2 D prior_std^2 scale; `rbf`,
            exp(-|x - y|^2 / c).
        scales: at least one, above 0.
        prior_std: standard deviation of the prior's dimensions, in units of the latent.

    Returns:
        (B,), the batch's value for each image; at least -14, about -0.1 or more in use.

    Raises:
        ConfigError: the model has no latent of numbers, or an option makes no sense.

    Source: Gretton et al. 2012, JMLR 13, equation 3; Tolstikhin et al. 2018, arXiv:1711.01558,
        algorithm 2 (WAE-MMD) and its kernel; Zhao et al. 2017, arXiv:1706.02262 (InfoVAE, `rbf`).
    """
    if kernel not in ("imq", "rbf"):
        raise ConfigError(f"the term mmd has no kernel {kernel!r}; possible: imq, rbf")
    widths = _positive(scales, "mmd: scales")
    latents = numeric_latents(output, "mmd")  # (B, D)
    prior = prior_draws(output, latents) * prior_std  # (B, D)
    count, dims = latents.shape
    within = squared_distances(latents, latents)  # (B, B), as the two below
    of_prior = squared_distances(prior, prior)
    across = squared_distances(latents, prior)
    total = latents.new_zeros(())
    pairs = max(1, count * (count - 1))  # ordered pairs of different images
    for width in widths:
        c = 2.0 * dims * prior_std**2 * width
        # The diagonal of `within` is k(x, x) = 1 for both kernels: it is left out of the mean.
        similar = _kernel(within, c, kernel).sum() - count
        similar = similar + _kernel(of_prior, c, kernel).sum() - count
        total = total + similar / pairs - 2 * _kernel(across, c, kernel).mean()
    return total.expand(count)


def sliced_wasserstein_term(output: Output, projections: int = 50) -> Tensor:
    """Sliced Wasserstein distance of the batch's latents from the prior, squared.

    Latents and as many draws of the prior are projected on random directions and sorted; the value
    is the mean squared difference.

    Args:
        output: its latent is (B, ...).
        projections: random directions, at least 1.

    Returns:
        (B,), the batch's value for each image; at least 0.

    Raises:
        ConfigError: the model has no latent of numbers, or there is no projection.

    Source: Kolouri et al. 2018, arXiv:1804.01947, equation 15 (SWAE).
    """
    if projections < 1:
        raise ConfigError(f"sliced_wasserstein: projections is {projections}; possible: 1, 2..")
    latents = numeric_latents(output, "sliced_wasserstein")
    prior = prior_draws(output, latents)
    directions = standard_normal((latents.shape[1], int(projections)), latents)  # (D, P)
    directions = directions / directions.norm(dim=0).clamp(min=1e-12)
    ours = (latents @ directions).sort(dim=0).values  # (B, P)
    theirs = (prior @ directions).sort(dim=0).values
    # In one dimension the optimal transport matches the sorted values in order.
    value: Tensor = (ours - theirs).square().mean()
    return value.expand(len(latents))


def dip_term(
    output: Output, kind: Literal[1, 2] = 1, off_diagonal: float = 10.0, diagonal: float = 100.0
) -> Tensor:
    """Distance of the covariance of the latent over a batch from the identity (DIP-VAE).

    off_diagonal * sum_{i != j} C_ij^2 + diagonal * sum_i (C_ii - 1)^2.

    Args:
        output: of a model with a Gaussian latent (`mean`, and for kind 2 `log_std`).
        kind: 1: C is the covariance of the means; 2: that of the latents: the mean variance of the
            posteriors is added to its diagonal.
        off_diagonal, diagonal: the two weights.

    Returns:
        (B,), the batch's value for each image; at least 0. Of one image C is 0.

    Raises:
        ConfigError: the model has no Gaussian latent, or `kind` is another.

    Source: Kumar et al. 2018, arXiv:1711.00848, equations 5 to 7.
    """
    if kind not in (1, 2):
        raise ConfigError(f"dip: kind is {kind!r}; possible: 1, 2")
    mean, log_std = _gaussian(output, "dip")
    centred = mean - mean.mean(0)  # (B, D)
    covariance = centred.T @ centred / len(mean)  # (D, D)
    if kind == 2:
        covariance = covariance + torch.diag((2 * log_std).exp().mean(0))
    own = covariance.diagonal()  # (D,)
    value = off_diagonal * (covariance.square().sum() - own.square().sum())
    return (value + diagonal * (own - 1).square().sum()).expand(len(mean))


class TotalCorrelation(nn.Module):
    """Total correlation of the latent, KL(q(z) || prod_d q(z_d)), estimated from the batch.

    beta-TC-VAE is `objective: {..., kl: 1, total_correlation: beta - 1}`, because the KL already
    contains the total correlation once.

    Args:
        dataset_size: N, images in the training set; None: its actual size.
        estimator: `weighted`, minibatch-weighted sampling; `stratified`, minibatch-stratified
            sampling, which needs a batch of at least two.

    Attributes:
        prepare: called with the training images before the first batch.

    Returns:
        Called with an output, (B,) nats: ln q(z) - sum_d ln q(z_d) of each image's latent.
        The estimate of a single image may lie below 0; at least -10000.

    Raises:
        ConfigError: another estimator; the model has no Gaussian latent.

    Source: Chen et al. 2018, arXiv:1802.04942, equations 4 and 5, appendix C.
    """

    def __init__(
        self,
        dataset_size: int | None = None,
        estimator: Literal["weighted", "stratified"] = "weighted",
    ) -> None:
        super().__init__()
        if estimator not in ("weighted", "stratified"):
            raise ConfigError(
                f"the term total_correlation has no estimator {estimator!r}; "
                f"possible: {one_of(('stratified', 'weighted'))}"
            )
        self.dataset_size = dataset_size
        self.estimator = estimator

    def prepare(self, images: Images) -> None:
        """Sets the number of training images, unless it was given."""
        if self.dataset_size is None:
            self.dataset_size = len(images)

    def forward(self, output: Output) -> Tensor:
        """Values (B,) of an output."""
        mean, log_std = _gaussian(output, "total_correlation")
        latents = numeric_latents(output, "total_correlation")
        count = len(latents)
        size = max(count, self.dataset_size or count)
        # ln q(z_i | image j), for each dimension: (B, B, D). Memory is B * B * D floats.
        apart = (latents[:, None] - mean) * torch.exp(-log_std)  # (B, B, D), in standard deviations
        log_q = -0.5 * apart.square() - log_std - 0.5 * math.log(2 * math.pi)
        weights = self._log_weights(count, size, latents)  # (B, B)
        joint = torch.logsumexp(log_q.sum(2) + weights, 1)  # (B,), ln q(z)
        single = torch.logsumexp(log_q + weights[:, :, None], 1)  # (B, D), ln q(z_d)
        return joint - single.sum(1)

    def _log_weights(self, count: int, size: int, like: Tensor) -> Tensor:
        """Log weight of image j in the estimate for image i, (B, B)."""
        if self.estimator == "weighted" or count < 2:
            return like.new_full((count, count), -math.log(count * size))
        # Chen et al., appendix C.2: the image itself 1/N, one other (N - M) / (N M), others 1/M.
        others = count - 1
        weights = like.new_full((count, count), 1 / others)
        rows = torch.arange(count, device=like.device)
        weights[rows, rows] = 1 / size
        weights[rows, (rows + 1) % count] = max((size - others) / (size * others), 1e-12)
        return weights.log()


def _gaussian(output: Output, term: str) -> tuple[Tensor, Tensor]:
    """Mean and log_std, (B, D), of a Gaussian posterior."""
    mean = getattr(output.posterior, "mean", None)
    log_std = getattr(output.posterior, "log_std", None)
    if mean is None or log_std is None:
        raise ConfigError(
            f"the term {term} needs a Gaussian latent, and this model has none",
            hint="use VariationalAutoencoder, or the bottleneck Gaussian",
        )
    return mean.flatten(1), log_std.flatten(1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances, (n, D), (m, D) -> (n, m). `torch.cdist` has gradient NaN at distance 0."""
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    return (norms - 2 * a @ b.T).clamp(min=0)


def _kernel(squared: Tensor, c: float, kernel: str) -> Tensor:
    return torch.exp(-squared / c) if kernel == "rbf" else c / (c + squared)


def _positive(values: Sequence[float], what: str) -> list[float]:
    numbers = [float(value) for value in values]
    if not numbers or min(numbers) <= 0:
        raise ConfigError(f"{what} must be numbers above 0, not {list(values)}")
    return numbers

"""Losses of the founding documents: the term they called KL, and their `HistogramLoss`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.losses.histograms import histogram
from aelab.losses.names import find_reconstruction
from aelab.losses.reconstruction import per_image
from aelab.losses.soft_counts import check_bins
from aelab.types import Output


def legacy_kl(mean: Tensor, sigma: Tensor, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """The term that the documents' programs called KL, with sigma in place of the log-variance.

    -1/2 sum(1 + sigma - mean^2 - exp(sigma)). Its minimum over sigma > 0 is at sigma -> 0, so the
    latent loses its noise and shrinks. It is no divergence, but is needed to reproduce the
    published numbers.

    Args:
        mean: (B, D), any real.
        sigma: (B, D), standard deviation, above 0.
        reduction: `sum` over the latent, or `mean` over it.

    Returns:
        (B,), above 0, no unit.

    Raises:
        ShapeError: if the two shapes differ.
    """
    if mean.shape != sigma.shape:
        raise ShapeError(
            f"the posterior's mean is {tuple(mean.shape)}, but its spread {tuple(sigma.shape)}"
        )
    # expm1: near the optimum sigma is ~1e-4, where 1 + sigma - exp(sigma) would round to 0.
    return per_image(0.5 * (mean.square() + torch.expm1(sigma) - sigma), reduction)


def legacy_kl_term(output: Output, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """`legacy_kl` of a model's output; (B,), at least 0.

    Raises:
        ConfigError: the posterior is no Gaussian.
    """
    mean, log_std = (getattr(output.posterior, name, None) for name in ("mean", "log_std"))
    if mean is None or log_std is None:
        raise ConfigError(
            "the term legacy_kl needs a Gaussian latent, and this model has none",
            hint="use VariationalAutoencoder, or take the term out of the objective",
        )
    return legacy_kl(mean, torch.exp(log_std), reduction)


class HistogramLoss(nn.Module):
    """Difference of the soft histograms of two batches of images; see `losses.histogram`.

    Args:
        bins, min, max, sigma: of the histograms.
        normalize: True (by H * W), a number p (by the p-norm of the output's histogram), or False.
        loss: name of any reconstruction loss, applied to the histograms (B, C, bins).

    Raises:
        ConfigError: unknown loss, no bin, an empty range.

    Source: document 000, 2023-12-08.
    """

    of_unit_images = True

    def __init__(
        self,
        bins: int,
        min: float = 0.0,
        max: float = 1.0,
        sigma: float = 100.0,
        normalize: bool | float = True,
        loss: str = "l1",
    ) -> None:
        super().__init__()
        check_bins(bins, min, max, sigma)
        self.bins, self.min, self.max, self.sigma = bins, min, max, sigma
        self.normalize, self.loss = normalize, loss
        self.compare = find_reconstruction(loss)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""
        return histogram(
            reconstruction,
            target,
            bins=self.bins,
            min=self.min,
            max=self.max,
            sigma=self.sigma,
            normalize=self.normalize,
            loss=self.compare,
        )

    def extra_repr(self) -> str:
        """The settings, as one types them."""
        names = ("bins", "min", "max", "sigma", "normalize", "loss")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

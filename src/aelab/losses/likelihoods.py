"""Reconstruction losses: negative log-likelihoods, and smooth losses between l1 and l2."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.losses.reconstruction import Reduction, per_image, same_shape

#: Standard deviation of the rounding error with 256 levels: lower limit of a pixel's deviation.
_ROUNDING = 1 / (255 * math.sqrt(12))


def log_cosh(reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """ln cosh(r - t): half the squared error for small errors, the absolute error for large ones.

    Returns:
        (B,), at least 0.

    Source: Chen et al. 2019, Log hyperbolic cosine loss improves variational auto-encoder.
    """
    same_shape(reconstruction, target)
    apart = reconstruction - target
    # |x| + softplus(-2 |x|) - ln 2 does not overflow, but is inexact for small x: there a series.
    size = apart.abs()
    large = size + F.softplus(-2 * size) - math.log(2)
    small = apart.square() / 2 - apart.pow(4) / 12
    return per_image(torch.where(size < 1e-2, small, large), reduction)


def charbonnier(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean", epsilon: float = 1e-3
) -> Tensor:
    """sqrt((r - t)^2 + epsilon^2) - epsilon: the absolute error, smooth at 0.

    Args:
        reconstruction, target: (B, ...).
        reduction: over channels and pixels.
        epsilon: error at which the parabola becomes a line, in units of the images; above 0.

    Returns:
        (B,), at least 0.

    Source: Charbonnier et al. 1994, ICIP, equation 5.
    """
    same_shape(reconstruction, target)
    if epsilon <= 0:
        raise ConfigError(f"charbonnier: epsilon is {epsilon}; it must be above 0")
    apart = reconstruction - target
    # sqrt(x^2 + e^2) - e, in a form without cancellation for small x
    root = torch.sqrt(apart.square() + epsilon**2)
    return per_image(apart.square() / (root + epsilon), reduction)


def gaussian_nll(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "sum", std: float = 0.1
) -> Tensor:
    """Negative log-likelihood of a Gaussian with one fixed standard deviation for all pixels.

    (r - t)^2 / (2 std^2) + ln(std) + ln(2 pi) / 2.

    Args:
        reconstruction, target: (B, ...).
        reduction: over channels and pixels.
        std: of a pixel, in units of the images; above 0.

    Returns:
        (B,) nats of a density, so that it may lie below 0; at least -10000000.
    """
    same_shape(reconstruction, target)
    if std <= 0:
        raise ConfigError(f"gaussian_nll: std is {std}; it must be above 0")
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    return per_image((reconstruction - target).square() / (2 * std**2) + constant, reduction)


def optimal_gaussian_nll(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "sum"
) -> Tensor:
    """Negative log-likelihood of a Gaussian with the optimal variance for each image.

    The optimal variance is the image's mean squared error, so the value is (ln(2 pi mse) + 1) / 2
    per pixel. The weight of the KL then needs no tuning. The variance is at least that of rounding
    to 256 levels.

    Returns:
        (B,) nats of a density, so that it may lie below 0; at least -10000000.

    Source: Rybkin et al. 2021, arXiv:2006.13202, equation 7 (sigma-VAE), here of each image.
    """
    same_shape(reconstruction, target)
    error = per_image((reconstruction - target).square())  # (B,)
    value = 0.5 * (torch.log(2 * math.pi * (error + _ROUNDING**2)) + 1)
    return value * target[0].numel() if reduction == "sum" else per_image(value, reduction)


def continuous_bernoulli(
    reconstruction: Tensor, target: Tensor, reduction: Reduction = "sum", margin: float = 1e-4
) -> Tensor:
    """Negative log-likelihood of grey values in 0..1: `bce` minus the log of its normaliser.

    Args:
        reconstruction: the parameter, in 0..1, clamped to [margin, 1 - margin]; it is not the mean
            of the distribution.
        target: (B, ...) in 0..1.
        reduction: over channels and pixels.
        margin: of the clamp, above 0.

    Returns:
        (B,) nats of a density, so that it may lie below 0; at least -10000000.

    Source: Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, equations 2 and 6.
    """
    same_shape(reconstruction, target)
    p = reconstruction.clamp(margin, 1 - margin)
    cross_entropy = -(target * torch.log(p) + (1 - target) * torch.log1p(-p))
    # ln C = ln(2 artanh(1 - 2p) / (1 - 2p)), 0 / 0 at p = 1/2: there its series ln 2 + x^2 / 3.
    x = 1 - 2 * p
    near = x.abs() < 0.05
    safe = torch.where(near, torch.full_like(x, 0.5), x)
    exact = torch.log(2 * torch.atanh(safe) / safe)
    series = math.log(2) + x.square() / 3 + 13 * x.pow(4) / 90
    return per_image(cross_entropy - torch.where(near, series, exact), reduction)

"""Losses that compare neighbourhoods of pixels: structural similarity, and edges."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.losses.histograms import images
from aelab.losses.reconstruction import per_image
from aelab.losses.sliding import slide

#: Weights of the five scales, finest first; Wang et al. 2003, section 3.2.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: (0.01 L)^2 and (0.03 L)^2 with L = 1, the range of the images; Wang et al. 2004, section III.B.
_C1, _C2 = 1e-4, 9e-4


def ssim(
    reconstruction: Tensor, target: Tensor, window: int = 11, sigma_pixels: float = 1.5
) -> Tensor:
    """1 - mean structural similarity (SSIM), for each channel, for images in 0..1.

    Local means use a Gaussian window, at places where it lies fully inside of the image. For an
    image smaller than the window it shrinks to the largest odd size that fits: 7 pixels at 8x8.

    Args:
        reconstruction, target: (B, C, H, W).
        window: side in pixels, odd.
        sigma_pixels: standard deviation of the Gaussian.

    Returns:
        (B,), 0 (equal) to 2; gradients everywhere.

    Raises:
        ConfigError: an even or negative window, a sigma that is not above 0.
        ShapeError: the shapes differ, or are not those of images.

    Source: Wang et al. 2004, Image quality assessment, IEEE TIP 13(4), eq. 13; section III.C for
        the window.
    """
    images(reconstruction, target)
    luminance, contrast = _similarity(reconstruction, target, window, sigma_pixels)
    return 1 - per_image(luminance * contrast)


def ms_ssim(
    reconstruction: Tensor,
    target: Tensor,
    window: int = 11,
    sigma_pixels: float = 1.5,
    scales: int = 5,
) -> Tensor:
    """1 - multi-scale structural similarity (MS-SSIM).

    Each scale halves the image; scales smaller than the window are left out. The weights of the
    remaining scales are normalised to sum 1: 32x32 has two scales of five, 176x176 all. Contrast
    terms below 0 count as 1e-6, without gradient.

    Args:
        reconstruction, target: (B, C, H, W).
        window, sigma_pixels: of `ssim`.
        scales: largest number of scales, 1 to 5.

    Returns:
        (B,), 0..1, 0 for equal images; mean over channels.

    Raises:
        ConfigError: an invalid option.
        ShapeError: the shapes differ, or are not those of images.

    Source: Wang, Simoncelli & Bovik 2003, Multiscale structural similarity, eq. 7.
    """
    images(reconstruction, target)
    if scales not in range(1, len(SCALE_WEIGHTS) + 1):
        raise ConfigError(f"ms_ssim has scales from 1 to {len(SCALE_WEIGHTS)}, not {scales!r}")
    side = min(target.shape[2:])
    # Every scale halves the side, and the window must still fit into the last one.
    used = max(1, min(scales, 1 + int(math.log2(max(1.0, side / window)))))
    weights = [weight / sum(SCALE_WEIGHTS[:used]) for weight in SCALE_WEIGHTS[:used]]
    ours, wanted = reconstruction, target
    product = torch.ones_like(target[:, :, 0, 0])  # (B, C)
    for scale, weight in enumerate(weights):
        luminance, contrast = _similarity(ours, wanted, window, sigma_pixels)
        last = scale == used - 1
        value = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        # A power of a negative number is NaN, and the gradient at 0 infinite.
        product = product * value.clamp(min=1e-6) ** weight
        if not last:
            ours, wanted = F.avg_pool2d(ours, 2), F.avg_pool2d(wanted, 2)
    return 1 - product.mean(dim=1)


def gradient(
    reconstruction: Tensor, target: Tensor, kind: Literal["difference", "sobel"] = "difference"
) -> Tensor:
    """Mean absolute difference of the image gradients.

    The mean of the horizontal and the vertical part, each averaged over its pixels. A constant
    shift of brightness has no loss: use it together with `l1`, not alone.

    Args:
        reconstruction, target: (B, C, H, W).
        kind: `difference` of neighbours (a single row has no vertical ones), or `sobel`, whose
            kernel is divided by 8, so that a ramp gives its slope; border pixels are repeated.

    Returns:
        (B,), at least 0, in units of the images per pixel.

    Raises:
        ConfigError: unknown kind.
        ShapeError: the shapes differ, or are not those of images.

    Source: Mathieu, Couprie & LeCun 2016, arXiv:1511.05440, eq. 6 (here the differences themselves
        are compared, not their absolute values).
    """
    images(reconstruction, target)
    # A gradient is linear: that of the difference is the difference of the gradients.
    difference = reconstruction - target
    if kind == "sobel":
        slopes = _sobel(difference)
    elif kind == "difference":
        slopes = [difference.diff(dim=2), difference.diff(dim=3)]
    else:
        raise ConfigError(f"kind must be 'difference' or 'sobel', not {kind!r}")
    # A single row or column has no slope in that direction; a mean over nothing is NaN.
    parts = [per_image(slope.abs()) for slope in slopes if slope[:1].numel()]
    return sum(parts, target.new_zeros(len(target))) / 2


def gaussian_window(size: int, sigma_pixels: float, like: Tensor) -> Tensor:
    """The weights of a Gaussian centred in a window, (size,), with sum 1."""
    places = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = torch.exp(-places.square() / (2 * sigma_pixels**2))
    return weights / weights.sum()


def _similarity(
    one: Tensor, other: Tensor, window: int, sigma_pixels: float
) -> tuple[Tensor, Tensor]:
    """SSIM maps: luminance, and contrast times structure, each (B, C, H', W')."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise ConfigError(f"the window must be an odd number of pixels, not {window!r}")
    if not sigma_pixels > 0:
        raise ConfigError(f"sigma_pixels must be above 0, not {sigma_pixels!r}")
    side = min(one.shape[2:])
    weights = gaussian_window(min(window, side - 1 + side % 2), sigma_pixels, one)
    # One filter pass for all five local means, (5, B, C, H, W).
    maps = torch.stack([one, other, one * one, other * other, one * other])
    mean1, mean2, square1, square2, both = torch.unbind(slide(maps, weights, weights))
    covariance = both - mean1 * mean2
    variances = square1 - mean1.square() + square2 - mean2.square()
    luminance = (2 * mean1 * mean2 + _C1) / (mean1.square() + mean2.square() + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _sobel(values: Tensor) -> list[Tensor]:
    kernel = torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]).to(values) / 8
    flat = F.pad(values.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")  # (B * C, 1, ...)
    found = F.conv2d(flat, torch.stack([kernel, kernel.T])[:, None])
    down, across = found.unbind(1)
    return [down.reshape(values.shape), across.reshape(values.shape)]

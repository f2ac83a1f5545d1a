"""Losses on spatial frequencies, where blur is a large error at high frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses.histograms import images
from aelab.losses.reconstruction import per_image


def fft(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean modulus of the difference of the two spectra, phase included.

    The transform is orthonormal: the mean of the *squared* moduli equals `l2`. Without the square,
    the many small differences at high frequencies have more weight than in `l2`.

    Args:
        reconstruction, target: (B, C, H, W).

    Returns:
        (B,), at least 0, in units of the images; at most the square root of `l2`.

    Raises:
        ShapeError: the shapes differ, or are not those of images.

    Source: Cho et al. 2021, arXiv:2108.05054, eq. 4 (multi-scale there). Document 000's experiments
        compare `torch.fft.fft2` of both, which is this times sqrt(H * W).
    """
    images(reconstruction, target)
    return per_image(_spectrum(reconstruction - target).abs())


def focal_frequency(reconstruction: Tensor, target: Tensor, alpha: float = 1.0) -> Tensor:
    """Squared difference of the spectra, weighted by the error at each frequency.

    The weight is |difference|^alpha divided by its maximum over the channel, without gradient:
    frequencies that are already right get little weight.

    Args:
        reconstruction, target: (B, C, H, W).
        alpha: at least 0; 0 gives `l2`.

    Returns:
        (B,), at least 0, in squared units of the images; at most `l2`.

    Raises:
        ConfigError: alpha below 0.
        ShapeError: the shapes differ, or are not those of images.

    Source: Jiang et al. 2021, arXiv:2012.12821, eq. 8 and 9; orthonormal as in the authors' code,
        one patch.
    """
    images(reconstruction, target)
    if alpha < 0:
        raise ConfigError(f"alpha must be at least 0, not {alpha!r}")
    difference = _spectrum(reconstruction - target)
    squared = difference.real.square() + difference.imag.square()
    weight = squared.detach() ** (alpha / 2)
    greatest = weight.amax(dim=(2, 3), keepdim=True)
    # For equal images all weights are 0; dividing by 1 avoids 0 / 0.
    weight = weight / torch.where(greatest > 0, greatest, torch.ones_like(greatest))
    return per_image(weight * squared)


def _spectrum(values: Tensor) -> Tensor:
    """The orthonormal 2-D spectrum: (B, C, H, W) -> complex (B, C, H, W)."""
    spectrum: Tensor = torch.fft.fft2(values.contiguous(), norm="ortho")
    return spectrum

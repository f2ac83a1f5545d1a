"""Losses in the space of spatial frequencies, where blur is a missing part and not a small one."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses.histograms import images
from aelab.losses.reconstruction import per_image


def fft(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean modulus of the difference of the two spectra, phase included.

    The transform is orthonormal: the mean of the *squared* moduli would be `l2` exactly. Without
    the square, the many small differences at high frequencies count for more than in `l2`.

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
    """Squared difference of the spectra, weighted by how badly each frequency is met.

    The weight is |difference|^alpha divided by its maximum over the image's channel, taken as a
    constant: frequencies that are already right lose their influence.

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
    # Equal images have no greatest difference; any divisor will do.
    weight = weight / torch.where(greatest > 0, greatest, torch.ones_like(greatest))
    return per_image(weight * squared)


def _spectrum(values: Tensor) -> Tensor:
    """(B, C, H, W) -> complex (B, C, H, W), orthonormal over the pixels."""
    spectrum: Tensor = torch.fft.fft2(values.contiguous(), norm="ortho")
    return spectrum

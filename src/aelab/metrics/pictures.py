"""Quality of reproductions, in units that can be compared across runs and losses."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ShapeError
from aelab.losses import ssim
from aelab.metrics.subject import Subject


def psnr(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio for images in 0..1: -10 log10 of the mean squared error.

    Args:
        reconstruction, target: (B, C, H, W); the reconstruction is not clamped here.

    Returns:
        (B,) decibels; 0 where every pixel is wrong by 1, infinite where they are equal.

    Raises:
        ShapeError: the shapes differ.
    """
    if reconstruction.shape != target.shape:
        raise ShapeError(
            f"PSNR needs two equal shapes, not {tuple(reconstruction.shape)} "
            f"and {tuple(target.shape)}"
        )
    return -10 * torch.log10((reconstruction - target).square().flatten(1).mean(1))


def reproduction(subject: Subject) -> dict[str, float]:
    """Errors of the held-out reproductions, clamped to 0..1 as displayed; means over images.

    `l1` and `l2` in units of the images. `psnr_db` of the mean squared error over all images,
    because the easiest images dominate the mean of their PSNRs. `ssim` as similarity, 1 is equal.

    Source: SSIM: Wang et al. 2004, see `losses.ssim`.
    """
    shown, target = subject.reconstructions.clamp(0, 1), subject.images
    difference = shown - target
    l2 = difference.square().mean()
    similar = [  # in chunks: SSIM holds five filtered copies of its images
        1 - ssim(ours, wanted)
        for ours, wanted in zip(torch.split(shown, 500), torch.split(target, 500), strict=True)
    ]
    return {
        "l1": difference.abs().mean().item(),
        "l2": l2.item(),
        "psnr_db": (-10 * torch.log10(l2)).item(),
        "ssim": torch.cat(similar).mean().item(),
    }

"""Measures of pictures in colours: exactly right pixels, and errors of the drawn pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.losses import ssim
from aelab.metrics import Metric, Subject, psnr
from aelab.palette.medium import numbers_of

_AT_ONCE = 500


def colours(subject: Subject) -> dict[str, float]:
    """Exactly right pixels and pictures, and the errors of the drawn pictures.

    `exact_pixels`, `exact_images`: shares of pixels, and of whole pictures, with exactly the right
    colours. `mean_class_accuracy`: the mean over colours of the share of their pixels that are
    right, so that a background does not hide the rest. `drawn_l1`, `drawn_l2`, `drawn_psnr_db`,
    `drawn_ssim`: as in `reproduction`, of the pictures in red, green, blue in 0..1, transparency
    on black.

    Args:
        subject: of colours.
    """
    wanted, found = numbers_of(subject.images), numbers_of(subject.reconstructions)
    right = wanted == found
    of_colour = torch.bincount(wanted.flatten()).double()
    right_of = torch.bincount(wanted[right], minlength=len(of_colour)).double()
    there = of_colour > 0
    values = {
        "exact_pixels": right.double().mean().item(),
        "exact_images": right.flatten(1).all(1).double().mean().item(),
        "mean_class_accuracy": (right_of[there] / of_colour[there]).mean().item(),
    }
    sums = torch.zeros(3, dtype=torch.double)
    for ours, theirs in zip(
        torch.split(subject.reconstructions, _AT_ONCE),
        torch.split(subject.images, _AT_ONCE),
        strict=True,
    ):
        made, target = drawn_pictures(subject, ours), drawn_pictures(subject, theirs)
        gap = made - target
        sums += torch.stack(
            [gap.abs().mean(), gap.square().mean(), (1 - ssim(made, target)).mean()]
        ).double() * len(ours)
    l1, l2, similar = (sums / len(wanted)).tolist()
    decibel = psnr(torch.full((1, 1, 1, 1), l2**0.5), torch.zeros(1, 1, 1, 1)).item()
    return values | {
        "drawn_l1": l1, "drawn_l2": l2, "drawn_psnr_db": decibel, "drawn_ssim": similar
    }  # fmt: skip


def drawn_pictures(subject: Subject, images: Tensor) -> Tensor:
    """(B, 1, H, W) numbers / 255 as pictures (B, 3, H, W) in 0..1, transparency on black."""
    pictures = subject.medium.picture(images, checker=False).float() / 255
    return pictures[:, :3] * pictures[:, 3:] if pictures.shape[1] == 4 else pictures


COLOURS = Metric(
    colours,
    "pictures in colours of a palette: exact pixels, errors of the drawn pictures",
    medium="colours",
)

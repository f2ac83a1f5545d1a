"""The figures that document 004 logs at each epoch, under its names and in its order of tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aelab.medium import PIXELS, Medium
from aelab.metrics.paths import linear_path
from aelab.report.pictures import images_in_rows, png_of
from aelab.study.figures.sheets import draw_posterior
from aelab.tensor_pictures import as_pictures

if TYPE_CHECKING:
    from aelab.metrics import Subject


def inputs(subject: Subject, count: int = 64) -> bytes:
    """Held-out images, one of each class in turn, tiled row by row."""
    return tiles(subject.images[subject.shown[:count]], subject.medium)


def samples_of_document(subject: Subject, count: int = 64) -> bytes:
    """Their reconstructions from *drawn* latents: the document calls these samples."""
    latents = torch.cat([drawn(subject, i) for i in range(min(count, len(subject.images)))])
    return tiles(subject.decode(latents), subject.medium)


def z_samples(subject: Subject, image: int = 0) -> bytes:
    """As many draws from one image's posterior as the latent is long, decoded and tiled."""
    size = subject.latents[0].numel()
    return tiles(subject.decode(drawn(subject, image, size)), subject.medium)


def z_interpolation(subject: Subject) -> bytes:
    """Drawn latents of the first two shown, as many linear steps between as the latent is long."""
    size = subject.latents[0].numel()
    first, second = drawn(subject, 0)[0], drawn(subject, min(1, len(subject.images) - 1))[0]
    path = linear_path(first, second, max(2, size))
    return tiles(subject.decode(path), subject.medium)


def drawn(subject: Subject, index: int, count: int = 1) -> Tensor:
    """(count, D) draws from the posterior of one of the images shown."""
    return draw_posterior(subject, int(subject.shown[index]), count)


def tiles(images: Tensor, medium: Medium = PIXELS) -> bytes:
    """(N, C, H, W) in rows of the square root of N, rounded up."""
    pictures = as_pictures(images, medium)
    return png_of(images_in_rows(pictures, columns=math.ceil(math.sqrt(len(pictures)))))

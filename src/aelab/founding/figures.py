"""The figures that document 004 logs at each epoch, with its names and order of tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.medium import PIXELS, Medium
from aelab.metrics.paths import linear_path
from aelab.metrics.subject import need_finite, normal_of
from aelab.metrics.table import Need
from aelab.ops.subset import said
from aelab.posteriors import changed
from aelab.report.pictures import images_in_rows, png_of
from aelab.report.scatter import scatter_map
from aelab.study.figures import Figure
from aelab.study.figures.maps import place
from aelab.study.figures.sheets import draw_posterior
from aelab.tensor_pictures import as_pictures

if TYPE_CHECKING:
    from aelab.metrics import Subject


def inputs(subject: Subject, count: int = 64) -> bytes:
    """Held-out images, tiled row by row, taking one of each class in turn."""
    return tiles(subject.images[subject.shown[:count]], subject.medium)


def samples_of_document(subject: Subject, count: int = 64) -> bytes:
    """Reconstructions of held-out images from *drawn* latents, called samples in the document."""
    latents = torch.cat([drawn_latents(subject, i) for i in range(min(count, len(subject.images)))])
    return tiles(subject.decode(latents), subject.medium)


def z_samples(subject: Subject, image: int = 0) -> bytes:
    """D draws from one image's posterior, decoded and tiled (D: length of the latent)."""
    size = subject.latents[0].numel()
    return tiles(subject.decode(drawn_latents(subject, image, size)), subject.medium)


def z_interpolation(subject: Subject) -> bytes:
    """Linear interpolation between drawn latents of the first two images, in D steps."""
    size = subject.latents[0].numel()
    first, second = (
        drawn_latents(subject, 0)[0],
        drawn_latents(subject, min(1, len(subject.images) - 1))[0],
    )
    path = linear_path(first, second, max(2, size))
    return tiles(subject.decode(path), subject.medium)


def tsne_plot(subject: Subject, count: int = 10_000) -> Any:
    """A map of one *drawn* latent of each image, by t-SNE with perplexity 30, coloured by class.

    Args:
        count: greatest number of images, drawn at random; 10,000 take some minutes.
    """
    posterior = changed(subject.posterior, lambda tensor: tensor[:count])
    latents, _ = posterior.draw(normal_of(subject.generator("tsne")))
    need_finite(latents, "drawn latents")
    points, how, axes = place(latents, "tsne", subject.seed)
    labels = None if subject.labels is None else subject.labels[: len(latents)].numpy()
    title = f"{said(len(latents), subject.heldout_total, 'held-out images')}, {how}, drawn latents"
    return scatter_map(points.numpy(), labels, title, axes, subject.classes)


def drawn_latents(subject: Subject, index: int, count: int = 1) -> Tensor:
    """(count, D) draws from the posterior of one of the shown images."""
    return draw_posterior(subject, int(subject.shown[index]), count)


def tiles(images: Tensor, medium: Medium = PIXELS) -> bytes:
    """Tiles (N, C, H, W) in rows of ceil(sqrt(N)) images."""
    pictures = as_pictures(images, medium)
    return png_of(images_in_rows(pictures, columns=math.ceil(math.sqrt(len(pictures)))))


#: Requirement of all figures except the first.
_POSTERIOR: frozenset[Need] = frozenset({"posterior"})

INPUTS = Figure(inputs, "document 004: held-out images")
SAMPLES = Figure(
    samples_of_document, "document 004: their reconstructions, drawn", needs=_POSTERIOR
)
TSNE_PLOT = Figure(
    tsne_plot, "document 004: t-SNE of drawn latents by class", needs=_POSTERIOR, cost="slow"
)
Z_SAMPLES = Figure(z_samples, "document 004: draws from one image's posterior", needs=_POSTERIOR)
Z_INTERPOLATION = Figure(
    z_interpolation, "document 004: between the first two images", needs=_POSTERIOR
)

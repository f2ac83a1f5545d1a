"""Where held-out images lie in the latent, and how codes are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.errors import UserError, did_you_mean, one_of
from aelab.lab.pictures import as_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aelab.metrics import Subject


def latent_map(subject: Subject, method: str = "pca", mark: str = "auto", count: int = 2000) -> Any:
    """Mean codes of held-out images as points of the plane.

    Args:
        method: `pca`, `tsne` or `umap`.
        mark: `labels` (colours by class), `thumbnails` (the images themselves), `auto`: labels
            where the set has them.
        count: at most so many images.
    """
    from aelab.metrics import flat
    from aelab.report.scatter import scatter_map, thumbnail_map

    if mark not in ("auto", "labels", "thumbnails"):
        raise UserError(f"unknown mark {mark!r}", hint="possible: auto, labels, thumbnails")
    codes = flat(subject.latents[:count])
    points, title = place(codes, method, subject.seed)
    labels = None if subject.labels is None else subject.labels[: len(codes)].numpy()
    if mark == "thumbnails" or (mark == "auto" and labels is None):
        images = as_pictures(subject.images[: len(codes)], subject.alphabet)
        return thumbnail_map(points.numpy(), images, title)
    return scatter_map(points.numpy(), labels, title)


def tsne_plot(subject: Subject, count: int = 10_000) -> Figure:
    """Document 004's map: one *drawn* latent of each image, t-SNE with perplexity 30, by class.

    Args:
        count: at most so many images; 10,000 take some minutes.
    """
    from aelab.metrics import flat
    from aelab.report.scatter import scatter_map

    mean = flat(subject.posterior["mean"][:count])
    log_std = flat(subject.posterior["log_std"][:count])
    noise = torch.randn(mean.shape, generator=subject.generator("tsne"))
    points, title = place(mean + log_std.exp() * noise, "tsne", subject.seed)
    labels = None if subject.labels is None else subject.labels[: len(mean)].numpy()
    return scatter_map(points.numpy(), labels, f"{title}, drawn latents")


def code_histogram(subject: Subject) -> Figure:
    """The mean codes of all dimensions together, beside the prior N(0, 1)."""
    from aelab.metrics import flat
    from aelab.report.scatter import histogram_against_normal, notes_of

    codes = flat(subject.latents)
    numbers = {"mean": codes.mean().item(), "standard deviation": codes.std().item()}
    title = f"{len(codes):,} codes of {codes.shape[1]} numbers: {notes_of(numbers)}"
    return histogram_against_normal(codes.numpy(), title)


def kl_bars(subject: Subject) -> Figure:
    """The KL divergence of every latent dimension from the prior, largest first."""
    from aelab.metrics import kl_by_dimension
    from aelab.report.scatter import sorted_bars

    kl = kl_by_dimension(subject)
    title = f"{kl.sum().item():.4g} nats an image, {int((kl > 0.1).sum())} of {len(kl)} above 0.1"
    return sorted_bars(kl.numpy(), title, ("dimension, by rank", "KL divergence (nats)"))


def frequency(subject: Subject) -> Figure:
    """Squared error by spatial frequency, and what arrives of the amplitude."""
    from aelab.metrics import error_by_frequency
    from aelab.report.frequency import Lines, figure

    found = error_by_frequency(subject.reconstructions, subject.images)
    numbers = found.frequency.tolist(), found.relative.tolist(), found.transfer.tolist()
    return figure([Lines("this run", *numbers)])


def place(codes: Tensor, method: str, seed: int) -> tuple[Tensor, str]:
    """(N, D) -> points (N, 2), and a heading that says how.

    Raises:
        UserError: an unknown method.
    """
    from aelab.metrics.maps import METHODS, pca_map, tsne_map, umap_map

    if method not in METHODS:
        raise UserError(
            f"unknown method {method!r}{did_you_mean(method, METHODS)}",
            hint=f"possible: {one_of(METHODS)}",
        )
    count = f"{len(codes):,} held-out images"
    if method == "pca":
        points, (first, second) = pca_map(codes)
        return points, f"{count}, PCA: {first:.0%} and {second:.0%} of the variance"
    if method == "tsne":
        return tsne_map(codes, seed), f"{count}, t-SNE"
    return umap_map(codes, seed), f"{count}, UMAP"

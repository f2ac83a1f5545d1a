"""Maps of codes in the latent space, and distributions of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.errors import UserError, did_you_mean, one_of
from aelab.metrics import error_by_frequency, kl_by_dimension
from aelab.metrics.maps import METHODS, pca_map, same_place, tsne_map, umap_map
from aelab.metrics.subject import need_finite
from aelab.ops.subset import said
from aelab.report.frequency import Spectrum, spectra_figure
from aelab.report.scatter import (
    heading_values,
    histogram_against_normal,
    scatter_map,
    sorted_bars,
    thumbnail_map,
)
from aelab.tensor_pictures import as_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aelab.metrics import Subject


#: Values of the option `of`: the images whose codes a map shows.
OF = ("heldout", "train", "all")


def latent_map(
    subject: Subject,
    method: str = "pca",
    mark: str = "auto",
    count: int = 2000,
    of: str = "heldout",
) -> Any:
    """A map of the mean codes of images in two dimensions.

    Args:
        method: `pca`, `tsne` or `umap`.
        mark: `labels` (colours by class), `thumbnails` (the images themselves), or `auto`: labels
            if the set has them.
        count: at most this many images, drawn at random.
        of: `heldout` images, `train` images, or `all` of both.
    """
    if mark not in ("auto", "labels", "thumbnails"):
        raise UserError(f"unknown mark {mark!r}", hint="possible: auto, labels, thumbnails")
    images, codes, labels, words = chosen_codes(subject, of, count)
    points, how, axes = place(codes, method, subject.seed)
    title = f"{words}, {how}"
    if mark == "thumbnails" or (mark == "auto" and labels is None):
        pictures = as_pictures(images, subject.medium)
        return thumbnail_map(points.numpy(), pictures, title)
    numbers = None if labels is None else labels.numpy()
    ticks = method == "pca"
    return scatter_map(points.numpy(), numbers, title, axes, subject.classes, ticks=ticks)


def chosen_codes(
    subject: Subject, of: str, count: int
) -> tuple[Tensor, Tensor, Tensor | None, str]:
    """Images (N, C, H, W), mean codes (N, D), labels (N,), and the number of images in words.

    Raises:
        UserError: an unknown value of `of`, or no training images.
    """
    if of not in OF:
        hint = f"possible: {one_of(OF)}"
        raise UserError(f"unknown images {of!r}{did_you_mean(of, OF)}", hint=hint)
    if of != "heldout" and not subject.has_train:
        raise UserError("there are no training images", hint="of=heldout shows the held-out ones")
    total = {
        "heldout": subject.heldout_total,
        "train": subject.train_total,
        "all": subject.heldout_total + subject.train_total,
    }[of]
    # Each set in proportion to its size; both are in drawn order.
    held_out = {"heldout": count, "train": 0, "all": -(-count * subject.heldout_total // total)}[of]
    parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
    if held_out:
        few = slice(0, held_out)
        labels = None if subject.labels is None else subject.labels[few]
        parts.append((subject.images[few], subject.codes[few], labels))
    if count > held_out:
        few = slice(0, count - held_out)
        labels = None if subject.train_labels is None else subject.train_labels[few]
        codes = subject.codes_of(subject.train_images[few], labels)
        parts.append((subject.train_images[few], codes, labels))
    images, codes = (torch.cat([part[place] for part in parts]) for place in (0, 1))  # type: ignore[misc]
    known = [part[2] for part in parts if part[2] is not None]
    need_finite(codes, "codes")
    what = {"heldout": "held-out images", "train": "training images", "all": "images"}[of]
    return (
        images,
        codes,
        torch.cat(known) if len(known) == len(parts) else None,
        said(len(codes), total, what),
    )


def code_histogram(subject: Subject) -> Figure:
    """A histogram of the mean codes, all dimensions together, with the prior N(0, 1).

    Without a class that the model was told.
    """
    codes = subject.codes
    need_finite(codes, "codes")
    values = codes.double()
    numbers = {"mean": values.mean().item(), "standard deviation": values.std(correction=0).item()}
    images = said(len(codes), subject.heldout_total, "held-out images")
    title = f"codes of {codes.shape[1]} numbers of {images}: {heading_values(numbers)}"
    return histogram_against_normal(codes.numpy(), title)


def kl_bars(subject: Subject) -> Figure:
    """A bar chart of the KL divergence of every latent dimension, largest first."""
    kl = kl_by_dimension(subject)
    title = f"{kl.sum().item():.4g} nats per image, {int((kl > 0.1).sum())} of {len(kl)} above 0.1"
    return sorted_bars(kl.numpy(), title, ("dimension, by rank", "KL divergence (nats)"))


def frequency(subject: Subject) -> Figure:
    """Squared error and transferred amplitude by spatial frequency."""
    found = error_by_frequency(subject.reconstructions, subject.images)
    numbers = found.frequency.tolist(), found.relative.tolist(), found.transfer.tolist()
    return spectra_figure([Spectrum("this run", *numbers)])


def place(codes: Tensor, method: str, seed: int) -> tuple[Tensor, str, tuple[str, str]]:
    """Maps codes (N, D) to points (N, 2); returns also the method in words and the axis labels.

    Raises:
        UserError: an unknown method.
        ShapeError: fewer than 4 codes for another method than `pca`.
    """
    if method not in METHODS:
        raise UserError(
            f"unknown method {method!r}{did_you_mean(method, METHODS)}",
            hint=f"possible: {one_of(METHODS)}",
        )
    name = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}[method]
    how = f"{name}: all codes are the same" if same_place(codes) else name
    if method == "pca":
        points, shares = pca_map(codes)
        words = [f"component {n}: {share:.0%} of the variance" for n, share in enumerate(shares, 1)]
        return points, how, (words[0], words[1])
    points = (tsne_map if method == "tsne" else umap_map)(codes, seed)
    return points, how, (f"{name} 1", f"{name} 2")

"""Sheets of images: reproductions, paths through the latent space, draws and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.errors import ConfigError, UserError, did_you_mean, one_of
from aelab.metrics import flat, kl_by_dimension
from aelab.metrics.distances import draw_images, draw_of_class
from aelab.metrics.paths import linear_path, spherical_path, traversal
from aelab.metrics.subject import normal_of
from aelab.posteriors import HasDivergence
from aelab.report.pictures import SheetRow, sheet
from aelab.tensor_pictures import picture_line

if TYPE_CHECKING:
    from aelab.metrics import Subject

#: Least height of the images of a sheet, in pixels.
LEAST_PIXELS = 48


def reproductions(subject: Subject, count: int = 8) -> bytes:
    """The worst, median and best held-out reproductions.

    Ordered by squared error, or by the error of their medium.

    Args:
        count: images a row.
    """
    unit, error = subject.medium.errors(subject.reconstructions, subject.images)
    order = error.argsort(descending=True)
    count = min(count, len(order))
    middle = (len(order) - count) // 2
    rows = {"worst": order[:count], "median": order[middle : middle + count]}
    rows["best"] = order[len(order) - count :]
    lines: list[SheetRow] = []
    for name, index in rows.items():
        mean = error[index].mean().item()
        images, made = subject.images[index], subject.reconstructions[index]
        lines.append(picture_line(f"{name}: original", images, subject.medium, original=True))
        lines.append(picture_line(f"{name}: {unit} {mean:.4f}", made, subject.medium))
    return sheet(lines, scale=scale_of(subject))


def interpolation(subject: Subject, steps: int = 10, pairs: int = 6, path: str = "both") -> bytes:
    """Interpolations between held-out images through the latent space.

    Args:
        steps: images a row, both ends included.
        pairs: rows; of different classes if there are labels.
        path: `linear`, `spherical` or `both`.
    """
    kinds = {"linear": linear_path, "spherical": spherical_path}
    if path != "both" and path not in kinds:
        raise UserError(
            f"unknown path {path!r}{did_you_mean(path, [*kinds, 'both'])}",
            hint=f"possible: {one_of([*kinds, 'both'])}",
        )
    codes, lines = flat(subject.latents), list[SheetRow]()
    chosen = pairs_of(subject, pairs)
    if not chosen:
        raise ConfigError("there is only one held-out image; an interpolation needs two")
    for number, (first, second) in enumerate(chosen, start=1):
        between = (
            ""
            if subject.labels is None
            else ", "
            + " to ".join(subject.classes[int(subject.labels[image])] for image in (first, second))
        )
        for name, make in kinds.items():
            if path in (name, "both"):
                images = subject.decode(make(codes[first], codes[second], steps))
                label, is_first = f"{number} {name}{between}", name == "linear"
                lines.append(picture_line(label, images, subject.medium, original=is_first))
    return sheet(lines, scale=scale_of(subject))


def traversals(
    subject: Subject, dimensions: int = 12, steps: int = 9, width: float = 3.0, image: int = 0
) -> bytes:
    """Variations of one held-out image; each row changes one dimension of its code.

    Rows are ordered by the dimension's KL divergence from the prior, or where that is not known by
    the variance of the codes. Values range over `width` standard deviations of the codes on both
    sides of their mean. A class that the model was told stays: the figure `class_swap` changes it.

    Args:
        dimensions: rows.
        steps: images a row.
        width: in standard deviations.
        image: index of the image among those that figures show.
    """
    codes, latents = subject.codes, flat(subject.latents)
    tells = kl_by_dimension(subject) if isinstance(subject.posterior, HasDivergence) else None
    # A divergence of the whole code, or of variables of several numbers, orders no dimensions.
    diverges = tells is not None and len(tells) == codes.shape[1]
    if tells is None or not diverges:
        tells = codes.var(0, correction=0)
    unit = "nats" if diverges else "variance"
    mean, std = codes.mean(0), codes.std(0, correction=0)
    # The latent of the image, with the class that the model was told at its end.
    latent = latents[subject.shown[min(image, len(codes) - 1)]]
    lines = []
    for dimension in tells.argsort(descending=True)[:dimensions].tolist():
        offsets = torch.linspace(-width, width, steps)
        values = mean[dimension] + offsets * std[dimension]
        shown = subject.decode(traversal(latent, dimension, values))
        label = f"{dimension}: {tells[dimension]:.3g} {unit}"
        lines.append(picture_line(label, shown, subject.medium))
    return sheet(lines, scale=scale_of(subject))


def posterior_draws(subject: Subject, images: int = 6, draws: int = 10) -> bytes:
    """A few held-out images and the decoded samples of their posteriors.

    Args:
        images: rows.
        draws: images a row, after the original and the decoded mean.
    """
    lines = []
    for index in subject.shown[:images].tolist():
        shown = subject.decode(draw_posterior(subject, index, draws))
        mean = subject.reconstructions[index : index + 1]
        row = torch.cat([subject.images[index : index + 1], mean, shown])
        lines.append(picture_line("", row, subject.medium))
    names = ["original", "mean", *(f"draw {number}" for number in range(1, draws + 1))]
    return sheet(lines, scale=scale_of(subject), columns=names)


def class_samples(subject: Subject, sampler: str = "auto", count: int = 10) -> bytes:
    """Decoded samples of each class; a model without classes needs a sampler fitted to codes.

    Args:
        sampler: as for the figure `sample`; fitted to the codes of each class.
        count: images a row.
    """
    lines = []
    for number, name in enumerate(subject.classes):
        shown = draw_of_class(subject, number, sampler, count)
        lines.append(picture_line(name, shown, subject.medium))
    return sheet(lines, scale=scale_of(subject))


def class_swap(subject: Subject, images: int = 8) -> bytes:
    """Held-out images, and their codes decoded with every class in turn.

    Args:
        images: rows.
    """
    swap: Any = subject.model.with_label
    lines = []
    for row in subject.shown[:images].tolist():
        codes = subject.latents[row : row + 1].repeat(len(subject.classes), 1)
        made = subject.decode(swap(codes, torch.arange(len(subject.classes))))
        shown = torch.cat([subject.images[row : row + 1], made])
        lines.append(picture_line("", shown, subject.medium))
    return sheet(lines, scale=scale_of(subject), columns=["original", *subject.classes])


def samples(
    subject: Subject, sampler: str = "auto", count: int = 40, nearest: bool = True
) -> bytes:
    """Decoded samples, with the nearest training image below each.

    Args:
        sampler: `prior`, `gaussian`, `mixture`, `flow`; `auto` is `prior` with a Gaussian
            posterior, else `gaussian`.
        count: number of images, ten in a row.
        nearest: whether to show the nearest training images.
    """
    shown = draw_images(subject, sampler, count)
    lines: list[SheetRow] = []
    near: Tensor | None = None
    if nearest and subject.has_train:
        near = nearest_training_images(subject, shown)
    for start in range(0, count, 10):
        row = shown[start : start + 10]
        lines.append(picture_line("sample", row, subject.medium, original=near is not None))
        if near is not None:
            found = near[start : start + 10]
            lines.append(picture_line("nearest training image", found, subject.medium))
    return sheet(lines, scale=scale_of(subject))


def nearest_training_images(subject: Subject, images: Tensor) -> Tensor:
    """The most similar training image of each image, (N, C, H, W)."""
    train = subject.train_images
    return train[subject.medium.nearest(images, train)]


def draw_posterior(subject: Subject, index: int, count: int) -> Tensor:
    """Samples of the posterior of one held-out image, (count, D)."""
    rows = torch.full((count,), index)
    return subject.drawn(rows, normal_of(subject.generator("posterior", index)))[0]


def pairs_of(subject: Subject, count: int) -> list[tuple[int, int]]:
    """Pairs of held-out images (by index) to interpolate; of different classes if labelled."""
    labels, found = subject.labels, list[tuple[int, int]]()
    free = subject.shown.tolist()
    while len(found) < count and len(free) >= 2:
        first = free.pop(0)
        other = (i for i in free if labels is None or labels[i] != labels[first])
        second = next(other, free[0])
        free.remove(second)
        found.append((first, second))
    return found


def scale_of(subject: Subject) -> int:
    """Integer factor that enlarges small images to at least `LEAST_PIXELS`."""
    height = subject.images.shape[-2] * subject.medium.cell[0]
    return max(1, -(-LEAST_PIXELS // height))

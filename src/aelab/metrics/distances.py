"""Distances between two sets of images, by their features: fidelity and diversity."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ShapeError, UserError, did_you_mean, one_of
from aelab.metrics.features import Trained, train_features
from aelab.metrics.samplers import SAMPLERS
from aelab.metrics.subject import Subject, flat, need_finite, normal_of
from aelab.ops.nearest import distances
from aelab.ops.random import keyed_generator
from aelab.posteriors import HasPrior


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """Squared Frechet distance of two normal distributions with the features' moments.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).

    Args:
        ours, theirs: (N, F), (M, F); few of them raise the value: compare equal numbers.

    Returns:
        At least 0; in squared units of the features.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    size = ours.shape[1]
    # `cov` of one feature is a number.
    first, second = (torch.cov(values.T).reshape(size, size) for values in (ours, theirs))
    root = _root(first)
    both = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    means = (ours.mean(0) - theirs.mean(0)).square().sum()
    distance: float = (means + first.trace() + second.trace() - 2 * both).item()
    return max(0.0, distance)


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x y / F + 1)^3, without bias.

    Args:
        ours, theirs: (N, F), (M, F).

    Returns:
        0 in expectation for equal distributions, and then as often below 0 as above.

    Source: Binkowski et al. 2018, arXiv:1801.01401, equation 4.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        """(N, F), (M, F) -> (N, M)."""
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(values: Tensor) -> Tensor:
        """The mean over all pairs of different rows."""
        k = kernel(values, values)
        return (k.sum() - k.trace()) / (len(values) * (len(values) - 1))

    return (among(ours) + among(theirs) - 2 * kernel(ours, theirs).mean()).item()


def precision_recall(ours: Tensor, theirs: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """How much of ours lies where theirs are (precision), and the other way round (recall).

    A point lies within a set if it is no farther from one of its points than that point's k-th
    neighbour.

    Args:
        ours: (N, F) features of made images.
        theirs: (M, F) of real ones.
        neighbours: k.

    Returns:
        Both 0..1.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    return _within(ours, theirs, neighbours), _within(theirs, ours, neighbours)


def diversity(features: Tensor) -> float:
    """Mean Euclidean distance of all pairs; 0 where all are the same."""
    count = len(features)
    if count < 2:
        return 0.0
    return (distances(features, features).fill_diagonal_(0).sum() / (count * (count - 1))).item()


def sample_quality(
    subject: Subject, sampler: str = "auto", count: int = 2000, seeds: int = 1
) -> dict[str, float]:
    """New images of a sampler against held-out ones, by a feature net trained in place.

    `frechet`, `kernel` (distances), `precision`, `recall`, `diversity` (mean pairwise distance,
    as a share of the held-out images'), `reproduction_frechet` (the same distance for the
    reproductions: what no sampler can mend), `frechet_floor` (between two random halves of the
    held-out images: what equal distributions give at half the number). With `features_accuracy`,
    `features_chance` and `features_hash` (the first 6 hexadecimal digits as a number): values
    compare only where the hash is the same.

    Args:
        subject: with training images.
        sampler: of `SAMPLERS`; `auto` is `prior` where the posterior knows its prior, else
            `gaussian`.
        count: new images, and at most so many held-out ones, a random draw.
        seeds: draws that are averaged.
    """
    net = train_features(subject)
    real = net.features(subject.images[:count])
    whole = diversity(real)
    values = dict.fromkeys(("frechet", "kernel", "precision", "recall", "diversity"), 0.0)
    for seed in range(seeds):
        made = net.features(draw_images(subject, sampler, len(real), seed))
        precision, recall = precision_recall(made, real)
        found = {
            "frechet": frechet_distance(made, real),
            "kernel": kernel_distance(made, real),
            "precision": precision,
            "recall": recall,
            "diversity": diversity(made) / whole if whole else float("nan"),
        }
        values = {name: values[name] + value / seeds for name, value in found.items()}
    # Shuffled again: images in drawn order hold their classes more evenly than a draw does.
    halves = real[torch.randperm(len(real), generator=keyed_generator(0, "halves"))]
    half = len(real) // 2
    values["frechet_floor"] = frechet_distance(halves[:half], halves[half : 2 * half])
    shown = net.features(subject.reconstructions[:count])
    values["reproduction_frechet"] = frechet_distance(shown, real)
    return {**values, **_about(net)}


def draw_images(subject: Subject, sampler: str, count: int, seed: int = 0) -> Tensor:
    """(count, C, H, W) decoded draws of a sampler fitted to the training codes, not clamped.

    Raises:
        UserError: an unknown sampler.
    """
    if sampler not in (*SAMPLERS, "auto"):
        raise UserError(
            f"unknown sampler {sampler!r}{did_you_mean(sampler, SAMPLERS)}",
            hint=f"possible: {one_of([*SAMPLERS, 'auto'])}",
        )
    if sampler == "auto":
        sampler = "prior" if isinstance(subject.posterior, HasPrior) else "gaussian"
    if sampler == "prior" and isinstance(subject.posterior, HasPrior):
        normal = normal_of(subject.generator("sample", seed))
        return subject.decode(subject.posterior.draw_prior(count, normal))
    codes = flat(subject.train_latents if subject.has_train else subject.latents)
    fitted = SAMPLERS[sampler](codes, subject.generator("sampler", seed))
    return subject.decode(fitted.sample(count, subject.generator("sample", seed)))


def _about(net: Trained) -> dict[str, float]:
    return {
        "features_accuracy": net.accuracy,
        "features_chance": net.chance,
        "features_hash": float(int(net.sha256[:6], 16)),
    }


def _within(points: Tensor, others: Tensor, neighbours: int) -> float:
    """Share of points inside of the balls around `others` up to their k-th neighbours."""
    among = distances(others, others).fill_diagonal_(float("inf"))
    radius = among.kthvalue(min(neighbours, len(others) - 1), dim=1).values
    return (distances(points, others) <= radius).any(1).double().mean().item()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


def _comparable(ours: Tensor, theirs: Tensor) -> None:
    if ours.ndim != 2 or ours.shape[1:] != theirs.shape[1:] or min(len(ours), len(theirs)) < 2:
        raise ShapeError(
            "distances need two sets (N, F), (M, F) of two features at least, not "
            f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
        )
    need_finite(ours, "images' features")
    need_finite(theirs, "images' features")

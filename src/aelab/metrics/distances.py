"""Distances between two sets of images in feature space: fidelity and diversity."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ShapeError, UserError, did_you_mean, one_of
from aelab.metrics.features import Trained, train_features
from aelab.metrics.samplers import SAMPLERS
from aelab.metrics.subject import Subject, need_finite, normal_of
from aelab.ops.labels import label_classes
from aelab.ops.nearest import distances
from aelab.ops.random import keyed_generator


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """Squared Frechet distance of two normal distributions fitted to features (FID).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).

    Args:
        ours, theirs: (N, F), (M, F). Small sets increase the value: compare equal numbers.

    Returns:
        At least 0; in squared units of the features.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    size = ours.shape[1]
    # For a single feature `cov` returns a scalar.
    first, second = (torch.cov(values.T).reshape(size, size) for values in (ours, theirs))
    root = _root(first)
    # Symmetric, unlike S1 S2: eigvalsh applies, and the trace of the root is the same.
    both = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    means = (ours.mean(0) - theirs.mean(0)).square().sum()
    distance: float = (means + first.trace() + second.trace() - 2 * both).item()
    return max(0.0, distance)


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / F + 1)^3 (KID).

    Args:
        ours, theirs: (N, F), (M, F).

    Returns:
        An estimate with expectation 0 for equal distributions; it can be below 0.

    Source: Binkowski et al. 2018, arXiv:1801.01401, equation 4.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        """The kernel matrix: (N, F), (M, F) -> (N, M)."""
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(values: Tensor) -> Tensor:
        """The mean kernel over all pairs of different rows."""
        # (N, N): 32 MB in float64 for 2000 images.
        k = kernel(values, values)  # without its diagonal the estimate is unbiased
        return (k.sum() - k.trace()) / (len(values) * (len(values) - 1))

    return (among(ours) + among(theirs) - 2 * kernel(ours, theirs).mean()).item()


def precision_recall(ours: Tensor, theirs: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Share of our points within their set (precision), and the reverse (recall).

    A point lies within a set if its distance to one of the set's points is at most the distance
    of that point to its k-th neighbour.

    Args:
        ours: (N, F) features of generated images.
        theirs: (M, F) features of real images.
        neighbours: k.

    Returns:
        Both 0..1.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    _comparable(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    return _within(ours, theirs, neighbours), _within(theirs, ours, neighbours)


def diversity(features: Tensor) -> float:
    """Mean Euclidean distance of all pairs; 0 if all are the same."""
    count = len(features)
    if count < 2:
        return 0.0
    # The diagonal is 0 up to rounding; each pair is counted twice, in sum and divisor.
    return (distances(features, features).fill_diagonal_(0).sum() / (count * (count - 1))).item()


def sample_quality(
    subject: Subject, sampler: str = "auto", count: int = 2000, seeds: int = 1
) -> dict[str, float]:
    """Quality of sampled images against held-out ones, in the features of a net trained here.

    The values:

    - `frechet`, `kernel`: distances; `precision`, `recall`.
    - `diversity`: mean pairwise distance, relative to that of the held-out images.
    - `reproduction_frechet`: Frechet distance of the reproductions, which no sampler can improve.
    - `frechet_floor`: between two random halves of the held-out images, so the value of equal
      distributions at half the number of images.
    - `features_accuracy`, `features_chance`, `features_hash` (first 6 hexadecimal digits as a
      number): of the feature net. Values with different hashes cannot be compared.

    Args:
        subject: with training images.
        sampler: of `SAMPLERS`, or `run:RUN`; `auto` is `prior` if the posterior has one, else
            `gaussian`.
        count: sampled images, and at most as many held-out ones, drawn at random.
        seeds: number of draws to average.
    """
    net = train_features(subject)
    real = net.features(subject.images[:count])
    whole = diversity(real)
    values = dict.fromkeys(("frechet", "kernel", "precision", "recall", "diversity"), 0.0)
    for seed in range(seeds):
        # As many samples as held-out images: the Frechet distance of small sets is biased upwards.
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
    # Shuffled again: the drawn order balances classes better than a random draw would.
    halves = real[torch.randperm(len(real), generator=keyed_generator(0, "halves"))]
    half = len(real) // 2
    values["frechet_floor"] = frechet_distance(halves[:half], halves[half : 2 * half])
    shown = net.features(subject.reconstructions[:count])
    values["reproduction_frechet"] = frechet_distance(shown, real)
    return {**values, **_about(net)}


def draw_images(subject: Subject, sampler: str, count: int, seed: int = 0) -> Tensor:
    """Decoded samples, (count, C, H, W), of a sampler fitted to the training codes; not clamped.

    A model that is told the class gets classes as frequent as in the training set, drawn
    independently of the fitted codes.

    Args:
        subject: the model.
        sampler: of `SAMPLERS`, `auto`, or `run:RUN`: a run that was trained on these codes.
        count: number of samples.
        seed: another seed draws others.

    Raises:
        UserError: an unknown sampler.
    """
    kind, _, other = sampler.partition(":")
    if kind == "run" and other and subject.second_stage is not None:
        return subject.decode(subject.second_stage(other, count, seed))
    if sampler not in (*SAMPLERS, "auto"):
        raise UserError(
            f"unknown sampler {sampler!r}{did_you_mean(sampler, SAMPLERS)}",
            hint=f"possible: {one_of([*SAMPLERS, 'auto'])}, or run:RUN, a run trained on the "
            "codes of this one",
        )
    if sampler == "auto":
        sampler = "gaussian" if subject.prior is None else "prior"
    if sampler == "prior" and subject.prior is not None:
        normal = normal_of(subject.generator("sample", seed))
        return subject.decode(subject.prior.draw_prior(count, normal))
    codes = subject.train_codes if subject.has_train else subject.codes
    fitted = SAMPLERS[sampler](codes, subject.generator("sampler", seed))
    drawn = fitted.sample(count, subject.generator("sample", seed))
    with_label = getattr(subject.model, "with_label", None)
    if with_label is not None:
        labels = subject.train_labels if subject.has_train else subject.labels
        labels = torch.full((len(codes),), -1) if labels is None else labels
        rows = torch.randint(len(labels), (count,), generator=subject.generator("classes", seed))
        drawn = with_label(drawn, labels[rows])
    return subject.decode(drawn)


def draw_of_class(subject: Subject, number: int, sampler: str, count: int, seed: int = 0) -> Tensor:
    """As `draw_images`, of one class by its number in `subject.classes`.

    A model that is conditioned on classes draws from the prior of the class. For others a sampler
    is fitted to the codes of the class; `auto` is then `gaussian`.

    Raises:
        UserError: an unknown sampler, a second run, or `prior` of a model without classes.
        ConfigError: there is no held-out image of the class.
    """
    if sampler.startswith("run:"):
        raise UserError(f"the sampler {sampler} draws codes of all classes", hint="leave it out")
    if label_classes(subject.model) is None and sampler in ("auto", "prior"):
        if sampler == "prior":
            raise UserError(
                "the prior of this model does not know classes",
                hint="use the sampler gaussian, which is fitted to the codes of the class; or "
                "train a ConditionalAutoencoder",
            )
        sampler = "gaussian"
    return draw_images(subject.of_class(number), sampler, count, seed)


def _about(net: Trained) -> dict[str, float]:
    return {
        "features_accuracy": net.accuracy,
        "features_chance": net.chance,
        "features_hash": float(int(net.sha256[:6], 16)),
    }


def _within(points: Tensor, others: Tensor, neighbours: int) -> float:
    """Share of points within the balls around `others` that reach their k-th neighbours."""
    among = distances(others, others).fill_diagonal_(float("inf"))
    # (M,): the distance of each point to its k-th neighbour, without itself (infinite above).
    radius = among.kthvalue(min(neighbours, len(others) - 1), dim=1).values
    # (N, M) against (M,): each column has the radius of its own point.
    return (distances(points, others) <= radius).any(1).double().mean().item()


def _root(covariance: Tensor) -> Tensor:
    # The symmetric square root; rounding can make eigenvalues slightly negative.
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

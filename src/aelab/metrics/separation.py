"""How well classes are separated in the latent, compared with the pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.metrics.features import fingerprint
from aelab.metrics.subject import Subject, flat, need_finite
from aelab.ops.nearest import nearest_rows

#: Single classes are reported only if there are at most this many.
MOST_CLASSES = 20


def knn_classes(train: Tensor, train_labels: Tensor, test: Tensor, neighbours: int = 5) -> Tensor:
    """The majority class among the nearest training points of each test point, (N,) int64.

    Ties are decided by the nearest point among the tied classes.

    Args:
        train, test: (M, D), (N, D); Euclidean distance.
        train_labels: (M,) int64.
        neighbours: number of votes.
    """
    neighbours = min(neighbours, len(train))
    # At most half a vote, more for nearer points: this decides only ties.
    nearer = torch.linspace(0.5 / neighbours, 0, neighbours, dtype=torch.float64)
    order = nearest_rows(test, train, neighbours).rows
    classes = []
    for part in torch.split(order, 500):
        votes = F.one_hot(
            train_labels[part], int(train_labels.max()) + 1
        ).double()  # (B, k, classes)
        counted = votes.sum(1) + (votes * nearer[None, :, None]).amax(1)
        classes.append(counted.argmax(1))
    return torch.cat(classes)


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, neighbours: int = 5
) -> float:
    """Share of test points that k nearest neighbours classify correctly, 0..1.

    Args:
        train, train_labels, test, neighbours: as of `knn_classes`.
        test_labels: (N,) int64.
    """
    found = knn_classes(train, train_labels, test, neighbours)
    return (found == test_labels).double().mean().item()


def linear_probe_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    weight_decay: float = 1e-4,
) -> float:
    """Share of test points that a multinomial logistic regression classifies correctly.

    Inputs are scaled to mean 0 and standard deviation 1, constant dimensions to 0. L-BFGS with
    at most 100 iterations.

    Args:
        train, test: (M, D), (N, D).
        train_labels, test_labels: (M,), (N,) int64.
        weight_decay: adds weight_decay / 2 times the squared weights to the mean loss.

    Returns:
        0..1.

    Source: Alain & Bengio 2016, arXiv:1610.01644.
    """
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    # Thresholds relative to the other dimensions and to rounding: codes may be tiny or far from 0.
    moves = std > torch.maximum(1e-6 * std.max(), 1e-7 * mean.abs())
    # Constant dimensions become 0 instead of amplified rounding noise.
    scale = torch.where(moves, 1 / std, 0.0)
    inputs, held_out = (((values - mean) * scale).float() for values in (train, test))
    classes = int(torch.maximum(train_labels.max(), test_labels.max())) + 1
    weight, bias = torch.zeros(classes, train.shape[1]), torch.zeros(classes)
    # The problem is convex and small: L-BFGS on all data needs no learning rate.
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")
    wanted = F.one_hot(train_labels, classes).T.float()  # (classes, M)

    def loss() -> Tensor:
        """The current loss of the probe; also computes its gradient.

        The gradient is written out, and the classes come first: that takes two thirds of the time
        of `cross_entropy` and its backward pass.
        """
        log_shares = torch.log_softmax(weight @ inputs.T + bias[:, None], 0)
        errors = (log_shares.exp() - wanted) / len(inputs)
        weight.grad = errors @ inputs + weight_decay * weight
        bias.grad = errors.sum(1)
        fit = -(log_shares * wanted).sum() / len(inputs)
        return fit + 0.5 * weight_decay * weight.square().sum()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    chosen = (held_out @ weight.T + bias).argmax(1)
    return (chosen == test_labels).double().mean().item()


#: The two accuracies on the latest pixels, by what they were made from: runs on one set share them.
_LATEST: dict[str, tuple[float, float]] = {}


def _of_pixels(
    train: Tensor, train_labels: Tensor, test: Tensor, labels: Tensor, neighbours: int
) -> tuple[float, float]:
    """The accuracies of `knn_accuracy` and `linear_probe_accuracy`, kept for the next run."""
    made_from = fingerprint([train, train_labels, test, labels], str(neighbours))
    if made_from not in _LATEST:
        found = (
            knn_accuracy(train, train_labels, test, labels, neighbours),
            linear_probe_accuracy(train, train_labels, test, labels),
        )
        _LATEST.clear()
        _LATEST[made_from] = found
    return _LATEST[made_from]


def separation(subject: Subject, neighbours: int = 5) -> dict[str, float]:
    """Accuracy of simple classifiers on the latent, and on the pixels.

    `knn_latent`, `knn_pixels`: k nearest neighbours; `probe_latent`, `probe_pixels`: linear probe.
    All are 0..1, fitted on training images and counted on held-out ones. Latents are mean codes,
    without a class that the model was told.
    Pixels are used only if they are brightness. Classes are matched by name between the two sets.
    `knn_latent.NAME`: accuracy for one class, if there are at most 20. Held-out images of a class
    without training images are left out.

    Raises:
        ConfigError: there is only one training class, no held-out image is of a training class,
            or codes are not finite.
    """
    assert subject.labels is not None and subject.train_labels is not None
    labels, train_labels = subject.labels.long(), subject.train_labels.long()
    if int(train_labels.min()) == int(train_labels.max()):
        raise ConfigError("all training images are of one class: nothing can be separated")
    known = torch.isin(labels, train_labels)
    if not known.any():
        raise ConfigError(
            "no class is in both the training and the held-out set: nothing can be measured"
        )
    labels = labels[known]
    train, test = subject.train_codes, subject.codes[known]
    need_finite(train, "training images' codes")
    need_finite(test, "held-out images' codes")
    right = knn_classes(train, train_labels, test, neighbours) == labels
    values = {
        "knn_latent": right.double().mean().item(),
        "probe_latent": linear_probe_accuracy(train, train_labels, test, labels),
    }
    if subject.medium.is_brightness:
        pixels = flat(subject.train_images), train_labels, flat(subject.images)[known], labels
        values["knn_pixels"], values["probe_pixels"] = _of_pixels(*pixels, neighbours)
    seen = torch.unique(labels).tolist()
    for number in seen if len(seen) <= MOST_CLASSES else ():
        of_class = right[labels == number].double().mean().item()
        values[f"knn_latent.{subject.classes[number]}"] = of_class
    return values

"""How well single dimensions of the code stand for known factors of the images.

The formulas are those of the papers, as the library disentanglement_lib computes them (Locatello
et al. 2019, arXiv:1811.12359). Codes are the mean codes of the images, (N, D), factors (N, F) int64
from 0. All values are in 0..1 and higher is better.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aelab.errors import ConfigError, MissingExtra
from aelab.metrics.subject import Subject, need_finite

#: Bins into which each dimension of the code is cut, as in disentanglement_lib.
BINS = 20


def binned(codes: Tensor, bins: int = BINS) -> Tensor:
    """Each dimension cut into bins of equal width from its least to its greatest value.

    Args:
        codes: (N, D).
        bins: their number.

    Returns:
        (N, D) int64, 0..bins-1; 0 for a constant dimension.
    """
    values = codes.double()
    low, high = values.amin(0), values.amax(0)
    width = torch.where(high > low, (high - low) / bins, torch.ones_like(low))
    return ((values - low) / width).long().clamp(max=bins - 1)


def mutual_information(first: Tensor, second: Tensor) -> float:
    """Mutual information of two discrete variables with known counts, in nats.

    Args:
        first, second: (N,) int64 from 0.
    """
    columns = int(second.max()) + 1
    counts = torch.bincount(first * columns + second, minlength=(int(first.max()) + 1) * columns)
    joint = counts.view(-1, columns).double() / len(first)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    here = joint > 0
    # At least 0: rounding could give slightly less.
    return max(0.0, float((joint[here] * (joint[here] / apart[here]).log()).sum()))


def entropy(values: Tensor) -> float:
    """Entropy of a discrete variable (N,) int64, in nats."""
    share = torch.bincount(values).double() / len(values)
    share = share[share > 0]
    return float(-(share * share.log()).sum())


def information(codes: Tensor, factors: Tensor, bins: int = BINS) -> Tensor:
    """Mutual information of each dimension with each factor, (D, F) float64 nats."""
    cut = binned(codes, bins)
    rows = [
        [mutual_information(cut[:, d], factors[:, f]) for f in range(factors.shape[1])]
        for d in range(codes.shape[1])
    ]
    return torch.tensor(rows, dtype=torch.float64)


def mutual_information_gaps(codes: Tensor, factors: Tensor, bins: int = BINS) -> list[float]:
    """For each factor: how much more the best dimension says of it than the second best.

    The difference is divided by the factor's entropy. Their mean is the mutual information gap.

    Args:
        codes: (N, D), D at least 2.
        factors: (N, F) int64; a constant factor has no gap and gives 0.
        bins: of each dimension.

    Source: Chen et al. 2018, arXiv:1802.04942, equation 6.
    """
    best = information(codes, factors, bins).sort(0, descending=True).values
    return [
        float((best[0, f] - best[1, f]) / whole) if (whole := entropy(factors[:, f])) else 0.0
        for f in range(factors.shape[1])
    ]


def modularity(codes: Tensor, factors: Tensor, bins: int = BINS) -> float:
    """Whether each dimension stands for one factor only; the mean over dimensions.

    1 - (sum over the other factors of I^2) / (I^2 of its own factor * (F - 1)). A dimension that
    says nothing of any factor counts as 0.

    Source: Ridgeway & Mozer 2018, arXiv:1802.05312, equation 2.
    """
    squared = information(codes, factors, bins).square()
    own = squared.amax(1)
    others = (squared.sum(1) - own) / (own * (factors.shape[1] - 1)).clamp(min=1e-300)
    return float(torch.where(own > 0, 1 - others, torch.zeros_like(own)).mean())


def factor_vae_score(
    codes: Tensor,
    factors: Tensor,
    generator: torch.Generator,
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    least_variance: float = 0.0,
) -> float:
    """Accuracy with which the least varying dimension tells which factor was held fixed.

    In each vote one factor has the same value in a batch of images; the dimension with the least
    variance, relative to its variance over all images, is noted. The factor with most votes for a
    dimension is its prediction.

    Args:
        codes, factors: (N, D), (N, F).
        generator: of batches.
        batch: images in a vote, drawn with repetition.
        train, test: votes that make and that test the prediction.
        least_variance: dimensions of less variance over all images do not vote.

    Source: Kim & Mnih 2018, arXiv:1802.05983, section 4 and figure 2.
    """
    values = codes.double()
    spread = values.var(0)  # unbiased, as in disentanglement_lib
    active = spread > least_variance
    if not active.any():
        return 0.0
    values, spread = values[:, active], spread[active]
    groups = [
        [rows for v in range(int(column.max()) + 1) if len(rows := (column == v).nonzero()[:, 0])]
        for column in factors.unbind(1)
    ]

    def votes(count: int) -> Tensor:
        """(count, 2): the least varying dimension, and the fixed factor."""
        chosen = torch.randint(len(groups), (count,), generator=generator)
        dimensions = torch.empty(count, dtype=torch.int64)
        for f, of_factor in enumerate(groups):
            here = (chosen == f).nonzero()[:, 0]
            # One image decides which value the others share.
            value = torch.randint(len(values), (len(here),), generator=generator)
            own = factors[value, f]
            for rows in of_factor:
                same = here[own == factors[rows[0], f]]
                index = torch.randint(len(rows), (len(same), batch), generator=generator)
                local = values[rows[index]].var(1)  # (votes, batch, D) -> (votes, D)
                dimensions[same] = (local / spread).argmin(1)
        return torch.stack([dimensions, chosen], 1)

    table = torch.zeros(values.shape[1], len(groups), dtype=torch.int64)
    known = votes(train)
    table.index_put_((known[:, 0], known[:, 1]), torch.ones(train, dtype=torch.int64), True)
    new = votes(test)
    return float((table.argmax(1)[new[:, 0]] == new[:, 1]).double().mean())


def separated_predictability(
    train_codes: Tensor, train_factors: Tensor, codes: Tensor, factors: Tensor
) -> list[float]:
    """For each factor: how much better the best single dimension predicts it than the second.

    The prediction is a linear support vector machine of one dimension; its score is the share of
    right values of the factor. The mean over factors is the separated attribute predictability.

    Args:
        train_codes, train_factors: (M, D), (M, F), for fitting.
        codes, factors: (N, D), (N, F), for the scores.

    Raises:
        MissingExtra: scikit-learn is not installed.

    Source: Kumar et al. 2018, arXiv:1711.00848, section 3; with C = 0.01 and balanced classes as
        in disentanglement_lib.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise MissingExtra("the metric 'sap'", "scikit-learn", "latents") from None
    train, test = train_codes.double().numpy(), codes.double().numpy()
    found = []
    for known, wanted in zip(train_factors.numpy().T, factors.numpy().T, strict=True):
        scores = []
        for d in range(train.shape[1]):
            if len(np.unique(known)) < 2:
                scores.append(1.0)
                continue
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0, dual=False)
            machine.fit(train[:, d : d + 1], known)
            scores.append(float((machine.predict(test[:, d : d + 1]) == wanted).mean()))
        best = sorted(scores, reverse=True)
        found.append(best[0] - best[1])
    return found


def dci(importance: Tensor) -> tuple[float, float]:
    """Disentanglement and completeness of a matrix of importances.

    Args:
        importance: (D, F), at least 0: how much a prediction of a factor depends on a dimension.

    Returns:
        Disentanglement: 1 minus the entropy of each dimension's importances over factors, weighted
        by the dimension's share of all importance. Completeness: the same for each factor over the
        dimensions.

    Source: Eastwood & Williams 2018, openreview.net/forum?id=By-7dz-AZ, section 2.
    """
    return _concentration(importance), _concentration(importance.T)


def _concentration(matrix: Tensor) -> float:
    """1 minus the entropy of each row, in units of its greatest, weighted by the rows' sums."""
    values = matrix.double() + 1e-11  # as disentanglement_lib: rows of zeros are spread evenly
    share = values / values.sum(1, keepdim=True)
    entropies = -(share * share.log()).sum(1) / np.log(values.shape[1])
    total = matrix.double().sum()
    if total == 0:
        return 0.0
    return float(((1 - entropies) * matrix.double().sum(1) / total).sum())


def importances(
    train_codes: Tensor, train_factors: Tensor, codes: Tensor, factors: Tensor, trees: int = 40
) -> tuple[Tensor, list[float]]:
    """How much random forests use each dimension to predict each factor, and how well they do.

    Args:
        train_codes, train_factors: (M, D), (M, F), for fitting.
        codes, factors: (N, D), (N, F), for the accuracy.
        trees: in each forest.

    Returns:
        Importances (D, F), whose columns sum to 1, and the accuracy of each factor.

    Raises:
        MissingExtra: scikit-learn is not installed.

    Source: Eastwood & Williams 2018, section 3 (forests of trees); disentanglement_lib boosts trees
        instead, which takes longer.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise MissingExtra("the metric 'dci'", "scikit-learn", "latents") from None
    train, test = train_codes.double().numpy(), codes.double().numpy()
    columns, right = [], []
    for known, wanted in zip(train_factors.numpy().T, factors.numpy().T, strict=True):
        # Every split may use every dimension: chance must not give importance to others.
        forest = RandomForestClassifier(
            trees, min_samples_leaf=2, max_features=None, random_state=0
        )
        forest.fit(train, known)
        columns.append(torch.from_numpy(forest.feature_importances_.copy()))
        right.append(float((forest.predict(test) == wanted).mean()))
    return torch.stack(columns, 1), right


def disentanglement(
    subject: Subject, bins: int = BINS, votes: int = 10_000, least_variance: float = 0.0
) -> dict[str, float]:
    """`mig`, `modularity` and `factor_vae_score` of the held-out images.

    `mig.NAME` is the gap of one factor.

    Args:
        subject: with known factors.
        bins: of each dimension, for the mutual information.
        votes: for the FactorVAE score; half as many test it.
        least_variance: dimensions that vary less have no vote there.

    Raises:
        ConfigError: the code has one dimension only, or codes are not finite.
    """
    codes, factors = _codes_and_factors(subject)
    gaps = mutual_information_gaps(codes, factors, bins)
    score = factor_vae_score(
        codes, factors, subject.generator("factor-vae"), train=votes, test=max(1, votes // 2),
        least_variance=least_variance,
    )  # fmt: skip
    values = {
        "mig": sum(gaps) / len(gaps),
        "modularity": modularity(codes, factors, bins),
        "factor_vae_score": score,
    }
    return values | _by_name(subject, "mig", gaps)


def sap(subject: Subject, images: int = 5_000) -> dict[str, float]:
    """`sap`, and `sap.NAME` of each factor; fitted on training images if these have factors.

    Args:
        subject: with known factors.
        images: training images for fitting, at most.
    """
    found = separated_predictability(*_halves(subject, images))
    return {"sap": sum(found) / len(found)} | _by_name(subject, "sap", found)


def dci_scores(subject: Subject, images: int = 5_000, trees: int = 40) -> dict[str, float]:
    """`dci_disentanglement`, `dci_completeness`, `dci_informativeness` (the mean accuracy).

    `dci_informativeness.NAME` is the accuracy for one factor.

    Args:
        subject: with known factors.
        images: training images for fitting, at most.
        trees: in each random forest.
    """
    matrix, right = importances(*_halves(subject, images), trees=trees)
    separate, complete = dci(matrix)
    values = {
        "dci_disentanglement": separate,
        "dci_completeness": complete,
        "dci_informativeness": sum(right) / len(right),
    }
    return values | _by_name(subject, "dci_informativeness", right)


def _by_name(subject: Subject, key: str, values: list[float]) -> dict[str, float]:
    names = [subject.factor_names[number] for number in _varied(subject).tolist()]
    return {f"{key}.{name}": v for name, v in zip(names, values, strict=True)}


def _varied(subject: Subject) -> Tensor:
    """Numbers of the factors with several values; a constant one, as colour in dSprites, says
    nothing of a code."""
    assert subject.factors is not None
    several = subject.factors.amin(0) < subject.factors.amax(0)
    return several.nonzero()[:, 0]


def _codes_and_factors(subject: Subject) -> tuple[Tensor, Tensor]:
    """The held-out codes (N, D) and factors (N, F)."""
    assert subject.factors is not None
    codes = subject.codes
    factors = subject.factors[:, _varied(subject)]
    need_finite(codes, "held-out images' codes")
    if codes.shape[1] < 2:
        raise ConfigError("a code of one number cannot be compared with a second one")
    if not factors.shape[1]:
        raise ConfigError("every known factor of the held-out images has one value only")
    return codes, factors


def _halves(subject: Subject, images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes and factors for fitting, and for testing."""
    codes, factors = _codes_and_factors(subject)
    known = subject.train_factors
    if known is not None and subject.has_train:
        trained = subject.train_codes
        need_finite(trained, "training images' codes")
        return trained[:images], known[:images, _varied(subject)], codes, factors
    half = len(codes) // 2
    return codes[:half], factors[:half], codes[half:], factors[half:]

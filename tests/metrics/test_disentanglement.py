"""Scores of disentanglement: known codes, and plain versions of the formulas.

The plain versions follow the code of disentanglement_lib (Locatello et al. 2019) step by step, with
NumPy and scikit-learn, and share nothing with the package.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.lab import Lab
from aelab.metrics import METRICS, Subject, lacking, measure
from aelab.metrics.disentanglement import (
    binned,
    dci,
    entropy,
    factor_vae_score,
    importances,
    information,
    modularity,
    mutual_information,
    mutual_information_gaps,
    separated_predictability,
)
from aelab.types import Images, Output

SIZES = (3, 4, 5)
#: All combinations of three factors, 20 times: independent of each other, exactly.
FACTORS = torch.tensor(list(product(*map(range, SIZES)))).repeat(20, 1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mixed(seed: int = 0) -> Tensor:
    """Codes (N, 5) in which each factor is spread over several dimensions, with noise."""
    generator = _generator(seed)
    mixing = torch.randn(3, 5, generator=generator)
    return FACTORS.float() @ mixing + 0.5 * torch.randn(len(FACTORS), 5, generator=generator)


def test_a_perfect_code_has_the_highest_scores() -> None:
    noise = torch.randn(len(FACTORS), 2, generator=_generator())
    codes = torch.cat([FACTORS.float(), 0 * noise], 1)
    assert all(math.isclose(g, 1, abs_tol=1e-9) for g in mutual_information_gaps(codes, FACTORS))
    assert math.isclose(modularity(codes[:, :3], FACTORS), 1, abs_tol=1e-9)
    assert factor_vae_score(codes, FACTORS, _generator(), train=500, test=300) == 1
    matrix, right = importances(codes, FACTORS, codes, FACTORS, trees=10)
    assert right == [1, 1, 1]
    assert all(value > 0.99 for value in dci(matrix))
    assert all(v > 0.2 for v in separated_predictability(codes, FACTORS, codes, FACTORS)[:1])


def test_a_factor_told_by_two_dimensions_alike_has_no_gap() -> None:
    codes = torch.cat([FACTORS.float(), FACTORS[:, :1].float()], 1)
    gaps = mutual_information_gaps(codes, FACTORS)
    assert math.isclose(gaps[0], 0, abs_tol=1e-9) and math.isclose(gaps[1], 1, abs_tol=1e-9)
    assert math.isclose(modularity(codes, FACTORS), 1, abs_tol=1e-9)  # each has one factor only
    assert separated_predictability(codes, FACTORS, codes, FACTORS)[0] == 0


def test_a_code_of_sums_and_differences_is_not_modular() -> None:
    a, b = FACTORS[:, 1].float(), FACTORS[:, 2].float()
    codes = torch.stack([a + b, a - b], 1)
    kept = FACTORS[:, 1:]
    assert modularity(codes, kept) < 0.7
    assert max(mutual_information_gaps(codes, kept)) < 0.1


def test_a_code_of_noise_has_the_lowest_scores() -> None:
    codes = torch.randn(len(FACTORS), 4, generator=_generator())
    assert max(mutual_information_gaps(codes, FACTORS)) < 0.05
    score = factor_vae_score(codes, FACTORS, _generator(), train=2000, test=2000)
    assert score < 0.45  # guessing one of three


def test_constant_dimensions_and_factors_change_nothing_and_break_nothing() -> None:
    codes = torch.cat([FACTORS.float(), torch.zeros(len(FACTORS), 1)], 1)
    constant = torch.cat([FACTORS, torch.zeros(len(FACTORS), 1, dtype=torch.int64)], 1)
    gaps = mutual_information_gaps(codes, constant)
    assert gaps[3] == 0 and math.isclose(gaps[0], 1, abs_tol=1e-9)
    # A dimension that says nothing counts as 0, as in disentanglement_lib.
    assert math.isclose(modularity(codes, FACTORS), 0.75, abs_tol=1e-9)
    assert factor_vae_score(codes, FACTORS, _generator(), train=500, test=300) == 1
    assert factor_vae_score(0 * codes, FACTORS, _generator(), train=5, test=5) == 0


def test_information_is_that_of_scikit_learn() -> None:
    codes = _mixed()
    cut = binned(codes)
    found = information(codes, FACTORS)
    for d in range(5):
        edges = np.histogram(codes[:, d].numpy(), 20)[1][:-1]
        theirs = np.digitize(codes[:, d].numpy(), edges)
        assert (np.abs(theirs - 1 - cut[:, d].numpy()) > 0).mean() < 0.005  # rounding at edges
        for f in range(3):
            wanted = mutual_info_score(theirs, FACTORS[:, f].numpy())
            assert math.isclose(float(found[d, f]), wanted, abs_tol=2e-3)
            exact = mutual_info_score(cut[:, d].numpy(), FACTORS[:, f].numpy())
            assert math.isclose(float(found[d, f]), exact, abs_tol=1e-9)
    assert math.isclose(entropy(FACTORS[:, 2]), math.log(5), abs_tol=1e-9)
    assert mutual_information(FACTORS[:, 0], FACTORS[:, 1]) < 1e-9


def _plain_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """disentanglement_lib: utils.discrete_mutual_info of histogram-discretised codes."""
    m = np.zeros([codes.shape[1], factors.shape[1]])
    for i in range(codes.shape[1]):
        cut = np.digitize(codes[:, i], np.histogram(codes[:, i], 20)[1][:-1])
        for j in range(factors.shape[1]):
            m[i, j] = mutual_info_score(factors[:, j], cut)
    return m


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gap_and_modularity_are_those_of_a_plain_version(seed: int) -> None:
    codes = _mixed(seed)
    m = _plain_information(codes.numpy(), FACTORS.numpy())
    own = [mutual_info_score(column, column) for column in FACTORS.numpy().T]
    ranked = np.sort(m, axis=0)[::-1]
    gaps = mutual_information_gaps(codes, FACTORS)
    assert np.allclose(gaps, (ranked[0] - ranked[1]) / own, atol=3e-3)
    squared = np.square(m)
    top = squared.max(1)
    delta = (squared.sum(1) - top) / (top * (squared.shape[1] - 1.0))
    assert math.isclose(modularity(codes, FACTORS), float(np.mean(1 - delta)), abs_tol=3e-3)


def test_the_factor_vae_score_is_that_of_a_plain_version() -> None:
    codes, rng = _mixed(), np.random.RandomState(0)
    values, factors = codes.numpy().astype(float), FACTORS.numpy()
    spread = values.var(0, ddof=1)

    def vote() -> tuple[int, int]:
        fixed = rng.randint(3)
        value = factors[rng.randint(len(factors)), fixed]
        rows = np.flatnonzero(factors[:, fixed] == value)
        batch = values[rng.choice(rows, 64)]
        return int(np.argmin(batch.var(0, ddof=1) / spread)), fixed

    table = np.zeros((5, 3), int)
    for _ in range(2000):
        table[vote()] += 1
    guess = table.argmax(1)
    wanted = np.mean([guess[d] == f for d, f in (vote() for _ in range(2000))])
    found = factor_vae_score(codes, FACTORS, _generator(), train=2000, test=4000)
    assert 0.4 < found < 1 and math.isclose(found, wanted, abs_tol=0.05)


def test_dci_is_that_of_a_plain_version() -> None:
    matrix = torch.rand(6, 4, generator=_generator(), dtype=torch.float64)
    r = matrix.numpy()

    def plain(rows: np.ndarray) -> float:
        total = 0.0
        for row in rows:
            p = row / row.sum()
            h = -sum(x * math.log(x, len(row)) for x in p)
            total += row.sum() / rows.sum() * (1 - h)
        return total

    separate, complete = dci(matrix)
    assert math.isclose(separate, plain(r), abs_tol=1e-6)
    assert math.isclose(complete, plain(r.T), abs_tol=1e-6)
    assert np.allclose(dci(torch.eye(4)), 1, atol=1e-6)
    assert np.allclose(dci(torch.ones(4, 4)), 0, atol=1e-6)
    # One dimension for all factors: complete, and not disentangled.
    one = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert np.allclose(dci(one), (0, 1), atol=1e-6)


def test_separated_predictability_is_the_difference_of_the_two_best_accuracies() -> None:
    codes = torch.cat([FACTORS[:, :1] + 0.0, FACTORS[:, 1:2] + 0.0, 0.0 * FACTORS[:, :1]], 1)
    binary = (FACTORS[:, :1] == 0).long()
    # Dimension 0 tells the factor perfectly; the others only guess the balanced classes.
    (gap,) = separated_predictability(codes, binary, codes, binary)
    share = float((binary == 0).double().mean())
    assert gap >= 1 - max(share, 1 - share) - 1e-9 and gap <= 1


class _Keeps(nn.Module):
    """Its code are the first pixels of an image."""

    noise_shape, terms = None, ()

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]

    def decode(self, latent: Tensor) -> Tensor:
        return latent.repeat(1, 3)[:, :4].reshape(-1, 1, 2, 2)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent)


def _images() -> Images:
    pixels = torch.cat([FACTORS / 5.0, torch.zeros(len(FACTORS), 1)], 1).view(-1, 1, 2, 2)
    facts = {"factor_names": ["kind", "size", "place"], "factor_sizes": list(SIZES)}
    return Images(pixels, facts=facts, factors=FACTORS)


@pytest.mark.parametrize(
    ("name", "options"),
    [("disentanglement", {"votes": 500}), ("sap", {}), ("dci", {"trees": 5})],
)
def test_scores_of_a_subject_are_those_of_its_codes(name: str, options: dict[str, int]) -> None:
    subject = Subject(_Keeps(), _images(), _images())
    values = measure(subject, METRICS[name], **options)
    assert all(0 <= value <= 1 for value in values.values())
    best = {"mig", "modularity", "factor_vae_score", "dci_informativeness", "mig.place"}
    assert all(values[key] > 0.99 for key in best & values.keys())
    assert {key.partition(".")[2] for key in values if "." in key} == {"kind", "size", "place"}


def test_a_factor_with_one_value_is_left_out() -> None:
    images = _images()
    colour = torch.zeros(len(FACTORS), 1, dtype=torch.int64)
    facts = {"factor_names": ["colour", "kind", "size", "place"]}
    more = Images(images.pixels, facts=facts, factors=torch.cat([colour, FACTORS], 1))
    for metric, options in (("disentanglement", {"votes": 500}), ("dci", {"trees": 5})):
        plain = measure(Subject(_Keeps(), images), METRICS[metric], **options)
        assert measure(Subject(_Keeps(), more), METRICS[metric], **options) == plain


def test_a_set_without_factors_says_so() -> None:
    subject = Subject(_Keeps(), Images(torch.rand(5, 1, 2, 2)))
    assert lacking(subject, METRICS["disentanglement"]) == "the images have no known factors"


def test_a_run_without_factors_is_measured_without_a_note_about_them(tiny: Path) -> None:
    lab = Lab(tiny.parent / "runs")
    list(lab.run(tiny, only="*mlp*seed:1"))
    opened = lab.open(lab.find()[0].folder)
    assert "disentanglement" not in opened.evaluate().skipped
    asked = opened.evaluate(["disentanglement"]).skipped
    assert asked == {"disentanglement": "the images have no known factors"}


def test_a_code_of_one_number_is_refused() -> None:
    model = _Keeps()
    model.encode = lambda images: images.flatten(1)[:, :1]  # type: ignore[method-assign]
    model.decode = lambda latent: latent.repeat(1, 4).view(-1, 1, 2, 2)  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="a code of one number"):
        measure(Subject(model, _images()), METRICS["disentanglement"])

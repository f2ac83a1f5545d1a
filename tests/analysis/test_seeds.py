from __future__ import annotations

import math

import numpy as np
import pytest

from aelab.analysis.seeds import difference, spread, t_quantile


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert (found.low, found.high, found.count) == (1.0, 4.0, 3)
    assert found.plus_minus == found.std


def test_two_values_are_shown_with_half_their_range_and_one_with_nothing() -> None:
    assert str(spread([0.0351929, 0.0357742])) == "0.0354836 ± 0.00029 (n=2)"
    assert spread([1.0]).plus_minus is None and str(spread([1.0])) == "1"


@pytest.mark.parametrize(
    ("freedom", "published"),
    [
        (1, 12.7062),
        (4, 2.7764),
        (10, 2.2281),
        (30, 2.0423),
        (40, 2.0211),
        (60, 2.0003),
        (120, 1.9799),
    ],
)
def test_t_quantiles_are_those_of_the_tables(freedom: int, published: float) -> None:
    assert t_quantile(freedom) == pytest.approx(published, abs=5e-4)


def test_fractions_of_freedom_are_rounded_to_the_safe_side() -> None:
    assert t_quantile(4.9) == t_quantile(4)
    assert t_quantile(0.5) == t_quantile(1)


def test_paired_seeds_show_a_difference_smaller_than_the_seeds_spread() -> None:
    first = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    second = {seed: loss + 0.1 + 0.001 * seed for seed, loss in first.items()}
    paired = difference(first, second)
    assert paired.method == "paired t" and paired.distinguishable
    assert paired.low < paired.mean < paired.high < 0
    other_seeds = {seed + 10: loss for seed, loss in second.items()}
    unpaired = difference(first, other_seeds)
    assert unpaired.method == "Welch t" and not unpaired.distinguishable
    assert unpaired.mean == pytest.approx(paired.mean)


def test_welch_agrees_with_its_definition() -> None:
    a = dict(enumerate([27.5, 21.0, 19.0, 23.6, 17.0, 17.9]))
    b = dict(enumerate([27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8], start=10))
    found = difference(a, b)
    variances = [np.var(list(g.values()), ddof=1) / len(g) for g in (a, b)]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 5 + variances[1] ** 2 / 6)
    assert int(freedom) == 7
    reach = 2.365 * math.sqrt(sum(variances))
    assert found.high - found.mean == pytest.approx(reach, rel=1e-6)
    assert not found.distinguishable


def test_single_runs_cannot_be_told_apart() -> None:
    found = difference({0: 1.0}, {0: 2.0})
    assert found.distinguishable is None and found.low == -math.inf


def test_equal_groups_are_not_distinguishable() -> None:
    assert difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}).distinguishable is False
    assert difference({0: 1.0, 1: 1.0}, {5: 1.0, 6: 1.0}).distinguishable is False


def test_chance_is_called_a_difference_in_about_five_of_a_hundred_cases() -> None:
    generator = np.random.default_rng(0)
    for shift in (0, 10):  # paired, unpaired
        found = 0
        for _ in range(400):
            a = dict(enumerate(generator.normal(size=4).tolist()))
            b = dict(enumerate(generator.normal(size=4).tolist(), start=shift))
            found += bool(difference(a, b).distinguishable)
        assert found <= 0.08 * 400

from __future__ import annotations

import math

import numpy as np
import pytest

from aelab.analysis.seeds import (
    against_best,
    difference,
    seeds_needed,
    spread,
    t_quantile,
    t_two_sided,
)


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert (found.low, found.high, found.count) == (1.0, 4.0, 3)


def test_what_stands_behind_plus_minus_is_the_same_for_any_number_of_runs() -> None:
    assert str(spread([1.0, 2.0])) == "1.5 ± 0.71 (n=2)"
    assert str(spread([1.0, 2.0, 1.5])) == "1.5 ± 0.5 (n=3)"
    assert spread([1.0]).std is None and str(spread([1.0])) == "1"


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
    reach = 2.364624 * math.sqrt(sum(variances))
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


@pytest.mark.parametrize(
    ("t", "freedom", "published"),
    [(1.0, 1, 0.5), (12.7062, 1, 0.05), (636.619, 1, 0.001), (2.0, 2, 0.18350), (4.0321, 5, 0.01)],
)
def test_two_sided_chances_are_those_of_the_tables(
    t: float, freedom: int, published: float
) -> None:
    assert t_two_sided(t, freedom) == pytest.approx(published, rel=2e-4)
    assert t_two_sided(-t, freedom) == t_two_sided(t, freedom)
    assert t_quantile(freedom, published) == pytest.approx(t, rel=2e-4)


def _equal_settings(
    generator: np.random.Generator, rows: int, seeds: int, *, paired: bool
) -> list[dict[int, float]]:
    """Losses of settings that differ by chance only; pairs share what the seed does to both."""
    losses = 1.0 + 0.01 * generator.normal(size=(rows, seeds))
    losses += 0.02 * generator.normal(size=seeds) if paired else 0.0
    return [
        {seed + (0 if paired else seeds * row): float(losses[row, seed]) for seed in range(seeds)}
        for row in range(rows)
    ]


def _share_with_a_claim(rows: int, seeds: int, *, paired: bool, tables: int) -> float:
    generator = np.random.default_rng([rows, seeds, paired])
    claims = 0
    for _ in range(tables):
        (judged,) = against_best([_equal_settings(generator, rows, seeds, paired=paired)])
        claims += any(row.verdict == "yes" for row in judged)
    return claims / tables


@pytest.mark.parametrize("paired", [True, False])
def test_a_table_of_eight_equal_settings_claims_a_difference_in_five_of_a_hundred_at_most(
    paired: bool,
) -> None:
    assert _share_with_a_claim(8, 3, paired=paired, tables=100) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("rows", [2, 4, 8, 16])
def test_a_table_of_equal_settings_claims_a_difference_in_five_of_a_hundred_at_most(
    rows: int, seeds: int, paired: bool
) -> None:
    # Two rows are one exact test at 5 %: three standard errors above it for so many tables.
    allowed = 0.05 + (0.0292 if rows == 2 else 0.0)
    assert _share_with_a_claim(rows, seeds, paired=paired, tables=500) <= allowed


def test_groups_of_one_table_share_the_five_of_a_hundred() -> None:
    generator = np.random.default_rng(5)
    claims = 0
    for _ in range(200):
        families = [_equal_settings(generator, 2, 3, paired=True) for _ in range(8)]
        claims += any(j.verdict == "yes" for judged in against_best(families) for j in judged)
    assert claims <= 0.05 * 200 + 3 * (0.05 * 0.95 * 200) ** 0.5


def test_a_clear_difference_is_found_with_its_size_in_per_cent() -> None:
    best = {seed: 1.0 + 0.01 * seed for seed in range(5)}
    worse = {seed: loss + 0.25 + 0.001 * (-1) ** seed for seed, loss in best.items()}
    ((first, second),) = against_best([[worse, best]])
    assert (first.verdict, second.verdict) == ("yes", "best")
    assert first.percent == pytest.approx(24.5, abs=0.3)
    assert first.low is not None and first.high is not None
    assert 23 < first.low < first.percent < first.high < 26
    assert first.seeds_needed is None


def test_no_is_said_only_where_the_interval_stays_within_five_per_cent() -> None:
    near = {seed: 1.0 + 0.001 * (-1) ** seed for seed in range(6)}
    equal = {seed: 1.0 + 0.001 * (-1) ** (seed // 2) for seed in range(6)}
    ((a, b),) = against_best([[near, equal]])
    assert {a.verdict, b.verdict} == {"best", "no"}
    wide = {seed: 1.0 + 0.2 * (-1) ** (seed // 2) for seed in range(6)}
    ((a, b),) = against_best([[near, wide]])
    assert {a.verdict, b.verdict} == {"best", "cannot tell (6 seeds)"}


def test_two_seeds_cannot_tell_and_say_how_many_could() -> None:
    ((best, other),) = against_best([[{0: 0.100, 1: 0.110}, {0: 0.125, 1: 0.145}]])
    assert best.verdict == "best" and other.verdict == "cannot tell (2 seeds)"
    assert other.low is not None and other.low < 0 < 28 < other.percent < 29 < other.high
    assert other.seeds_needed == 3
    ((_, single),) = against_best([[{0: 0.1, 1: 0.11}, {0: 0.2}]])
    assert (single.verdict, single.low) == ("cannot tell (1 seed)", None)


def test_losses_below_zero_are_compared_by_their_magnitude() -> None:
    ((best, other),) = against_best(
        [[dict(enumerate([-10.0, -10.1, -9.9])), dict(enumerate([-5.0, -5.1, -4.91]))]]
    )
    assert best.verdict == "best" and other.verdict == "yes"
    assert other.percent == pytest.approx(50, abs=0.5)


def test_the_seeds_that_are_asked_for_find_the_difference_in_four_of_five_cases() -> None:
    needed = seeds_needed(1.0, 1.0, 0.05, paired=True)
    assert needed == 10  # with normal quantiles (1.96 + 0.84)^2 = 7.8
    generator = np.random.default_rng(2)
    found = 0
    for _ in range(400):
        gaps = generator.normal(1.0, 1.0, size=needed).tolist()
        found += bool(
            difference(dict(enumerate(gaps)), dict.fromkeys(range(needed), 0.0)).distinguishable
        )
    assert 0.75 <= found / 400 <= 0.88
    assert seeds_needed(0.0, 1.0, 0.05, paired=True) is None
    assert seeds_needed(1e-9, 1.0, 0.05, paired=False) is None


def test_losses_that_may_be_negative_have_no_5_per_cent() -> None:
    best, other = {1: -4500.0, 2: -4498.0, 3: -4501.0}, {1: -4490.0, 2: -4500.0, 3: -4485.0}
    assert against_best([[best, other]])[0][1].verdict == "cannot tell (3 seeds)"
    shifted = [{seed: loss + 9000 for seed, loss in losses.items()} for losses in (best, other)]
    assert against_best([shifted])[0][1].verdict == "no"
    assert against_best([[best, dict(best)]])[0][1].verdict == "no"

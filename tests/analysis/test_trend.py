from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aelab.analysis.trend import Trend, run_trend, schedule_ended, together, trend
from aelab.runs.store import Store

#: Curves over the share of the run that is done, and the direction of their last fifth.
SHAPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "flat": (lambda x: 0.05 + 0 * x, "flat"),
    "transient, then flat": (lambda x: 0.05 * (1 + 3 * np.exp(-x / 0.05)), "flat"),
    "corner, then flat": (lambda x: 0.05 * (1 + np.maximum(0.6 - x, 0)), "flat"),
    "power law": (lambda x: 0.05 * x**-0.3, "falling"),
    "slow power law": (lambda x: 0.05 * x**-0.1, "falling"),
    "exponential": (lambda x: 0.05 * (1 + 3 * np.exp(-x / 0.2)), "falling"),
    "cosine end": (lambda x: 0.05 * (1 + 0.15 * (1 + np.cos(np.pi * x))), "falling"),
    "step of the schedule": (lambda x: 0.05 * np.where(x > 0.7, 0.8, 1.0) * x**-0.1, "falling"),
    "late step": (lambda x: 0.05 * np.where(x > 0.9, 0.8, 1.0) * x**-0.1, "falling"),
    "overfits from half on": (lambda x: 0.05 * (1 + 0.6 * (x - 0.5) ** 2), "rising"),
    "overfits late": (lambda x: 0.05 * (1 + 0.6 * (x - 0.83) ** 2), "rising"),
    "overfits slowly": (lambda x: 0.05 * (1 + 0.5 * np.exp(-x / 0.15) + 0.1 * x**4), "rising"),
}
OPPOSITE = {"falling": {"rising"}, "rising": {"falling"}, "flat": {"falling", "rising"}}


def noise_of(generator: np.random.Generator, count: int, likeness: float) -> np.ndarray:
    """Noise of deviation 1 whose neighbours correlate by `likeness`, from its stationary law."""
    noise = generator.normal(size=count)
    for i in range(1, count):
        noise[i] = likeness * noise[i - 1] + math.sqrt(1 - likeness**2) * noise[i]
    return noise


def directions(name: str, count: int, noise: float, likeness: float, tries: int) -> Counter[str]:
    """The verdicts on a shape with noise, of a run of a million images."""
    generator = np.random.default_rng(count)
    x = np.arange(1, count + 1) / count
    smooth = SHAPES[name][0](x)
    return Counter(
        trend(
            (x * 1e6).tolist(),
            (smooth * np.exp(noise * noise_of(generator, count, likeness))).tolist(),
        ).direction
        for _ in range(tries)
    )


@pytest.mark.parametrize("count", [5, 8, 10, 12, 16, 20, 25, 50, 100, 300])
@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.9])
def test_noise_is_called_a_trend_in_at_most_one_of_twenty_curves(
    count: int, likeness: float
) -> None:
    found = directions("flat", count, 0.02, likeness, 300)
    # 22 of 300 is what a chance of 5 % exceeds in about 3 of 100 cases.
    assert found["falling"] + found["rising"] <= 22


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 12, 14, 16, 18, 20, 22, 25, 30, 40, 60, 100, 300, 1000])
@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.9])
def test_noise_is_called_a_trend_in_at_most_5_percent(count: int, likeness: float) -> None:
    found = directions("flat", count, 0.02, likeness, 2000)
    assert found["falling"] + found["rising"] <= 0.055 * 2000


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("count", [10, 25, 100])
def test_the_wrong_direction_is_told_in_at_most_one_of_twenty_curves(name: str, count: int) -> None:
    for noise, likeness in ((0.0005, 0.0), (0.005, 0.0), (0.02, 0.0), (0.002, 0.9), (0.02, 0.9)):
        found = directions(name, count, noise, likeness, 40)
        assert sum(found[word] for word in OPPOSITE[SHAPES[name][1]]) <= 4, (noise, likeness, found)


@pytest.mark.parametrize("name", [n for n, (_, way) in SHAPES.items() if way != "flat"])
@pytest.mark.parametrize("count", [25, 60, 100, 500])
def test_less_noise_never_makes_a_trend_flat(name: str, count: int) -> None:
    way = SHAPES[name][1]
    tries = 20
    found = [
        directions(name, count, noise, 0.0, tries)[way] / tries
        for noise in (0.03, 0.01, 0.003, 0.001, 0.0001)
    ]
    assert found[-1] == 1.0
    assert all(less >= more - 0.25 for more, less in itertools.pairwise(found)), found


@pytest.mark.parametrize(("count", "drop"), [(10, -0.1), (17, -0.08), (60, -0.05), (1000, -0.02)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_real_slope_is_found_and_its_interval_holds_it(
    count: int, drop: float, sign: int
) -> None:
    generator = np.random.default_rng(count)
    images = np.arange(1, count + 1) * 1e6 / count
    trends = [
        trend(
            images.tolist(),
            (np.exp(sign * drop * images / 1e5 + 0.01 * generator.normal(size=count))).tolist(),
        )
        for _ in range(100)
    ]
    word = "falling" if sign > 0 else "rising"
    assert [entry.direction for entry in trends].count(word) >= 90
    true = math.expm1(2 * sign * drop)  # a fifth are 200,000 images
    assert sum(entry.low <= true <= entry.high for entry in trends) >= 93  # type: ignore[operator]


def test_the_verdict_tells_the_change_of_the_last_fifth_in_its_length() -> None:
    images = [float(i * 50_000) for i in range(1, 21)]
    losses = [0.987 ** (x / 100_000) for x in images]
    found = trend(images, losses)
    assert found.verdict == "falling 2.6 % (2.6 to 2.6) in the last 200,000 images"
    assert found.change == pytest.approx(0.987**2 - 1) and found.span_images == 200_000
    assert (found.first_images, found.last_images) == (500_000, 1_000_000)
    assert trend(images, losses[::-1]).verdict.startswith("rising 2.7 % (2.7 to 2.7) in the last")
    assert trend(images, [1.0] * 20).direction == "flat"


def test_the_interval_stands_in_the_verdict() -> None:
    generator = np.random.default_rng(0)
    images = [float(i * 10_000) for i in range(1, 101)]
    losses = [0.9 ** (x / 100_000) * (1 + 0.01 * generator.normal()) for x in images]
    found = trend(images, losses)
    assert found.low is not None and found.high is not None
    weak, strong = sorted((-100 * found.low, -100 * found.high))
    assert f"({weak:.0f} to {strong:.0f})" in found.verdict


def test_a_schedule_that_has_ended_is_told() -> None:
    images = [float(i * 50_000) for i in range(1, 21)]
    flat = trend(images, [1.0] * 20, schedule_ended=True)
    assert flat.verdict.startswith("flat: the schedule has ended (")
    falling = trend(images, [0.9**i for i in range(20)], schedule_ended=True)
    assert falling.verdict.endswith("in the last 200,000 images; the schedule has ended")


@pytest.mark.parametrize(
    ("rates", "ended"),
    [
        ([], False),
        ([0.001] * 5, False),
        ([0.0, 0.001, 0.0005], False),  # still far from its end
        ([0.0, 0.001, 0.0005, 0.00001], True),
        ([0.001, 0.0], True),
    ],
)
def test_a_schedule_has_ended_where_the_rate_is_nearly_nothing(
    rates: list[float], ended: bool
) -> None:
    assert schedule_ended([{"learnrate": rate} for rate in rates]) is ended


def test_five_validations_of_a_whole_run_are_no_trend() -> None:
    # The first table of a newcomer: the last step is -0.9 %, "falling 95 %" was told.
    losses = [0.15098, 0.12031, 0.10747, 0.10239, 0.10148]
    assert trend([10_000.0 * i for i in range(1, 6)], losses).verdict == "too few points"


def test_one_wild_point_does_not_matter() -> None:
    images = [float(i * 10_000) for i in range(1, 41)]
    losses = [0.9 ** (x / 100_000) for x in images]
    losses[36] = 1e6
    assert trend(images, losses).change == pytest.approx(0.9**0.8 - 1, abs=0.01)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([], "too few points"),
        ([1.0, 0.9, 0.8, 0.7], "too few points"),
        ([1.0, 0.9, 0.8, 0.7, math.nan], "not a number"),
        ([1.0] * 9 + [math.inf], "not a number"),
        ([1.0, math.nan, 0.9, math.nan, 0.8, 0.7], "too few points"),
    ],
)
def test_curves_without_a_verdict(losses: list[float], verdict: str) -> None:
    found = trend([float(i) for i in range(len(losses))], losses)
    assert (found.verdict, found.direction, found.change) == (verdict, verdict, None)


def test_losses_below_zero_are_told_relative_to_their_size() -> None:
    images = [float(i * 10_000) for i in range(1, 31)]
    found = trend(images, [-100 - x / 10_000 for x in images])
    assert found.direction == "falling" and found.change == pytest.approx(-6 / 122.5, rel=0.02)


def test_a_vertical_pile_of_points_has_no_trend() -> None:
    assert trend([5.0] * 10, [1.0] * 10) == Trend("too few points", points=10)


def test_repeats_are_told_by_their_mean_and_an_interval_around_all() -> None:
    one = Trend("a", -0.02, -0.03, -0.01, span_images=1000)
    two = Trend("b", -0.04, -0.05, -0.03, span_images=1000)
    up = Trend("c", 0.1, 0.05, 0.2, span_images=1000)
    assert together([one, two]) == "falling 3 % (1 to 5) in the last 1,000 images"
    assert together([one, two, up]) == "2 falling, 1 rising"
    assert together([one, one]) == "a"
    assert together([Trend("too few points")]) == together([]) == ""


def test_a_run_with_few_validations_is_judged_by_its_training_loss(tmp_path: Path) -> None:
    run = Store(tmp_path / "runs").create({"folder": "x", "identity": "1"})
    assert run_trend(run).verdict == "too few points"
    run.append(*({"split": "train", "images": i * 1000, "loss": 0.99**i} for i in range(1, 40)))
    assert run_trend(run).verdict.endswith("images, training loss")
    run.append(*({"split": "validation", "images": i * 5000, "loss": 1.0} for i in range(1, 8)))
    found = run_trend(run)
    told = "images, training loss (too few validations)"
    assert found.source == "train" and found.verdict.endswith(told)
    other = replace(found, change=-0.1, low=-0.2, high=-0.05, verdict="another")
    assert together([found, other]).endswith(told)
    run.append(*({"split": "validation", "images": 35_000 + i, "loss": 1.0} for i in range(1, 4)))
    assert run_trend(run).source == "validation" and run_trend(run).direction == "flat"


def test_a_curve_that_does_not_move_changes_by_0_per_cent() -> None:
    assert (
        trend(range(100, 2100, 100), [0.5] * 20).verdict == "flat (0 to 0 %) in the last 400 images"
    )

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aelab.analysis.trend import Trend, run_trend, slope_interval, trend
from aelab.runs.store import Store


def noisy(
    generator: np.random.Generator, count: int, drop: float, likeness: float = 0.0
) -> tuple[list[float], list[float]]:
    """A loss near 0.05 over a million images that changes by `drop` per 100,000 images."""
    noise = generator.normal(size=count + 50)
    for i in range(1, count + 50):
        noise[i] += likeness * noise[i - 1]
    images = np.arange(1, count + 1) * 1e6 / count
    losses = 0.05 * np.exp(math.log1p(drop) * images / 1e5 + 0.02 * noise[50:])
    return images.tolist(), losses.tolist()


@pytest.mark.parametrize("count", [5, 8, 10, 17, 40, 100, 600])
def test_a_flat_noisy_curve_is_called_flat(count: int) -> None:
    generator = np.random.default_rng(count)
    verdicts = [trend(*noisy(generator, count, 0.0)).direction for _ in range(200)]
    assert verdicts.count("flat") >= 0.93 * len(verdicts)


@pytest.mark.parametrize("count", [10, 40, 600])
def test_noise_that_lingers_is_not_taken_for_a_trend(count: int) -> None:
    generator = np.random.default_rng(count)
    verdicts = [trend(*noisy(generator, count, 0.0, 0.5)).direction for _ in range(200)]
    assert verdicts.count("flat") >= 0.88 * len(verdicts)


@pytest.mark.parametrize(("count", "drop"), [(10, -0.1), (17, -0.08), (60, -0.05), (1000, -0.02)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_real_slope_is_found_and_its_interval_holds_it(
    count: int, drop: float, sign: int
) -> None:
    generator = np.random.default_rng(count)
    trends = [trend(*noisy(generator, count, sign * drop)) for _ in range(100)]
    word = "falling" if sign > 0 else "rising"
    assert [entry.direction for entry in trends].count(word) >= 90
    covered = [entry.low <= sign * drop <= entry.high for entry in trends]  # type: ignore[operator]
    assert sum(covered) >= 90


def test_the_verdict_says_the_rate_per_100_000_images() -> None:
    images = [float(i * 50_000) for i in range(1, 21)]
    losses = [0.987 ** (x / 100_000) for x in images]
    found = trend(images, losses)
    assert found.verdict == "falling 1.3 % per 100,000 images"
    assert found.rate == pytest.approx(-0.013)
    assert (found.first_images, found.last_images) == (550_000, 1_000_000)
    assert trend(images, losses[::-1]).verdict == "rising 1.3 % per 100,000 images"
    assert trend(images, [1.0] * 20).verdict == "flat"


def test_only_the_last_part_counts() -> None:
    images = [float(i * 10_000) for i in range(1, 61)]
    losses = [max(1 - x / 300_000, 0.1) for x in images]
    assert trend(images, losses).verdict == "flat"


def test_one_wild_point_does_not_matter() -> None:
    images = [float(i * 10_000) for i in range(1, 31)]
    losses = [0.9 ** (x / 100_000) for x in images]
    losses[25] = 1e6
    assert trend(images, losses).rate == pytest.approx(-0.1, abs=0.01)


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
    assert (found.verdict, found.direction, found.rate) == (verdict, verdict, None)


def test_losses_below_zero_are_told_relative_to_their_size() -> None:
    images = [float(i * 10_000) for i in range(1, 31)]
    found = trend(images, [-100 - x / 10_000 for x in images])
    assert found.direction == "falling" and found.rate == pytest.approx(-10 / 125, rel=0.1)


def test_a_vertical_pile_of_points_has_no_trend() -> None:
    assert trend([5.0] * 10, [1.0] * 10) == Trend("too few points", points=10)


def test_the_slope_agrees_with_its_definition() -> None:
    x, y = [0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 9.0, 3.0, 4.0]
    slope, low, high = slope_interval(x, y)
    assert slope == 1.0 and low <= 1.0 <= high


def test_a_run_with_few_validations_is_judged_by_its_training_loss(tmp_path: Path) -> None:
    run = Store(tmp_path / "runs").create({"folder": "x", "identity": "1"})
    assert run_trend(run).verdict == "too few points"
    run.append(*({"split": "train", "images": i * 1000, "loss": 0.99**i} for i in range(1, 40)))
    run.append(*({"split": "validation", "images": i * 9000, "loss": 1.0} for i in range(1, 5)))
    assert run_trend(run).source == "train" and run_trend(run).direction == "falling"
    run.append({"split": "validation", "images": 45_000, "loss": 1.0})
    assert run_trend(run).source == "validation" and run_trend(run).verdict == "flat"

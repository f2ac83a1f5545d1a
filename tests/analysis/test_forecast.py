"""Forecasts hold what they promise on the recorded curves of short real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from aelab.analysis import forecast as fc
from aelab.schedule_forms import constant, planned
from aelab.settings import Choice

SHARES = (0.05, 0.1, 0.25, 0.5)


class Case(NamedTuple):
    """A recorded curve, cut at a part of its budget, and what came of it."""

    curve: dict[str, Any]
    share: float
    known: fc.Known
    guess: fc.Guess
    level: float


@pytest.fixture(scope="module")
def curves() -> list[dict[str, Any]]:
    told = json.loads((Path(__file__).parent / "curves.json").read_text(encoding="utf-8"))
    return [curve for curve in told if all(loss is not None for loss in curve["loss"])]


@pytest.fixture(scope="module")
def cases(curves: list[dict[str, Any]]) -> list[Case]:
    found = []
    for curve in curves:
        arguments = {"warmup_images": 1_000} if curve["schedule"] == "WarmupCosine" else {}
        factor = planned(Choice(curve["schedule"], arguments), end=curve["end"])
        assert factor is not None
        end = curve["images"][-1]
        for share in SHARES:
            seen = sum(at <= share * end + curve["images"][0] / 2 for at in curve["images"])
            known = fc.known_curve(
                curve["images"][:seen], curve["loss"][:seen], end=end, factor=factor
            )
            if known is not None:
                level = math.log(curve["loss"][-1])
                found.append(Case(curve, share, known, fc.guess(known), level))
    return found


def test_the_corpus_is_as_large_and_as_mixed_as_is_said(curves: list[dict[str, Any]]) -> None:
    nets, data = zip(*(curve["matrix"].split("-") for curve in curves), strict=True)
    assert len(set(nets)) >= 8 and len(set(data)) == 4
    assert len({curve["schedule"] for curve in curves}) >= 3
    assert len({curve["optimizer"] for curve in curves}) >= 3


@pytest.mark.parametrize("share", SHARES)
def test_the_interval_holds_the_end_as_often_as_it_says(cases: list[Case], share: float) -> None:
    """Each matrix is judged by quantiles of all others, so that nothing is judged by itself."""
    own = [case for case in cases if case.share == share]
    gaps = np.array([fc.distance(case.guess, case.level) for case in own])
    names = np.array([case.curve["matrix"] for case in own])
    kinds = np.array([case.known.rate_shape for case in own])
    schedules = np.array([case.curve["schedule"] for case in own])
    inside = np.zeros(len(own), dtype=bool)
    for name in set(names):
        for kind in set(kinds[names == name]):
            judged = (names == name) & (kinds == kind)
            low, high = np.quantile(gaps[(names != name) & (kinds == kind)], (0.084, 0.916))
            inside[judged] = (low <= gaps[judged]) & (gaps[judged] <= high)
    assert 0.7 <= inside.mean() <= 0.9
    for schedule in set(schedules):
        assert 0.7 <= inside[schedules == schedule].mean() <= 0.9, schedule


@pytest.mark.parametrize("share", SHARES)
def test_the_shipped_intervals_are_those_of_the_corpus(cases: list[Case], share: float) -> None:
    own = [case for case in cases if case.share == share]
    told = [(fc.forecast(case.known), math.exp(case.level)) for case in own]
    inside = [forecast.low <= end <= forecast.high for forecast, end in told]
    assert 0.75 <= np.mean(inside) <= 0.9


def test_forecasts_are_nearer_than_the_present_loss(cases: list[Case]) -> None:
    for share in SHARES:
        own = [case for case in cases if case.share == share]
        ours = [abs(case.guess.middle - case.level) for case in own]
        last = [abs(float(case.known.levels[-1]) - case.level) for case in own]
        assert np.median(ours) < 0.7 * np.median(last)


def test_the_end_of_a_cosine_is_foreseen() -> None:
    """Two equal beginnings end differently where the rates still to come do."""
    images = [float(x) for x in range(1_000, 31_000, 1_000)]
    losses = [0.05 * (x / 1_000) ** -0.3 for x in images]
    ends = []
    for name in ("constant", "cosine"):
        factor = planned(Choice(name, {}), end=60_000)
        assert factor is not None
        ends.append(fc.forecast(fc.known_curve(images, losses, end=60_000, factor=factor)))
    assert all(told.low < told.loss < told.high for told in ends)
    assert ends[0].loss == pytest.approx(0.05 * 60**-0.3, rel=0.1)


def test_a_plateau_before_a_knee_has_a_wide_interval() -> None:
    """Document 000: 0.026 at 2.4 of 43 million images, a knee at 7 million, 0.0129 at the end."""
    images = [0.3e6 * i for i in range(1, 9)]
    losses = [0.026 * (x / 2.4e6) ** -0.12 for x in images]
    told = fc.forecast(
        fc.known_curve(images, losses, end=43e6, factor=constant(max_images=43_000_000))
    )
    assert told.low < 0.0129 < told.high


def test_what_cannot_be_told_is_not_told() -> None:
    factor = constant(max_images=100)

    def told(images: list[float], losses: list[float]) -> str:
        return fc.forecast(fc.known_curve(images, losses, end=100, factor=factor)).words()

    assert told([10], [0.1]) == "cannot tell yet: too few validations"
    assert told([1, 2, 3], [0.3, 0.2, 0.1]) == "cannot tell yet: only 3 % of the run is seen"
    assert told([10, 20], [0.1, -0.1]) == "cannot tell yet: too few validations"


def test_chances_and_words_agree_with_the_interval() -> None:
    images = [float(x) for x in range(1_000, 26_000, 1_000)]
    losses = [0.02 + 0.05 * (x / 1_000) ** -0.8 for x in images]
    told = fc.forecast(
        fc.known_curve(images, losses, end=50_000, factor=constant(max_images=50_000))
    )
    assert told.chance_below(told.low) == pytest.approx(0.1, abs=0.001)
    assert told.chance_below(told.loss) == pytest.approx(0.5, abs=0.001)
    assert told.chance_below(told.high) == pytest.approx(0.9, abs=0.001)
    assert told.chance_below(0.001) < 0.001 < 0.999 < told.chance_below(1.0)
    assert told.words(0.001).endswith("; will not reach 0.001")
    assert told.words(1.0).endswith("; will go below 1")
    assert "near" in told.words() and "(" in told.interval

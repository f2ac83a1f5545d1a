"""Forecasts on recorded curves: coverage of the 80 % interval, and errors beside those of rivals.

Coverage is measured by leaving out one matrix after the other: its intervals have the quantiles of
all others, so no run is judged by itself or by its siblings. `--fit` prints the quantiles of all
matrices, which are in `aelab.analysis.forecast.QUANTILES`.

    python benchmarks/forecast/calibrate.py [--fit] [--rivals] [--curves FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rivals

from aelab.analysis import forecast as fc
from aelab.schedule_forms import planned
from aelab.settings import Choice

CURVES = Path(__file__).parents[2] / "tests" / "analysis" / "curves.json"

#: Parts of the budget at which forecasts are made.
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)


#: Quantiles are those of chances so much further from one half.
WIDER = 1.04


class Case(NamedTuple):
    """A curve cut at a part of its budget, and its real end.

    Attributes:
        curve: as recorded.
        share: part that is seen.
        known: as the forecast takes it.
        level: logarithm of the real last loss.
        has_siblings: whether finished runs under the same schedule were given.
    """

    curve: dict[str, Any]
    share: float
    known: fc.Known
    level: float
    has_siblings: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--fit", action="store_true", help="print the quantiles")
    parser.add_argument("--rivals", action="store_true", help="also the errors of other ways")
    parser.add_argument("--every", type=int, default=1, help="rivals on every so many curves")
    given = parser.parse_args()
    curves = usable(json.loads(given.curves.read_text()))
    some = cases(curves)
    print(f"{len(curves)} curves of {len({c['matrix'] for c in curves})} matrices")
    if given.fit:
        print(fitted(some))
    print_coverage(some)
    if given.rivals:
        print_errors(some, given.every)
    return 0


def usable(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Curves that came to an end; one that diverged is no subject."""
    return [c for c in curves if all(loss is not None and loss > 0 for loss in c["loss"])]


def cases(curves: list[dict[str, Any]]) -> list[Case]:
    """Every curve cut at every part, with and without its siblings."""
    found = []
    for curve in curves:
        siblings = [
            (other["images"], other["loss"])
            for other in curves
            if other is not curve
            and all(other[key] == curve[key] for key in ("matrix", "schedule", "end"))
        ]
        for share in SHARES:
            for given in ((), siblings) if siblings else ((),):
                known = cut(curve, share, given)
                if known is not None:
                    level = math.log(curve["loss"][-1])
                    found.append(Case(curve, share, known, level, bool(given)))
    return found


def cut(curve: dict[str, Any], share: float, siblings: Any = ()) -> fc.Known | None:
    """A recorded curve as it was when this part of its budget was spent."""
    end = curve["images"][-1]
    seen = sum(images <= share * end + curve["images"][0] / 2 for images in curve["images"])
    arguments = {"warmup_images": 1_000} if curve["schedule"] == "WarmupCosine" else {}
    factor = planned(Choice(curve["schedule"], arguments), end=curve["end"])
    assert factor is not None
    return fc.known_curve(
        curve["images"][:seen], curve["loss"][:seen], end=end, factor=factor, siblings=siblings
    )


def distances(some: list[Case]) -> np.ndarray:
    """How far each real end is from the middle of its guess, in spreads."""
    return np.array([fc.distance(fc.guess(case.known), case.level) for case in some])


def quantiles_of(gaps: np.ndarray) -> np.ndarray:
    """At `CHANCES`, a little wider: the curves of a matrix are alike, so they count as fewer."""
    chances = 0.5 + (np.array(fc.CHANCES) - 0.5) * WIDER
    return np.quantile(gaps, chances.clip(0, 1))


def fitted(some: list[Case]) -> str:
    """The quantiles of distances, as Python to paste."""
    gaps, lines = (
        distances(some),
        ["QUANTILES: dict[RateShape, dict[float, tuple[float, ...]]] = {"],
    )
    for kind in ("steady", "falling", "warmup"):
        lines.append(f'    "{kind}": {{')
        for share in SHARES:
            own = [c.share == share and c.known.rate_shape == kind for c in some]
            told = ", ".join(f"{gap:.2f}" for gap in quantiles_of(gaps[own]))
            lines.append(f"        {share}: ({told}),")
        lines.append("    },")
    return "\n".join([*lines, "}"])


def print_coverage(some: list[Case]) -> None:
    """How often the real end is in the interval whose quantiles are those of all other matrices."""
    gaps, guesses = distances(some), [fc.guess(case.known) for case in some]
    names = np.array([case.curve["matrix"] for case in some])
    groups = np.array([f"{case.share} {case.known.rate_shape}" for case in some])
    low, high = np.zeros(len(some)), np.zeros(len(some))
    for name in set(names):
        for group in set(groups[names == name]):
            own, others = (groups == group) & (names == name), (groups == group) & (names != name)
            at = quantiles_of(gaps[others])
            low[own], high[own] = at[fc.CHANCES.index(0.1)], at[fc.CHANCES.index(0.9)]
    inside = (low <= gaps) & (gaps <= high)
    ends = [fc.levels(g, np.array(at)) for g, *at in zip(guesses, low, high, strict=True)]
    widths = np.array([told[1] / told[0] - 1 for told in ends])
    schedules = sorted({case.curve["schedule"] for case in some})
    heads = ["part seen", "n", "in the interval", *schedules, "with siblings", "median width"]
    print(f"\n| {' | '.join(heads)} |\n|{'--:|' * len(heads)}")
    for share in SHARES:
        own = np.array([case.share == share for case in some])
        parts = [own & [case.curve["schedule"] == name for case in some] for name in schedules]
        parts = [own, *parts, own & [case.has_siblings for case in some]]
        rates = [f"{100 * inside[part].mean():.0f} %" for part in parts]
        cells = [f"{100 * share:.0f} %", str(own.sum()), *rates]
        print(f"| {' | '.join(cells)} | {100 * np.median(widths[own]):.0f} % |")


def print_errors(some: list[Case], every: int) -> None:
    """Median |error| of the end, in per cent, of ours and of rivals on the same curves."""
    ways = {
        "last value": rivals.last_value,
        "power law, least squares": rivals.power_law,
        "MMF": rivals.mmf,
        "Weibull": rivals.weibull,
        "eleven families, MCMC": lambda x, y, end: rivals.markov_chains(x, y, end)[0],
    }
    heads = ["part seen", "n", "aelab", "aelab, siblings", *ways]
    print(f"\n| {' | '.join(heads)} |\n|{'--:|' * len(heads)}")
    order = {id(curve): n for n, curve in enumerate({id(c.curve): c.curve for c in some}.values())}
    for share in SHARES[:4]:
        own = [c for c in some if c.share == share and order[id(c.curve)] % every == 0]
        alone = [case for case in own if not case.has_siblings]
        helped = [case for case in own if case.has_siblings]
        cells = [f"{100 * share:.0f} %", str(len(alone)), error(alone), error(helped)]
        cells += [error(alone, way) for way in ways.values()]
        print(f"| {' | '.join(cells)} |", flush=True)


def error(some: list[Case], way: Callable[..., float] | None = None) -> str:
    """Median |error| in per cent; of ours where no other way is given."""
    errors = []
    for case in some:
        if way is None:
            told = fc.forecast(case.known).loss
        else:
            with np.errstate(all="ignore"):
                told = way(case.known.images, np.exp(case.known.levels), case.known.end)
        errors.append(abs(told / math.exp(case.level) - 1))
    return f"{100 * np.nanmedian(errors):.1f}"


if __name__ == "__main__":
    sys.exit(main())

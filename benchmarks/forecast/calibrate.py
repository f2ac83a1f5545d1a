"""Forecasts on recorded curves: coverage of the 80 % interval, and errors beside those of rivals.

The matrices are cut into two halves by their names. `--fit` prints the quantiles of the first
half, which `aelab.analysis.forecast.QUANTILES` holds; the tables are of the second half, which
nothing was fitted to.

    python benchmarks/forecast/calibrate.py [--fit] [--rivals] [--curves FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zlib
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
    parser.add_argument("--fit", action="store_true", help="print quantiles of the first half")
    parser.add_argument("--rivals", action="store_true", help="also the errors of other ways")
    given = parser.parse_args()
    curves = usable(json.loads(given.curves.read_text()))
    first, second = (cases([c for c in curves if half(c) == side], curves) for side in (0, 1))
    print(f"{len(curves)} curves of {len({c['matrix'] for c in curves})} matrices")
    if given.fit:
        print(fitted(first))
    print_coverage(second)
    if given.rivals:
        print_errors(second)
    return 0


def usable(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Curves that came to an end; one that diverged is no subject."""
    return [c for c in curves if all(loss is not None and loss > 0 for loss in c["loss"])]


def half(curve: dict[str, Any]) -> int:
    """Which half the matrix of a curve belongs to, by its name alone."""
    return zlib.crc32(curve["matrix"].encode()) % 2


def cases(some: list[dict[str, Any]], curves: list[dict[str, Any]]) -> list[Case]:
    """Every curve cut at every part, with and without its siblings."""
    found = []
    for curve in some:
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


def fitted(some: list[Case]) -> str:
    """The quantiles of distances, as Python to paste."""
    lines = []
    for share in SHARES:
        gaps = [fc.distance(fc.guess(c.known), c.level) for c in some if c.share == share]
        told = ", ".join(f"{gap:.2f}" for gap in np.quantile(gaps, fc.CHANCES))
        lines.append(f"    {share}: ({told}),")
    return "\n".join(["QUANTILES = {", *lines, "}"])


def print_coverage(some: list[Case]) -> None:
    """How often the real end is in the interval, and how long that is."""
    schedules = sorted({case.curve["schedule"] for case in some})
    heads = ["part seen", "n", "in the interval", *schedules, "with siblings", "median width"]
    print(f"\n| {' | '.join(heads)} |\n|{'--:|' * len(heads)}")
    for share in SHARES:
        own = [case for case in some if case.share == share]
        told = [fc.forecast(case.known) for case in own]
        ends = [math.exp(case.level) for case in own]
        inside = np.array([f.low <= end <= f.high for f, end in zip(told, ends, strict=True)])
        chosen = [[case.curve["schedule"] == name for case in own] for name in schedules]
        chosen.append([case.has_siblings for case in own])
        rates = [f"{100 * inside[np.array(some)].mean():.0f} %" for some in chosen]
        width = np.median([f.high / f.low - 1 for f in told])
        cells = [f"{100 * share:.0f} %", str(len(own)), f"{100 * inside.mean():.0f} %", *rates]
        print(f"| {' | '.join(cells)} | {100 * width:.0f} % |")


def print_errors(some: list[Case]) -> None:
    """Median |error| of the end, in per cent, of ours and of rivals on the same curves."""
    ways = {
        "last value": rivals.last_value,
        "power law, least squares": rivals.power_law,
        "MMF": rivals.mmf,
        "Weibull": rivals.weibull,
        "eleven families, MCMC": lambda x, y, end: rivals.markov_chains(x, y, end)[0],
    }
    heads = ["part seen", "aelab", "aelab, siblings", *ways]
    print(f"\n| {' | '.join(heads)} |\n|{'--:|' * len(heads)}")
    for share in SHARES:
        own = [case for case in some if case.share == share]
        cells = []
        for siblings in (False, True):
            chosen = [case for case in own if case.has_siblings == siblings]
            errors = [abs(fc.forecast(c.known).loss / math.exp(c.level) - 1) for c in chosen]
            cells.append(f"{100 * np.median(errors):.1f}")
        alone = [case for case in own if not case.has_siblings]
        for way in ways.values():
            with np.errstate(all="ignore"):
                errors = [
                    abs(way(c.known.images, np.exp(c.known.levels), c.known.end)
                        / math.exp(c.level) - 1)
                    for c in alone
                ]  # fmt: skip
            cells.append(f"{100 * np.median(errors):.1f}")
        print(f"| {100 * share:.0f} % | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())

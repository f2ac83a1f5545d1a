"""Pictures of recorded curves with the forecasts that were made on the way.

python benchmarks/forecast/fans.py [--curves FILE] --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from calibrate import CURVES, cut, usable

from aelab.analysis import forecast as fc

#: Name of the picture, and which curve it shows: by the error at a quarter.
PICTURES = {"usual": 0.5, "good": 0.15, "failed": 0.97}

SHARES = (0.1, 0.25, 0.5)
COLOURS = ("#e69f00", "#009e73", "#0072b2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    order = sorted(usable(json.loads(given.curves.read_text())), key=error_at_a_quarter)
    for name, place in PICTURES.items():
        curve = order[int(place * (len(order) - 1))]
        path = given.out / f"forecast-{name}.png"
        draw(curve, path)
        print(path, curve["matrix"], curve["schedule"], curve["optimizer"], curve["rate"])
    return 0


def error_at_a_quarter(curve: dict[str, Any]) -> float:
    """|log(forecast / real end)| after a quarter of the budget."""
    told = fc.forecast(cut(curve, 0.25))
    return abs(math.log(told.loss / curve["loss"][-1])) if told.is_told else math.inf


def draw(curve: dict[str, Any], path: Path) -> None:
    """The curve, and from each part of the budget the fan to the 80 % interval at its end."""
    figure, axes = plt.subplots(figsize=(5.2, 3.0), dpi=90, layout="constrained")
    end = curve["images"][-1]
    axes.plot(curve["images"], curve["loss"], color="#333333", lw=1.4, label="validation loss")
    for share, colour in zip(SHARES, COLOURS, strict=True):
        known = cut(curve, share)
        told = fc.forecast(known)
        if known is None or not told.is_told:
            continue
        now, level = known.images[-1], math.exp(known.levels[-1])
        axes.fill([now, end, end], [level, told.low, told.high], color=colour, alpha=0.25, lw=0)
        axes.plot([now, end], [level, told.loss], color=colour, lw=1,
                  label=f"after {100 * share:.0f} %: {told.interval}")  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.3g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.tick_params(axis="both", which="both", labelsize=7)
    axes.set_xlabel("images seen", fontsize=8)
    axes.set_title(
        f"{curve['matrix']}, {curve['schedule']}, {curve['optimizer']} {curve['rate']:g}",
        fontsize=8,
    )
    axes.legend(fontsize=7, frameon=False)
    axes.set_xlim(0, 1.02 * float(np.max(curve["images"])))
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())

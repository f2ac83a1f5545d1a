"""The effect of each pass over the training set on the validation loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aelab.analysis.curves import Curve, curve, judged
from aelab.analysis.trend import TOLD, trend
from aelab.runs.record import Run

#: Share of the whole fall of the loss, for which the number of passes is reported.
MOSTLY = 0.9

#: Least number of validations for statements about passes.
FEWEST = 6


@dataclass(frozen=True)
class Passes:
    """The effect of the passes over the training set of one run.

    Attributes:
        count: number of passes: images trained on / size of the set.
        images: size of the set.
        mostly_at: passes after which `MOSTLY` of the whole fall of the validation loss was reached.
        second_half: relative change of the validation loss over the second half of the passes.
        last: relative change per pass, over the last fifth; None without a trend.
        gap: validation loss / training loss - 1, at the end; None without training losses that
            compare (dropout, noise or augmentation in training make them larger).
        gap_before: the same after half of the run.
    """

    count: float
    images: int
    mostly_at: float
    second_half: float
    last: float | None = None
    gap: float | None = None
    gap_before: float | None = None

    def words(self) -> list[str]:
        """The effect as sentences, the most important one first."""
        told = [
            f"{amount(self.count)} passes over {self.images:,} images: {100 * MOSTLY:.0f} % of "
            f"the fall of the loss came in the first {amount(self.mostly_at)}; the second half of "
            f"the passes {_moved(self.second_half)}."
        ]
        if self.last is not None:
            told.append(f"Near the end a pass {_moved(self.last)}.")
        if self.gap is not None and self.gap_before is not None:
            told.append(
                f"The validation loss is {_above(self.gap)} the training loss; after half of the "
                f"passes it was {_above(self.gap_before)} it"
                + (
                    ": further passes fit the training images, not new ones."
                    if self.gap > max(0.03, 1.5 * self.gap_before)
                    else "."
                )
            )
        return told


def run_passes(run: Run) -> Passes | None:
    """The effect of the passes of a stored run; None if there is too little data.

    Raises:
        StoreError: if the metrics are damaged.
    """
    sets = (run.record.get("data") or {}).get("train") or []
    size = sets[0].get("count") if len(sets) == 1 else None
    if not size:
        return None
    validated = curve(run.metrics("validation"))
    return passes(validated, curve(judged(run.metrics("train"))), int(size))


def passes(validated: Curve, trained: Curve, size: int) -> Passes | None:
    """The effect of passes over a set of `size` images.

    Args:
        validated, trained: losses by number of images.
    """
    points = [(x, y) for x, y in zip(validated.x, validated.y, strict=True) if math.isfinite(y)]
    if len(points) < FEWEST or points[-1][0] < 2 * size:
        return None  # with fewer than two passes, there is nothing to compare
    x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    end = float(x[-1])
    lowest = np.minimum.accumulate(y)
    fall = y[0] - lowest[-1]
    if not fall > 0:
        return None
    mostly = float(x[np.argmax(y[0] - lowest >= MOSTLY * fall)])
    half = float(np.interp(end / 2, x, y))
    found = trend(list(x), list(y))
    last = None
    if found.change is not None and found.change > -1:
        last = math.expm1(math.log1p(found.change) / (TOLD * end / size))
    gaps = [_gap(x, y, trained, at) for at in (end, end / 2)]
    return Passes(
        end / size, size, mostly / size, (float(y[-1]) - half) / abs(half), last, gaps[0], gaps[1]
    )


def _gap(x: Any, y: Any, trained: Curve, at: float) -> float | None:
    """Validation loss / training loss - 1, as means over a tenth of the run before `at`."""
    since = at - 0.1 * float(x[-1])
    seen = [b for a, b in zip(trained.x, trained.y, strict=True) if since < a <= at]
    seen = [b for b in seen if math.isfinite(b)]
    held = y[(x > since) & (x <= at)]
    mean = float(np.mean(seen)) if seen else 0.0
    if not len(held) or not mean > 0:
        return None
    return float(held.mean()) / mean - 1


def amount(count: float) -> str:
    """A count as text with two or more digits."""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def _moved(change: float) -> str:
    size = 100 * abs(change)
    figure = f"{size:.2g}" if size >= 0.001 else "under 0.001"
    return f"{'lowered' if change < 0 else 'raised'} it by {figure} %"


def _above(gap: float) -> str:
    percent = f"{100 * abs(gap):.0f}"
    return f"{percent} % {'above' if gap >= 0 else 'below'}" if percent != "0" else "equal to"

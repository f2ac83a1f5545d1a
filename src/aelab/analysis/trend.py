"""Is the loss still falling? A verdict per run, from the last part of its curve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from aelab.analysis.curves import Curve, curve, in_blocks, judged
from aelab.runs.record import Run

#: Rates are told per so many images.
UNIT_IMAGES = 100_000

#: Fewer points than these allow no verdict.
FEWEST_POINTS = 5

#: More points are averaged to so many blocks: neighbours tell little news, pairs cost time.
MOST_POINTS = 32

#: Two-sided 5 % of the normal distribution.
_Z = 1.959964


@dataclass(frozen=True)
class Trend:
    """Where a loss is going.

    Attributes:
        verdict: `falling 1.3 % per 100,000 images`, `rising ...`, `flat`, `too few points`, or
            `not a number` where the curve's end is NaN or infinite.
        rate: relative change per 100,000 images, -0.013 for 1.3 % down; None without a verdict.
        low, high: interval of `rate` that holds the true one in about 95 of 100 cases.
        points: how many points of the curve were used.
        first_images, last_images: the part of the curve that was used.
        source: the split the points are from.
    """

    verdict: str
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    points: int = 0
    first_images: int = 0
    last_images: int = 0
    source: str = ""

    @property
    def direction(self) -> str:
        """The verdict's first word or words, without the figure."""
        return self.verdict.split(" ")[0] if self.rate is not None else self.verdict


def run_trend(run: Run) -> Trend:
    """The trend of a stored run: of its validation loss, or of the training loss where fewer than
    five validations are there.

    Raises:
        StoreError: if the metrics are damaged.
    """
    points = curve(run.metrics("validation"))
    source = "validation"
    if len(points.x) < FEWEST_POINTS:
        training = curve(judged(run.metrics("train")))
        if len(training.x) >= FEWEST_POINTS:
            points, source = training, "train"
    return trend(points.x, points.y, source=source)


def trend(images: Sequence[float], losses: Sequence[float], *, source: str = "") -> Trend:
    """The direction of a loss over the last part of its curve.

    The last third is used where it has 12 points, else the last half, else the last 5 points. The
    slope is the median of all pairwise slopes of the logarithm of the loss (one wild point does
    not matter); its interval widens as neighbouring points resemble each other. Where losses are
    not all positive, their change is taken relative to the median magnitude instead.

    Args:
        images: images seen, ascending.
        losses: as many losses.
        source: the split they are from; only noted.

    Source: Sen 1968, J. Am. Stat. Assoc. 63:1379; Hamed & Rao 1998, J. Hydrology 204:182.
    """
    if losses and not math.isfinite(losses[-1]):
        return Trend("not a number", points=len(losses), source=source)
    pairs = [(x, y) for x, y in zip(images, losses, strict=True) if math.isfinite(y)]
    pairs = _last_part(pairs)
    if len(pairs) < FEWEST_POINTS or pairs[0][0] == pairs[-1][0]:
        return Trend("too few points", points=len(pairs), source=source)
    used = in_blocks(Curve([x for x, _ in pairs], [y for _, y in pairs]), MOST_POINTS)
    levels, logarithmic = _levels(used.y)
    slope, low, high = slope_interval(used.x, levels)
    rate, low, high = (_per_unit(value, logarithmic) for value in (slope, low, high))
    return Trend(
        _verdict(rate, low, high),
        rate,
        low,
        high,
        points=len(used.x),
        first_images=int(pairs[0][0]),
        last_images=int(pairs[-1][0]),
        source=source,
    )


def slope_interval(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """The Theil-Sen slope of y over x, with the ends of its 95 % interval.

    Args:
        x: at least 5 numbers, ascending, not all equal.
        y: as many.
    """
    count = len(x)
    slopes = sorted(
        (y[j] - y[i]) / (x[j] - x[i])
        for i in range(count)
        for j in range(i + 1, count)
        if x[j] != x[i]
    )
    slope = _median(slopes)
    residuals = [b - slope * a for a, b in zip(x, y, strict=True)]
    variance = count * (count - 1) * (2 * count + 5) / 18 * _inflation(residuals)
    reach = _Z * math.sqrt(variance)
    # All slopes of one sign are never called chance, however wide the interval would be.
    lower = max(math.floor((len(slopes) - reach) / 2), 0)
    return slope, slopes[lower], slopes[len(slopes) - 1 - lower]


def _inflation(residuals: Sequence[float]) -> float:
    """By how much neighbours that resemble each other widen the variance; at least 1."""
    count = len(residuals)
    middle = math.fsum(residuals) / count
    centred = [value - middle for value in residuals]
    power = math.fsum(value * value for value in centred)
    if power == 0:
        return 1.0
    likeness = math.fsum(a * b for a, b in itertools.pairwise(centred)) / power
    # Short detrended series underestimate it (the line takes two degrees of freedom); under 9
    # points it cannot be told at all, and a little is taken for granted.
    likeness = (count * likeness + 2.5) / (count - 4) if count > 8 else 0.2
    likeness = min(max(likeness, 0.0), 0.9)
    return (1 + likeness) / (1 - likeness)


def _last_part(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(pairs) <= FEWEST_POINTS:
        return pairs
    end = pairs[-1][0]
    third = [pair for pair in pairs if pair[0] > end * 2 / 3]
    half = [pair for pair in pairs if pair[0] > end / 2]
    part = third if len(third) >= 12 else half
    return part if len(part) >= FEWEST_POINTS else pairs[-FEWEST_POINTS:]


def _levels(losses: Sequence[float]) -> tuple[list[float], bool]:
    if min(losses) > 0:
        return [math.log(loss) for loss in losses], True
    scale = _median(sorted(abs(loss) for loss in losses)) or 1.0
    return [loss / scale for loss in losses], False


def _per_unit(slope: float, logarithmic: bool) -> float:
    change = slope * UNIT_IMAGES
    if not logarithmic:
        return change
    return math.expm1(change) if change < 700 else math.inf


def _verdict(rate: float, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "flat"
    percent = abs(rate) * 100
    figure = f"{percent:,.0f}" if percent >= 10 else f"{percent:.2g}"
    word = "falling" if rate < 0 else "rising"
    return f"{word} {figure} % per {UNIT_IMAGES:,} images"


def _median(ascending: Sequence[float]) -> float:
    count = len(ascending)
    return (ascending[(count - 1) // 2] + ascending[count // 2]) / 2

"""Tests whether the loss is still falling: its change over the last fifth, with an interval.

Nothing is extrapolated: the change is that over the last fifth of the run. The slope is estimated
from the last fifth alone, so an earlier fall is no trend. The noise is estimated from the last
half, which has more points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aelab.analysis.curves import Curve, curve, in_blocks, judged
from aelab.analysis.seeds import t_quantile
from aelab.runs.record import Run

#: Share of the run whose change is reported, and share from which noise is estimated.
TOLD, LOOKED_AT = 0.2, 0.5

#: Least number of points in the last half for a verdict.
FEWEST_POINTS = 5

#: More points are averaged to this number of blocks: it saves time and loses little.
MOST_POINTS = 80

#: From this number of points on, the model of the last half has a cubic term, a step or a corner.
MANY_POINTS = 13

#: A step or corner is used if at most this share of the smooth curve's residual remains.
UNEXPLAINED = 0.2

#: Values of the first-order autocorrelation of deviations that are tried.
_LIKENESS = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.87, 0.92, 0.96])

#: Autocorrelations within this log-likelihood of the best one all count as possible.
_POSSIBLE = 2.5

#: Share of the highest learning rate below which the schedule counts as ended.
ENDED = 0.02

#: Changes below this many per cent are rounding errors, reported as 0.
NOTHING = 1e-4

Vector = NDArray[Any]  # of floats


@dataclass(frozen=True)
class Trend:
    """The trend of a loss at the end of a run.

    Attributes:
        verdict: for instance `falling 1.3 % (0.9 to 1.7) in the last 10,000 images`, `rising ...`,
            `flat (-0.4 to +0.2 %) in the last 10,000 images`, `flat: the schedule has ended (...)`,
            `too few points`, or `not a number` where the curve's end is NaN or infinite.
        change: relative change over the last fifth of the run, -0.013 for 1.3 % down; None without
            a verdict. If not all losses are positive: relative to their median magnitude.
        low, high: interval of `change` that contains the true one in at least 95 of 100 cases.
        span_images: the length of the last fifth in images.
        points: number of points of the curve that were used.
        first_images, last_images: the part of the curve that was used.
        source: the split of the points, `validation` or `train`.
        schedule_ended: whether the learning rate has fallen to nearly 0.
        is_substitute: whether it is of the training loss because there are too few validations.
    """

    verdict: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    span_images: int = 0
    points: int = 0
    first_images: int = 0
    last_images: int = 0
    source: str = ""
    schedule_ended: bool = False
    is_substitute: bool = False

    @property
    def direction(self) -> str:
        """`falling`, `rising` or `flat`; otherwise the whole verdict."""
        if self.change is None or self.low is None or self.high is None:
            return self.verdict
        return "flat" if self.low <= 0 <= self.high else "falling" if self.change < 0 else "rising"


def run_trend(run: Run) -> Trend:
    """The trend of a stored run: of its validation loss, or of the training loss if the last half
    of the run has fewer than five validations.

    Raises:
        StoreError: if the metrics are damaged.
    """
    training = run.metrics("train")
    ended = schedule_ended(training)
    validated = curve(run.metrics("validation"))
    found = trend(validated.x, validated.y, source="validation", schedule_ended=ended)
    if found.verdict == "too few points":
        trained = curve(judged(training))
        instead = trend(trained.x, trained.y, source="train", schedule_ended=ended)
        if instead.change is None:
            return found
        return _told(replace(instead, is_substitute=bool(validated.x)))
    return found


def schedule_ended(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last learning rate of training rows is nearly 0 compared with the highest."""
    rates = [row["learnrate"] for row in rows if isinstance(row.get("learnrate"), int | float)]
    return bool(rates) and 0 <= rates[-1] <= ENDED * max(rates)


def trend(
    images: Sequence[float],
    losses: Sequence[float],
    *,
    source: str = "",
    schedule_ended: bool = False,
) -> Trend:
    """Estimates the change of a loss over the last fifth of its curve.

    The slope is that of the least-squares line through the last fifth of (the logarithm of) the
    losses. Its error follows from the deviations of the last half from a smooth curve. Neighbouring
    deviations may be correlated, so they are modelled as a first-order autoregression. Among all
    autocorrelations that the restricted likelihood allows, the one with the largest error is used.
    So a bend or a step of the curve does not count as noise.

    Args:
        images: numbers of images, ascending.
        losses: the losses at these.
        source: the split they are from; only stored in the result.
        schedule_ended: whether the schedule has ended; mentioned in the verdict.

    Source: Patterson & Thompson 1971, Biometrika 58:545 (restricted likelihood); Prais & Winsten
    1954 (a first-order autoregression by transformed least squares).
    """
    if losses and not math.isfinite(losses[-1]):
        return Trend("not a number", points=len(losses), source=source)
    pairs = [(x, y) for x, y in zip(images, losses, strict=True) if math.isfinite(y)]
    end = pairs[-1][0] if pairs else 0.0
    pairs = [pair for pair in pairs if pair[0] >= end * (1 - LOOKED_AT) * (1 - 1e-9)]
    if len(pairs) < FEWEST_POINTS or pairs[0][0] == end:
        return Trend("too few points", points=len(pairs), source=source)
    levels, logarithmic = _levels([y for _, y in pairs])
    used = in_blocks(Curve([x for x, _ in pairs], _without_spikes(levels)), MOST_POINTS)
    x, y = np.array(used.x), np.array(used.y)
    told = x >= end * (1 - TOLD) * (1 - 1e-9)
    if told.sum() < 2:
        return Trend("too few points", points=len(x), source=source)
    span = end * TOLD
    weights = np.zeros(len(x))  # the change is this weighted sum of the levels
    offsets = x[told] - x[told].mean()
    weights[told] = offsets / (offsets @ offsets) * span
    change, reach = float(weights @ y), _reach(x, y, weights)
    return _told(
        Trend(
            "",
            _relative(change, logarithmic),
            _relative(change - reach, logarithmic),
            _relative(change + reach, logarithmic),
            span_images=round(span),
            points=len(x),
            first_images=int(pairs[0][0]),
            last_images=int(end),
            source=source,
            schedule_ended=schedule_ended,
        )
    )


def together(trends: Sequence[Trend]) -> str:
    """One verdict for repeats: their mean change, with an interval that contains all of theirs.

    If directions differ, it counts them: `2 falling, 1 flat`. Empty if none has enough points.
    """
    trends = [entry for entry in trends if entry.verdict != "too few points"]
    if not trends:
        return ""
    if len({entry.verdict for entry in trends}) == 1:
        return trends[0].verdict
    alike = {(e.direction, e.span_images, e.source, e.schedule_ended) for e in trends}
    changes = [entry.change for entry in trends if entry.change is not None]
    if len(alike) > 1 or len(changes) < len(trends):
        counts = Counter(entry.direction for entry in trends)
        return ", ".join(f"{count} {direction}" for direction, count in counts.most_common())
    mean = math.fsum(changes) / len(changes)
    low = min(entry.low for entry in trends if entry.low is not None)
    high = max(entry.high for entry in trends if entry.high is not None)
    first = trends[0]
    return _told(
        Trend(
            "",
            mean,
            low,
            high,
            span_images=first.span_images,
            source=first.source,
            schedule_ended=first.schedule_ended,
            is_substitute=first.is_substitute,
        )
    ).verdict


def _reach(x: Vector, y: Vector, weights: Vector) -> float:
    """Half the length of the confidence interval of `weights @ y`."""
    u = 2 * (x - x.mean()) / (x[-1] - x[0])
    shape = np.vander(u, 3 if len(x) < MANY_POINTS else 4)
    if len(x) >= MANY_POINTS:
        shape = _with_corner(shape, u, y)
    if len(x) >= 2 * MANY_POINTS:
        shape = _with_corner(shape, u, y)  # a step inside a block gives two steps
    freedom = len(x) - shape.shape[1]
    errors, likelihood = _errors(shape, y, weights)
    possible = likelihood >= likelihood.max() - _POSSIBLE
    return t_quantile(freedom) * float(errors[possible].max()) + 1e-9  # + rounding errors


def _errors(shape: Vector, y: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """For each autocorrelation, the standard error of `weights @ y` and the log-likelihood."""
    count, freedom = len(y), len(y) - shape.shape[1]
    likeness = _LIKENESS[:, None, None]
    joint = np.broadcast_to(
        np.column_stack([shape, y]), (len(_LIKENESS), count, shape.shape[1] + 1)
    )
    # Whitening: rho times the previous row is subtracted; the first row keeps its variance.
    white = np.concatenate(
        [np.sqrt(1 - likeness**2) * joint[:, :1], joint[:, 1:] - likeness * joint[:, :-1]], axis=1
    )
    triangle = np.linalg.qr(white).R  # (rho, columns, columns)
    variance = np.maximum(triangle[:, -1, -1] ** 2 / freedom, 1e-300)  # of the innovations
    corners = np.abs(np.diagonal(triangle[:, :-1, :-1], axis1=1, axis2=2))
    likelihood = (
        -0.5 * freedom * np.log(variance) + 0.5 * np.log(1 - _LIKENESS**2) - np.log(corners).sum(1)
    )
    gaps = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    covariance = likeness**gaps / (1 - likeness**2)
    spread = np.einsum("i,kij,j->k", weights, covariance, weights)
    return np.sqrt(variance * spread), likelihood


def _with_corner(shape: Vector, u: Vector, y: Vector) -> Vector:
    """The columns of a smooth curve and, if clearly present, of a step or a corner."""
    basis, _ = np.linalg.qr(shape)
    rest = y - basis @ (basis.T @ y)
    steps = (u[:, None] >= u[None, 1:]).astype(float)
    corners = np.maximum(u[:, None] - u[None, 2:-2], 0)
    tried = np.column_stack([steps, corners])
    own = tried - basis @ (basis.T @ tried)
    sizes = (own * own).sum(0)
    explained = (own.T @ rest) ** 2 / np.where(sizes > 1e-9, sizes, np.inf)
    best = int(explained.argmax())
    if (rest @ rest) - explained[best] < UNEXPLAINED * (rest @ rest):
        return np.column_stack([shape, tried[:, best]])
    return shape


def _without_spikes(levels: Sequence[float]) -> list[float]:
    """Replaces single outliers inside the curve by values of their neighbours."""
    values = np.array(levels)
    if len(values) < FEWEST_POINTS:
        return list(levels)
    padded = np.concatenate([values[1::-1], values, values[:-3:-1]])
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    apart = np.abs(values - middle)
    wild = apart > 10 * 1.4826 * max(float(np.median(apart)), 1e-3)
    wild[[0, -1]] = False  # an outlier at the end may be the start of a change
    return [float(v) for v in np.where(wild, middle, values)]


def _levels(losses: Sequence[float]) -> tuple[list[float], bool]:
    if min(losses) > 0:
        return [math.log(loss) for loss in losses], True
    scale = float(np.median(np.abs(losses))) or 1.0
    return [loss / scale for loss in losses], False


def _relative(change: float, logarithmic: bool) -> float:
    if not logarithmic:
        return change
    return math.expm1(change) if change < 700 else math.inf


def _told(found: Trend) -> Trend:
    assert found.change is not None and found.low is not None and found.high is not None
    where = f"in the last {found.span_images:,} images"
    ended = "the schedule has ended"
    if found.direction == "flat":
        bounds = f"{_signed(found.low)} to {_signed(found.high)} %"
        verdict = (
            f"flat: {ended} ({bounds} {where})"
            if found.schedule_ended
            else (f"flat ({bounds}) {where}")
        )
    else:
        ends = sorted((abs(found.low), abs(found.high)))
        verdict = (
            f"{found.direction} {_percent(found.change)} % ({_percent(ends[0])} to "
            f"{_percent(ends[1])}) {where}" + (f"; {ended}" if found.schedule_ended else "")
        )
    few = " (too few validations)" if found.is_substitute else ""
    return replace(found, verdict=verdict + f", training loss{few}" * (found.source == "train"))


def _percent(share: float) -> str:
    percent = abs(share) * 100
    if percent < NOTHING:
        return "0"
    return f"{percent:,.0f}" if percent >= 10 else f"{percent:.2g}"


def _signed(share: float) -> str:
    size = _percent(share)
    return size if size == "0" else f"{'+' if share > 0 else '-'}{size}"

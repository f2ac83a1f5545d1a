"""Forecasts the final loss of a run while it trains, with an 80 % interval.

A loss curve is fitted by many families of curves at once. Their clock is the area under the
learning rate so far, not the number of images: a falling rate slows the curve, and the noise of
the steps, which is proportional to the rate, disappears from the loss. So the forecast includes
the rest of the schedule. Finished runs of the same matrix with the same schedule are further
families. Each family predicts the newest third of the curve from the part before it, and is
weighted by the error of this prediction.

The spread combines the spread of the families, a block bootstrap of the deviations, and the errors
that no family predicted. The length of an interval in units of this spread was calibrated on the
curves of 288 short runs (docs/results/forecast.md), not derived.

Sources: Tissue, Wang & Wang 2024, arXiv:2408.11029 (area under the rate, and a gain from its
fall); Luo et al. 2025, arXiv:2503.12811 (a power law of that area); Domhan et al. 2015, IJCAI
(several families at once, weighted); Kunsch 1989, Ann. Statist. 17:1217 (block bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aelab.analysis.curves import Curve, curve, in_blocks
from aelab.analysis.planned import RestOfRun, plan_of
from aelab.runs.record import Run

Vector = NDArray[Any]  # of floats

#: Least number of points for a forecast.
FEWEST_POINTS = 2

#: More points are averaged to this number of blocks.
MOST_POINTS = 48

#: Number of curves drawn by the block bootstrap.
REDRAWN = 12

#: Most curves of finished runs that are used.
MOST_SIBLINGS = 12

#: Number of points at which the area under a schedule is summed.
_STEPS = 512


#: Shape of a learning rate: it ends above half of its peak; it ends below; or it starts and ends
#: below. Each shape has its own quantiles.
RateShape = Literal["steady", "falling", "warmup"]


class Prior(NamedTuple):
    """Prior assumptions about a curve, estimated from the calibration curves.

    Attributes:
        fall: d log loss / d log area at the present point, and its spread.
        gain: how much log loss falls when the rate falls from its peak to 0, and its spread.
        noise: noise of a point, in log loss.
        unforeseen: part of the hold-out error that is always added to the spread.
        sibling: spread of the factor by which a sibling's curve is stretched.
        recent: the weight of a point is the share of the area up to it, to this power.
        trust: largest exponent of hold-out errors in the weights of families.
        fitted: share of the points used for fitting before the rest is predicted.
        margin: part of the hold-out error that counts even without extrapolation.
        slowing: factor for the error of a curve that fell less than predicted.
        floor: hold-out errors below this count as equal.
        farthest: limit of the growth of a hold-out error, in hold-out distances.
        rise: how far the end may lie above the present, in tenths and typical steps.
    """

    fall: tuple[float, float] = (0.45, 0.22)
    gain: tuple[float, float] = (0.075, 0.03)
    noise: float = 0.0055
    unforeseen: float = 0.16
    floor: float = 0.02
    sibling: float = 0.4
    recent: float = 3.0
    trust: float = 2.0
    fitted: float = 0.7
    margin: float = 0.08
    slowing: float = 0.4
    farthest: float = 2.7
    rise: float = 0.25


class Known(NamedTuple):
    """A curve up to now, and the known part of its future.

    Attributes:
        images: (N,) ascending.
        levels: (N,) logarithms of the losses.
        area: (N,) area under the rate's factor, in images; at the end of the run `end_area`.
        factor: (N,) factor of the rate; at the end of the run `end_factor`.
        siblings: for finished runs, the log losses at `images` and the last one.
        rate_shape: how the learning rate runs.
    """

    images: Vector
    levels: Vector
    area: Vector
    factor: Vector
    end: float
    end_area: float
    end_factor: float
    siblings: tuple[tuple[Vector, float], ...] = ()
    rate_shape: RateShape = "steady"


class Guess(NamedTuple):
    """The logarithm of the final loss: centre, and spreads before calibration."""

    middle: float
    below: float
    above: float


#: The guess of an empty forecast.
NO_GUESS = Guess(0.0, 1.0, 1.0)


def guess(known: Known, prior: Prior = Prior()) -> Guess:  # noqa: B008  (it is a constant)
    """Predicts the final level of a curve by all families together.

    Args:
        known: at least two points.
    """
    design, future, means, widths = _families(known, prior)
    weights = np.clip(known.area / known.area[-1], 0.02, None) ** prior.recent
    level = known.levels
    count = len(level)
    shares = np.full(len(design), 1.0)
    missed, ahead = prior.unforeseen, 1.0
    if count >= 4:
        fitted = min(max(2, math.ceil(prior.fitted * count)), count - 1)
        early = _solve(design[:, :fitted], level[:fitted], weights[:fitted], means, widths, prior)
        errors = np.einsum("kni,ki->kn", design[:, fitted:], early) - level[fitted:]
        shares = 1 / np.sqrt((errors**2).mean(1) + prior.floor**2)
        shares = (shares / shares.max()) ** min(2 * (count - fitted), prior.trust)
        shares = shares / shares.sum()
        # A curve that fell less than predicted will probably not fall much more.
        felt = np.where(errors > 0, errors, prior.slowing * errors)
        missed = math.sqrt(float(shares @ (felt**2).mean(1)) + prior.unforeseen**2)
        ahead = math.log(known.area[-1] / max(known.area[fitted - 1], 1e-9))
    else:
        shares = shares / shares.sum()
    whole = _solve(design, level, weights, means, widths, prior)
    ends = np.einsum("ki,ki->k", future, whole)
    middle = float(shares @ ends)
    between = float(shares @ (ends - middle) ** 2)
    reach = math.log(known.end_area / known.area[-1])
    unforeseen = missed * (prior.margin + min(reach / max(ahead, 0.2), prior.farthest))
    redrawn = _redrawn(design, future, whole, level, weights, means, widths, shares, prior)
    below = math.sqrt(between + redrawn + unforeseen**2)
    # The end is rarely far above the present, even if the fits predict it.
    rise = max(float(level[-1]) - middle, 0.0) + prior.rise * (0.1 + _roughness(level))
    return Guess(middle, below, min(below, rise))


def _roughness(level: Vector) -> float:
    """Typical size of the steps of the newest half of a curve from one point to the next."""
    steps = np.abs(np.diff(level[len(level) // 2 :]))
    return float(np.median(steps)) if len(steps) else 0.1


def _families(known: Known, prior: Prior) -> tuple[Vector, Vector, Vector, Vector]:
    """Columns (level, fall, gain) of every family, and the priors of its coefficients.

    Every family's fall has slope -1 in the logarithm of the area at the present point, so that its
    coefficient means the same in all: the elasticity of the loss now.

    Returns:
        (K, N, 3) known points, (K, 3) the end, (K, 3) prior means, (K, 3) prior spreads.
    """
    ratio = np.append(known.area, known.end_area) / known.area[-1]  # 1 at present
    logs = np.log(np.clip(ratio, 1e-6, None))
    falls = [-logs]
    for power in (0.25, 0.5, 1.0, 2.0):
        falls.append((ratio.clip(0.02) ** -power - 1) / power)
    for offset in (0.1, 0.5):
        falls.append(-np.log((ratio + offset) / (1 + offset)) * (1 + offset))
    for rate in (1.0, 3.0):
        falls.append((np.exp(-rate * (ratio - 1)) - 1) / rate)
    falls.append((np.exp(-2 * (np.sqrt(ratio) - 1)) - 1) / 1.0)
    gain = np.append(known.factor, known.end_factor) - known.factor[-1]
    ones = np.ones_like(ratio)
    rows = [np.stack([ones, fall, gain], axis=1) for fall in falls]
    means = [[known.levels[-1], prior.fall[0], prior.gain[0]]] * len(rows)
    widths = [[1.0, prior.fall[1], prior.gain[1]]] * len(rows)
    for seen, end in known.siblings:
        fall = np.append(seen, end) - seen[-1]
        rows.append(np.stack([ones, fall, 0 * gain], axis=1))
        means.append([known.levels[-1], 1.0, 0.0])
        widths.append([1.0, prior.sibling, 1e-3])
    columns = np.stack(rows)
    return columns[:, :-1], columns[:, -1], np.array(means), np.array(widths)


def _solve(
    design: Vector, level: Vector, weights: Vector, means: Vector, widths: Vector, prior: Prior
) -> Vector:
    """Coefficients (K, 3) by least squares with priors.

    Args:
        level: (N,), or (R, K, N): R curves for each family.
    """
    rows = design * (weights / prior.noise)[:, None]
    inverse = np.linalg.inv(
        np.einsum("kni,knj->kij", rows, rows) + np.eye(3) / widths[:, :, None] ** 2
    )
    told = level * weights / prior.noise
    right = (
        np.einsum("kni,n->ki", rows, told)
        if level.ndim == 1
        else np.einsum("kni,rkn->rki", rows, told)
    )
    solved: Vector = np.einsum("kij,...kj->...ki", inverse, right + means / widths**2)
    return solved


def _redrawn(
    design: Vector, future: Vector, whole: Vector, level: Vector, weights: Vector, means: Vector,
    widths: Vector, shares: Vector, prior: Prior,
) -> float:  # fmt: skip
    """Variance of the end over curves with resampled deviations (block bootstrap)."""
    count = len(level)
    if count < 6:
        return 0.0
    fits = np.einsum("kni,ki->kn", design, whole)
    rest = level - fits
    length = max(2, round(count ** (1 / 3)))
    drawn = np.random.default_rng(0).integers(0, count, (REDRAWN, -(-count // length)))
    places = ((drawn[:, :, None] + np.arange(length)) % count).reshape(REDRAWN, -1)[:, :count]
    again = _solve(design, fits + rest[:, places].transpose(1, 0, 2), weights, means, widths, prior)
    ends = np.einsum("ki,rki->rk", future, again) @ shares
    return float(ends.var())


def known_curve(
    images: Sequence[float],
    losses: Sequence[float],
    *,
    end: float,
    factor: Callable[[int], float],
    siblings: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
) -> Known | None:
    """Prepares a curve for the families; None if it allows no forecast.

    Args:
        images, losses: the curve up to now; losses above 0; infinite values and NaN are left out.
        end: images at the end of the run.
        factor: factor of the learning rate as a function of images.
        siblings: images and losses of finished runs with the same schedule and end.
    """
    pairs = [(x, y) for x, y in zip(images, losses, strict=True) if math.isfinite(y) and x > 0]
    if len(pairs) < FEWEST_POINTS or min(y for _, y in pairs) <= 0 or pairs[-1][0] >= end:
        return None
    used = in_blocks(Curve([x for x, _ in pairs], [math.log(y) for _, y in pairs]), MOST_POINTS)
    x = np.array(used.x)
    grid = np.linspace(0.0, end, _STEPS + 1)
    factors = np.array([factor(int(at)) for at in grid])
    areas = np.append(0.0, np.cumsum((factors[1:] + factors[:-1]) / 2 * np.diff(grid)))
    area = np.interp(x, grid, areas)
    if not area[0] > 0 or not np.isfinite(areas).all():
        return None
    alike = tuple(
        (np.interp(x, sibling[0], np.log(sibling[1])), math.log(sibling[1][-1]))
        for sibling in siblings
        if min(sibling[1]) > 0 and np.isfinite(sibling[1]).all()
    )
    return Known(
        x, np.array(used.y), area, np.interp(x, grid, factors),
        float(end), float(areas[-1]), float(factors[-1]), alike, _rate_shape(factors),
    )  # fmt: skip


def _rate_shape(factors: Vector) -> RateShape:
    half = float(factors.max()) / 2
    if factors[-1] > half:
        return "steady"
    return "falling" if factors[0] > half else "warmup"


#: Probabilities of the calibrated quantiles.
CHANCES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

#: Shape of the rate -> share of a run seen -> quantiles of `distance`(final level); interpolated
#: between shares on a logarithmic scale. Made by benchmarks/forecast/calibrate.py.
QUANTILES: dict[RateShape, dict[float, tuple[float, ...]]] = {
    "steady": {
        0.05: (-5.55, -4.45, -2.93, -1.89, -0.46, 0.01, 0.57, 0.71, 0.78),
        0.1: (-3.60, -3.37, -1.91, -1.32, -0.45, 0.23, 0.61, 0.85, 1.24),
        0.25: (-1.18, -0.78, -0.57, -0.38, -0.10, 0.06, 0.39, 0.59, 0.79),
        0.5: (-0.72, -0.61, -0.43, -0.16, -0.07, 0.21, 0.46, 0.76, 0.84),
        0.75: (-0.67, -0.57, -0.28, -0.17, -0.04, 0.10, 0.33, 0.72, 1.34),
        0.9: (-0.40, -0.36, -0.26, -0.07, -0.03, 0.05, 0.21, 0.34, 1.68),
    },
    "falling": {
        0.05: (-6.31, -5.32, -3.51, -1.74, -0.66, 0.10, 0.66, 0.86, 1.24),
        0.1: (-4.25, -3.08, -2.11, -1.03, -0.35, 0.33, 0.62, 1.04, 2.08),
        0.25: (-2.53, -1.45, -0.62, -0.28, -0.04, 0.35, 0.56, 0.73, 0.95),
        0.5: (-3.43, -0.27, -0.16, -0.05, 0.09, 0.31, 0.52, 0.63, 0.85),
        0.75: (-1.00, -0.33, -0.09, 0.02, 0.14, 0.24, 0.32, 0.38, 0.51),
        0.9: (-0.15, -0.05, -0.01, 0.06, 0.15, 0.20, 0.27, 0.33, 0.67),
    },
    "warmup": {
        0.05: (-4.67, -3.04, -2.70, -1.65, -0.66, -0.30, -0.02, 0.38, 0.90),
        0.1: (-5.07, -2.95, -2.60, -1.82, -0.80, -0.04, 0.62, 0.93, 1.15),
        0.25: (-0.82, -0.65, -0.29, -0.09, -0.02, 0.14, 0.50, 0.73, 0.86),
        0.5: (-0.38, -0.14, -0.06, -0.02, 0.09, 0.23, 0.47, 0.56, 0.57),
        0.75: (-0.06, -0.02, -0.01, 0.06, 0.15, 0.22, 0.30, 0.43, 0.59),
        0.9: (-0.02, -0.00, -0.00, 0.06, 0.11, 0.16, 0.23, 0.26, 0.72),
    },
}

#: Least share of a run for a forecast: smaller shares were not calibrated.
LEAST_SHARE = 0.04

#: Greatest ratio of the interval's ends for which a single loss is named.
WIDEST = 3.0


@dataclass(frozen=True)
class Forecast:
    """The forecast of the final loss of a run.

    Attributes:
        reason: why there is no forecast; empty if there is one, with:
        loss: the median of the final loss.
        low, high: the interval that contains 80 of 100 final losses.
        end: images at the end.
        share: share of the run seen so far, 0..1.
        points: number of points seen so far.
        guess: guess of the logarithm of the loss, before calibration.
        rate_shape: how the learning rate runs.
    """

    reason: str = ""
    loss: float = math.nan
    low: float = math.nan
    high: float = math.nan
    end: int = 0
    share: float = 0.0
    points: int = 0
    guess: Guess = NO_GUESS
    rate_shape: RateShape = "steady"

    @property
    def is_told(self) -> bool:
        """Whether there is a forecast."""
        return not self.reason

    @property
    def is_wide(self) -> bool:
        """Whether the interval is too wide to name one loss."""
        return self.is_told and self.high > WIDEST * self.low

    @property
    def interval(self) -> str:
        """Text `0.021 (0.019 to 0.024)`; only the ends if they are far apart; empty without any."""
        if not self.is_told:
            return ""
        low, loss, high = figures(self.low, self.loss, self.high)
        return f"{low} to {high}" if self.is_wide else f"{loss} ({low} to {high})"

    @property
    def place(self) -> str:
        """`near 0.021 (0.019 to 0.024)`, or `between 0.01 and 0.05` where that is far apart."""
        if self.is_wide:
            return f"between {self.interval.replace(' to ', ' and ')}"
        return f"near {self.interval}"

    def chance_below(self, target: float) -> float:
        """The probability that the run ends below a loss, 0..1; NaN without a forecast."""
        if not self.is_told:
            return math.nan
        if target <= 0:
            return 0.0
        return _chance(
            distance(self.guess, math.log(target)), quantiles(self.share, self.rate_shape)
        )

    def ends(self, chances: Vector) -> Vector:
        """The losses below which the run ends with these probabilities, 0.01..0.99."""
        return levels(
            self.guess, np.interp(chances, CHANCES, quantiles(self.share, self.rate_shape))
        )

    def words(self, target: float | None = None) -> str:
        """The forecast as a sentence without its full stop.

        Args:
            target: a loss to compare with, such as that of the best finished run.
        """
        if not self.is_told:
            return f"cannot tell yet: {self.reason}"
        told = f"will end {self.place}"
        if target is None or not target > 0:
            return told
        return f"{told}; {self.against(target)}"

    def against(self, target: float) -> str:
        """Text `will not reach 0.018`, `will go below 0.018`, or the probability of it."""
        chance = self.chance_below(target)
        loss = f"{target:.3g}"
        if chance < 0.05:
            return f"will not reach {loss}"
        if chance > 0.95:
            return f"will go below {loss}"
        return f"reaches {loss} with a chance of {100 * chance:.0f} %"


def forecast(known: Known | None) -> Forecast:
    """The calibrated forecast of a curve.

    Args:
        known: the curve; None if there are too few points.
    """
    if known is None:
        return Forecast("too few validations")
    share = float(known.images[-1] / known.end)
    if share < LEAST_SHARE:
        return Forecast(f"only {100 * share:.0f} % of the run is seen")
    guessed = guess(known)
    at = quantiles(share, known.rate_shape)[[CHANCES.index(chance) for chance in (0.1, 0.5, 0.9)]]
    low, loss, high = (float(end) for end in levels(guessed, at))
    return Forecast(
        "", loss, low, high, round(known.end), share, len(known.images), guessed, known.rate_shape
    )


def levels(guessed: Guess, distances: Vector) -> Vector:
    """Losses at these distances from the centre of a guess, in units of its spread."""
    spreads = np.where(distances < 0, guessed.below, guessed.above)
    found: Vector = np.exp(guessed.middle + spreads * distances)
    return found


def distance(guessed: Guess, level: float) -> float:
    """The distance of a level from the centre of a guess, in units of its spread."""
    gap = level - guessed.middle
    return gap / (guessed.below if gap < 0 else guessed.above)


def quantiles(share: float, rate_shape: RateShape) -> Vector:
    """Quantiles of `distance` at `CHANCES`, for the share of a run seen so far."""
    of_shape = QUANTILES[rate_shape]
    shares = sorted(of_shape)
    table, logs = np.array([of_shape[known] for known in shares]), np.log(shares)
    return np.array([np.interp(math.log(share), logs, table[:, i]) for i in range(len(CHANCES))])


def _chance(gap: float, at: Vector) -> float:
    """The probability of a smaller distance; exponential tails beyond the outer quantiles."""
    if gap < at[0]:
        return CHANCES[0] * math.exp((gap - at[0]) / max(at[1] - at[0], 1e-6) * math.log(5))
    if gap > at[-1]:
        fall = (at[-1] - gap) / max(at[-1] - at[-2], 1e-6) * math.log(5)
        return 1 - (1 - CHANCES[-1]) * math.exp(fall)
    return float(np.interp(gap, at, CHANCES))


def figures(*values: float) -> tuple[str, ...]:
    """Losses with enough digits to distinguish them: two to five."""
    for digits in range(2, 6):
        told = tuple(f"{value:#.{digits}g}".rstrip(".") for value in values)
        if len(set(told)) == len(set(values)):
            break
    return told


def run_forecast(run: Run, finished: Sequence[Run] = ()) -> Forecast:
    """The forecast of a stored run that is not finished.

    Args:
        run: a run in any state; a finished one has no forecast.
        finished: finished runs of the same matrix; those with the same schedule are used.

    Raises:
        StoreError: if the metrics are damaged.
    """
    plan = plan_of(run)
    return forecast_of(plan, of_validation(run), siblings_of(plan, finished))


def longer(run: Run) -> Forecast:
    """Forecasts a finished run after twice its images, with a schedule twice as long.

    Its curve is taken as the beginning of that schedule, which has twice the area under its rate
    and ends at the same rate. This is exact only for a constant rate.

    Raises:
        StoreError: if the metrics are damaged.
    """
    plan, seen = plan_of(run), of_validation(run)
    if plan.end is None or plan.factor is None or not seen.x:
        return Forecast("its end or its schedule is not known")
    if not all(math.isfinite(loss) and loss > 0 for loss in seen.y):
        return Forecast("losses of 0 and below cannot be extrapolated")
    end = max(plan.end, int(seen.x[-1]) + 1)
    known = known_curve(seen.x, seen.y, end=end, factor=plan.factor)
    if known is None:
        return Forecast("too few validations")
    return forecast(known._replace(end=2 * known.end, end_area=2 * known.end_area))


def forecast_of(plan: RestOfRun, seen: Curve, siblings: Sequence[Curve] = ()) -> Forecast:
    """The forecast of a curve with the plan of its run.

    Args:
        seen: the validation losses up to now.
        siblings: the validation losses of finished runs with the same plan.
    """
    if plan.end is None:
        return Forecast("its settings name no end in images")
    if plan.factor is None:
        name = plan.schedule.name if plan.schedule else "an unreadable schedule"
        return Forecast(f"how the learning rate of {name} goes on is not known beforehand")
    if seen.y and not math.isfinite(seen.y[-1]):
        return Forecast("the last loss is not a number")
    if seen.y and min(seen.y) <= 0:
        return Forecast("losses of 0 and below cannot be extrapolated")
    if seen.x and seen.x[-1] >= plan.end:
        return Forecast("the run is at its end")
    return forecast(
        known_curve(
            seen.x,
            seen.y,
            end=plan.end,
            factor=plan.factor,
            siblings=[(other.x, other.y) for other in siblings],
        )
    )


def siblings_of(plan: RestOfRun, finished: Sequence[Run]) -> list[Curve]:
    """The curves of finished runs with the same plan; the newest if there are many."""
    alike = [of_validation(run) for run in finished if plan_of(run).key == plan.key]
    return [seen for seen in alike if len(seen.x) > 2][-MOST_SIBLINGS:]


def of_validation(run: Run) -> Curve:
    """The validation losses of a run."""
    return curve(run.metrics("validation"))


def percent(chance: float) -> str:
    """Text such as `12 %`, `0.3 %`, `under 0.1 %`."""
    if chance < 0.001:
        return "under 0.1 %"
    return f"{100 * chance:.0f} %" if chance >= 0.0095 else f"{100 * chance:.1f} %"

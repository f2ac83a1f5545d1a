"""Statistics of repeated runs: mean and spread, and tests of differences."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Greatest probability that a table of equal settings claims any difference.
ALPHA = 0.05

#: Settings whose whole interval lies within this share of the best loss count as equal.
SAME_WITHIN = 0.05

#: Probability that the recommended number of seeds finds a difference as large as observed.
POWER = 0.8

#: Greatest number of seeds that is recommended.
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Spread:
    """Mean and spread of several runs with the same settings.

    Attributes:
        mean: mean of the values.
        count: number of values.
        low, high: the smallest and the largest value.
        std: sample standard deviation (n - 1), None for a single value. `±` always shows this.
    """

    mean: float
    count: int
    low: float
    high: float
    std: float | None

    def __str__(self) -> str:
        if self.std is None:
            return f"{self.mean:.6g}"
        return f"{self.mean:.6g} ± {self.std:.2g} (n={self.count})"


@dataclass(frozen=True)
class Difference:
    """The difference of two groups of runs, first minus second.

    Attributes:
        mean: difference of the means.
        low, high: its interval; infinite where a group has a single run.
        distinguishable: whether the interval excludes 0; None if a group has a single run.
        method: `paired t`, `Welch t` or `single runs`.
        error: standard error of `mean`; NaN for single runs.
        freedom: degrees of freedom; NaN for single runs.
        count: number of runs of the smaller group.
    """

    mean: float
    low: float
    high: float
    distinguishable: bool | None
    method: str
    error: float = math.nan
    freedom: float = math.nan
    count: int = 1

    @property
    def p_value(self) -> float:
        """The two-sided p-value; 1 for single runs."""
        if math.isnan(self.error):
            return 1.0
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return t_two_sided(self.mean / self.error, max(int(self.freedom), 1))


@dataclass(frozen=True)
class Judgement:
    """The comparison of one setting of a family with the best one.

    Attributes:
        verdict: `best`; `yes`: it differs from the best; `no`: it is at most 5 % away from it;
            `cannot tell (2 seeds)`: the runs allow neither conclusion.
        percent: distance of the means, in per cent of the best one's magnitude; None for the best.
        low, high: interval of `percent`, at the level of the test; None if a setting has a single
            run.
        seeds_needed: approximate number of seeds of each that would show a difference as large as
            observed; None if the verdict is clear already or it cannot be computed.
    """

    verdict: str
    percent: float | None = None
    low: float | None = None
    high: float | None = None
    seeds_needed: int | None = None


Losses = Mapping[Hashable, float]


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one number."""
    count = len(values)
    mean = math.fsum(values) / count
    std = None
    if count > 1:
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Spread(mean, count, min(values), max(values), std)


def half_interval(values: Sequence[float], alpha: float = ALPHA) -> float | None:
    """Half the width of the interval around the mean that holds the true mean, by Student's t.

    Args:
        values: of repeated runs.
        alpha: share of cases in which it does not.

    Returns:
        None for fewer than two finite values.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    std = spread(values).std or 0.0
    return t_quantile(len(values) - 1, alpha) * std / math.sqrt(len(values))


def difference(first: Losses, second: Losses, alpha: float = ALPHA) -> Difference:
    """Tests whether two settings differ by more than their seeds explain.

    Args:
        first, second: a loss by seed. With the same seeds, runs are compared in pairs, which
            removes the common effect of the seed; otherwise by Welch's test.
        alpha: share of cases in which the interval does not contain the true difference.

    Source: Welch 1947, Biometrika 34:28.
    """
    count = min(len(first), len(second))
    if set(first) == set(second) and len(first) > 1:
        gaps = spread([first[seed] - second[seed] for seed in first])
        error = (gaps.std or 0.0) / math.sqrt(gaps.count)
        return _difference(gaps.mean, error, gaps.count - 1, "paired t", count, alpha)
    a, b = spread(list(first.values())), spread(list(second.values()))
    if a.std is None or b.std is None:
        return Difference(a.mean - b.mean, -math.inf, math.inf, None, "single runs")
    parts = (a.std**2 / a.count, b.std**2 / b.count)
    total = math.fsum(parts)
    weights = parts[0] ** 2 / (a.count - 1) + parts[1] ** 2 / (b.count - 1)
    freedom = total**2 / weights if weights else a.count + b.count - 2
    return _difference(a.mean - b.mean, math.sqrt(total), freedom, "Welch t", count, alpha)


def against_best(families: Sequence[Sequence[Losses]]) -> list[list[Judgement]]:
    """Compares each setting of a table with the best of its family.

    The best is chosen by the same runs that are then compared with it, so the smallest of many
    equal settings looks better than it is. Therefore every pair of settings of every family counts
    as a comparison. Holm's procedure over all of them limits the probability that a table of equal
    settings claims any difference to `ALPHA`, for any spread of each setting.

    Args:
        families: for each group of comparable settings, a loss by seed for each setting, at
            least one run each.

    Returns:
        A judgement for each setting, in the same order.

    Source: Holm 1979, Scand. J. Statist. 6:65.
    """
    best = [min(range(len(f)), key=lambda i, f=f: _mean(f[i])) if f else 0 for f in families]  # type: ignore[misc]
    repeated = [sum(len(losses) > 1 for losses in family) for family in families]
    comparisons = sum(count * (count - 1) // 2 for count in repeated)
    places = [
        (number, i)
        for number, family in enumerate(families)
        for i in range(len(family))
        if i != best[number]
    ]
    tested = {
        (number, i): difference(families[number][i], families[number][best[number]])
        for number, i in places
    }
    # The pairs without the best are not computed; each counts as one of the last, which can only
    # make the procedure more conservative.
    levels, left, open_ = {}, max(comparisons, 1), True
    for place in sorted(tested, key=lambda place: tested[place].p_value):
        levels[place] = ALPHA / left
        open_ = open_ and tested[place].p_value <= levels[place]
        left = max(left - 1, 1) if open_ else left
    judged = []
    for number, family in enumerate(families):
        scale = abs(_mean(family[best[number]])) if family else 0.0
        # A loss that may be negative has an arbitrary zero: 5 % of -4500 nats is no small
        # difference.
        same_within = SAME_WITHIN if _all_positive(family) else 0.0
        judged.append(
            [
                Judgement("best")
                if i == best[number]
                else _judged(
                    difference(losses, family[best[number]], levels[number, i]),
                    levels[number, i],
                    scale,
                    same_within,
                )
                for i, losses in enumerate(family)
            ]
        )
    return judged


def seeds_needed(mean: float, std: float, alpha: float, *, paired: bool) -> int | None:
    """The approximate number of seeds that each of two settings needs to show their difference.

    Assumes the observed difference and spread, and a detection in `POWER` of cases.

    Args:
        mean: difference of the means.
        std: standard deviation of the differences of pairs, or of single runs.
        alpha: level of the test.
        paired: whether the seeds are the same.

    Returns:
        At least 2; None if it would be more than `MOST_SEEDS`.

    Source: Lachin 1981, Control. Clin. Trials 2:93, equation 1, with t for the normal quantiles.
    """
    if mean == 0 or not math.isfinite(mean) or not math.isfinite(std):
        return None

    def shows(count: int) -> bool:
        freedom = (count - 1) if paired else 2 * (count - 1)
        reach = t_quantile(freedom, alpha) + t_quantile(freedom, 2 * (1 - POWER))
        return reach * std / math.sqrt(count) <= abs(mean)

    if not shows(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # the answer is above low and at most high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def t_quantile(freedom: float, alpha: float = ALPHA) -> float:
    """The two-sided quantile of Student's t: |t| exceeds it in a share `alpha` of cases.

    Args:
        freedom: degrees of freedom, at least 1; fractions are rounded down, which is conservative.
        alpha: above 0 and below 1; 0.05 gives the 97.5 % point.
    """
    whole = max(int(freedom), 1)
    low, high = 0.0, 1.0
    while t_two_sided(high, whole) > alpha:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_two_sided(middle, whole) > alpha else (low, middle)
    return high


def t_two_sided(t: float, freedom: float) -> float:
    """The probability that Student's t is farther from 0 than `t`, 0..1.

    Source: NIST DLMF 8.17(i) and 26.5.27 of Abramowitz & Stegun.
    """
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function by its continued fraction.

    Source: NIST DLMF 8.17.22, evaluated by Lentz's method.
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly only on the other side
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1.0 / _away_from_0(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for part in (even, odd):
            d = 1.0 / _away_from_0(1.0 + part * d)
            c = _away_from_0(1.0 + part / c)
            value *= c * d
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return front * value


def _away_from_0(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def _difference(
    mean: float, error: float, freedom: float, method: str, count: int, alpha: float
) -> Difference:
    reach = t_quantile(freedom, alpha) * error
    low, high = mean - reach, mean + reach
    return Difference(mean, low, high, not low <= 0 <= high, method, error, freedom, count)


def _judged(found: Difference, level: float, scale: float, same_within: float) -> Judgement:
    percent = 100 * found.mean / scale if scale else None
    told = f"cannot tell ({found.count} seed{'s' if found.count != 1 else ''})"
    if found.distinguishable is None or not scale:
        verdict = "yes" if found.distinguishable else told
        return Judgement(verdict, percent)
    low, high = 100 * found.low / scale, 100 * found.high / scale
    if found.distinguishable:
        return Judgement("yes", percent, low, high)
    if max(-low, high) <= 100 * same_within:
        return Judgement("no", percent, low, high)
    paired = found.method == "paired t"
    needed = seeds_needed(found.mean, found.error * math.sqrt(found.count), level, paired=paired)
    return Judgement(told, percent, low, high, needed)


def _all_positive(family: Sequence[Losses]) -> bool:
    return all(loss > 0 for losses in family for loss in losses.values())


def _mean(losses: Losses) -> float:
    return math.fsum(losses.values()) / len(losses)

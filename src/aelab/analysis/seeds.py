"""Repeated runs: mean and spread, and whether a difference is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: 97.5 % points of Student's t for 1 to 30 degrees of freedom, from any table.
_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Spread:
    """Several runs of the same settings.

    Attributes:
        mean: of the values.
        count: how many values.
        low, high: the smallest and the largest.
        std: sample standard deviation (n - 1), None for a single value.
    """

    mean: float
    count: int
    low: float
    high: float
    std: float | None

    @property
    def plus_minus(self) -> float | None:
        """Half the range for two values, the sample standard deviation from three on."""
        if self.count == 2:
            return (self.high - self.low) / 2
        return self.std

    def __str__(self) -> str:
        if self.plus_minus is None:
            return f"{self.mean:.6g}"
        return f"{self.mean:.6g} ± {self.plus_minus:.2g} (n={self.count})"


@dataclass(frozen=True)
class Difference:
    """The difference of two groups of runs, first minus second.

    Attributes:
        mean: difference of the means.
        low, high: 95 % interval; infinite where a group has a single run.
        distinguishable: whether the interval leaves 0 out; None where nobody can tell, because a
            group has a single run.
        method: `paired t`, `Welch t` or `single runs`.
    """

    mean: float
    low: float
    high: float
    distinguishable: bool | None
    method: str


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one number."""
    count = len(values)
    mean = math.fsum(values) / count
    std = None
    if count > 1:
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Spread(mean, count, min(values), max(values), std)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Whether two settings differ by more than their seeds explain.

    Args:
        first, second: a loss by seed. Where both have the same seeds the runs are compared in
            pairs, which removes what the seed does to both; otherwise by Welch's test.

    Source: Welch 1947, Biometrika 34:28.
    """
    if set(first) == set(second) and len(first) > 1:
        gaps = spread([first[seed] - second[seed] for seed in sorted(first)])
        error = (gaps.std or 0.0) / math.sqrt(gaps.count)
        return _difference(gaps.mean, error, gaps.count - 1, "paired t")
    a, b = spread(list(first.values())), spread(list(second.values()))
    if a.std is None or b.std is None:
        return Difference(a.mean - b.mean, -math.inf, math.inf, None, "single runs")
    parts = (a.std**2 / a.count, b.std**2 / b.count)
    total = math.fsum(parts)
    weights = parts[0] ** 2 / (a.count - 1) + parts[1] ** 2 / (b.count - 1)
    freedom = total**2 / weights if weights else a.count + b.count - 2
    return _difference(a.mean - b.mean, math.sqrt(total), freedom, "Welch t")


def t_quantile(freedom: float) -> float:
    """The 97.5 % point of Student's t distribution, to 0.003 and on the safe side.

    Args:
        freedom: degrees of freedom, at least 1; fractions are rounded down.
    """
    whole = max(int(freedom), 1)
    if whole <= len(_T_975):
        return _T_975[whole - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * whole) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * whole**2)


def _difference(mean: float, error: float, freedom: float, method: str) -> Difference:
    reach = t_quantile(freedom) * error
    low, high = mean - reach, mean + reach
    return Difference(mean, low, high, not low <= 0 <= high, method)

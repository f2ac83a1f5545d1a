"""Other ways to tell the end of a curve from its beginning, as published.

They see images and losses, and no schedule: none of them was made for one. Learned forecasters are
left out: LC-PFN (arXiv:2310.20447) cannot be installed beside today's torch, and ifBO
(arXiv:2404.16795) fetches its weights when it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Vector = NDArray[Any]

#: A family of curves: (parameters (P,) or (W, P), x (N,)) -> (N,) or (W, N).
Family = Callable[[Vector, Vector], Vector]


def last_value(x: Vector, y: Vector, end: float) -> float:
    """What the curve says now."""
    return float(y[-1])


def power_law(x: Vector, y: Vector, end: float) -> float:
    """a + b x^-c by least squares, a and b at least 0; the exponent from a grid."""
    if len(x) < 3:
        return float(y[-1])
    best = (math.inf, float(y[-1]))
    for c in np.geomspace(0.05, 4, 60):
        basis = np.stack([np.ones_like(x), x**-c], axis=1)
        a, b = np.linalg.lstsq(basis, y, rcond=None)[0]
        if a < 0:
            a, b = 0.0, float((x**-c @ y) / (x**-c @ x**-c))
        if b < 0:
            a, b = float(y.mean()), 0.0
        error = float(((a + b * x**-c - y) ** 2).sum())
        best = min(best, (error, float(a + b * end**-c)))
    return best[1]


def mmf(x: Vector, y: Vector, end: float) -> float:
    """MMF, the best of sixteen families in the largest comparison of learning curves.

    (a b + c x^d) / (b + x^d). Source: Mohr, Viering, Loog & van Rijn 2022 (LCDB), ECML, table 1.
    """
    scale = x[-1]

    def value(p: Vector, at: Vector) -> Vector:
        power = np.exp(p[3] * np.log(at / scale))
        found: Vector = (p[0] * np.exp(p[1]) + p[2] * power) / (np.exp(p[1]) + power)
        return found

    starts = [[y[0], b, y[-1] * c, d] for b in (-2.0, 0.0, 2.0) for c in (0.5, 1.0)
              for d in (0.5, 1.0)]  # fmt: skip
    return _least_squares(value, starts, x, y, end)


def weibull(x: Vector, y: Vector, end: float) -> float:
    """WBL4, the next best: c - b exp(-a x^d). Source: as `mmf`."""
    scale = x[-1]

    def value(p: Vector, at: Vector) -> Vector:
        found: Vector = p[0] + p[1] * np.exp(-np.exp(p[2]) * (at / scale) ** np.exp(p[3]))
        return found

    starts = [[y[-1] * c, y[0] - y[-1], a, d] for c in (0.5, 0.9) for a in (-1.0, 1.0)
              for d in (-0.7, 0.0)]  # fmt: skip
    return _least_squares(value, starts, x, y, end)


def _least_squares(
    value: Family, starts: list[list[float]], x: Vector, y: Vector, end: float
) -> float:  # fmt: skip
    if len(x) < 4:
        return float(y[-1])
    best = (math.inf, float(y[-1]))
    with np.errstate(all="ignore"):
        for start in starts:
            found = least_squares(lambda p: np.nan_to_num(value(p, x) - y, nan=1e3, posinf=1e3),
                                  start, max_nfev=60)  # fmt: skip
            told = float(value(found.x, np.array([end]))[0])
            if math.isfinite(told):
                best = min(best, (float(found.cost), told))
    return best[1]


# --- Domhan, Springenberg & Hutter 2015, IJCAI: eleven families at once, by Markov chains. x is in
# validations, as there; y = 1 - loss / first loss is their accuracy, which rises.

_FAMILIES: dict[str, tuple[Family, tuple[float, ...]]] = {
    "vapor pressure": (lambda p, x: np.exp(p[..., 0:1] + p[..., 1:2] / x
                                           + p[..., 2:3] * np.log(x)), (-0.62, -1.8, 0.05)),
    "pow3": (lambda p, x: p[..., 0:1] - p[..., 1:2] * x ** -p[..., 2:3], (0.84, 0.52, 0.5)),
    "log log linear": (lambda p, x: np.log(np.maximum(p[..., 0:1] * np.log(x) + p[..., 1:2], 1e-9)),
                       (0.2, 1.4)),
    "Hill3": (lambda p, x: p[..., 0:1] * x ** p[..., 1:2]
              / (np.abs(p[..., 2:3]) ** p[..., 1:2] + x ** p[..., 1:2]), (0.6, 0.58, 1.5)),
    "log power": (lambda p, x: p[..., 0:1] / (1 + (x / np.exp(p[..., 1:2])) ** p[..., 2:3]),
                  (0.77, 0.5, -0.5)),
    "pow4": (lambda p, x: p[..., 2:3] - np.abs(p[..., 0:1] * x + p[..., 1:2]) ** -p[..., 3:4],
             (2.0, 1.0, 0.9, 0.6)),
    "MMF": (lambda p, x: p[..., 0:1] - (p[..., 0:1] - p[..., 1:2])
            / (1 + np.abs(p[..., 2:3] * x) ** p[..., 3:4]), (0.8, 0.0, 0.5, 0.8)),
    "exp4": (lambda p, x: p[..., 2:3] - np.exp(-p[..., 0:1] * x ** p[..., 3:4] + p[..., 1:2]),
             (0.8, -0.1, 0.8, 0.5)),
    "Janoschek": (lambda p, x: p[..., 0:1] - (p[..., 0:1] - p[..., 1:2])
                  * np.exp(-p[..., 2:3] * x ** p[..., 3:4]), (0.8, 0.0, 0.4, 0.6)),
    "Weibull": (lambda p, x: p[..., 0:1] - (p[..., 0:1] - p[..., 1:2])
                * np.exp(-np.abs(p[..., 2:3] * x) ** p[..., 3:4]), (0.8, 0.0, 0.4, 0.6)),
    "ilog2": (lambda p, x: p[..., 1:2] - p[..., 0:1] / np.log(x + 1), (0.5, 0.9)),
}  # fmt: skip

_WALKERS, _BURN, _KEPT = 64, 250, 150


def markov_chains(x: Vector, y: Vector, end: float) -> tuple[float, float, float]:
    """The median end and the ends of an 80 % interval by the ensemble of Domhan et al.

    The mixture of all families with weights and a noise, each of `_WALKERS` chains moved by the
    stretch of Goodman & Weare 2010 (as in emcee); a curve must not end below where it is.
    """
    step = x[0]
    at, last, top = x / step + 1, end / step + 1, y[0] * 1.05
    seen = 1 - y / top
    draw = np.random.default_rng(0)
    sizes = [len(start) for _, start in _FAMILIES.values()]
    count = len(sizes)
    middle = np.concatenate([*(start for _, start in _FAMILIES.values()), np.full(count, 1 / count),
                             [math.log(0.02)]])  # fmt: skip
    cuts = np.cumsum([0, *sizes])
    grid = np.append(at, last)

    def curves(walkers: Vector) -> Vector:
        found = np.zeros((len(walkers), len(grid)))
        weights = walkers[:, cuts[-1] : cuts[-1] + count]
        for number, (family, _) in enumerate(_FAMILIES.values()):
            own = family(walkers[:, cuts[number] : cuts[number + 1]], grid)
            found += weights[:, number : number + 1] * own
        return found / weights.sum(1, keepdims=True)

    def likelihood(walkers: Vector) -> tuple[Vector, Vector]:
        with np.errstate(all="ignore"):
            told = curves(walkers)
            noise = np.exp(walkers[:, -1])
            value = -0.5 * (((told[:, :-1] - seen) / noise[:, None]) ** 2).sum(1)
            value -= len(seen) * walkers[:, -1]
        weights = walkers[:, cuts[-1] : cuts[-1] + count]
        wrong = ~np.isfinite(value) | (weights < 0).any(1) | (told[:, -1] < seen[-1] - 1e-9)
        wrong |= (told[:, -1] > 1) | (np.abs(walkers[:, -1] + 4) > 6) | (weights.sum(1) < 1e-3)
        return np.where(wrong, -np.inf, value), told[:, -1]

    walkers = middle + 0.02 * draw.standard_normal((_WALKERS, len(middle)))
    value, told = likelihood(walkers)
    kept = []
    half = _WALKERS // 2
    halves = (slice(0, half), slice(half, None))
    for turn in range(_BURN + _KEPT):
        for own, other in (halves, halves[::-1]):
            stretch = (1 + draw.random(half)) ** 2 / 2
            partner = walkers[other][draw.integers(0, half, half)]
            tried = partner + stretch[:, None] * (walkers[own] - partner)
            new, ends = likelihood(tried)
            with np.errstate(invalid="ignore"):
                gain = (len(middle) - 1) * np.log(stretch) + new - value[own]
            take = (np.log(draw.random(half)) < gain) & np.isfinite(new)
            take |= np.isfinite(new) & ~np.isfinite(value[own])
            walkers[own] = np.where(take[:, None], tried, walkers[own])
            value[own] = np.where(take, new, value[own])
            told[own] = np.where(take, ends, told[own])
        if turn >= _BURN:
            kept.append(told[np.isfinite(value)].copy())
    ends = np.concatenate(kept) if kept else np.array([])
    if not len(ends):
        return float(y[-1]), float(y[-1]), float(y[-1])
    high, loss, low = (top * (1 - float(q)) for q in np.quantile(ends, (0.1, 0.5, 0.9)))
    return loss, low, high

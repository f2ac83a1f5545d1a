"""Euclidean distances and nearest neighbours that stay accurate for points far from 0.

|a - b|^2 = |a|^2 + |b|^2 - 2 a.b is a fast matrix product, but it loses differences that are small
against |a|^2. In float32 the neighbours among clusters 0.05 apart around 1000 are random, and
`torch.cdist` uses this formula from 26 points on. Here the mean is subtracted first, and the few
that seem nearest in float32 are compared again by plain differences in float64. The rounding error
has a bound; where it does not prove that all other points are farther, every distance is float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Distances held at once: 16 MB of float32, which stay in the cache.
_AT_ONCE = 1 << 22
#: The same for float64, 128 MB.
_AT_ONCE_EXACT = 1 << 24
_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"
#: Rounding error of float32, relative to one number.
_ROUNDING = 2.0**-24
#: Additional neighbours that are compared by plain differences, after float32 and float64.
_SPARE, _SPARE_EXACT = 3, 8


class Nearest(NamedTuple):
    """Nearest neighbours of points, the nearest first.

    Attributes:
        rows: (N, k) int64, indices of the neighbours.
        distances: (N, k) float64, by plain differences: 0 exactly where points are equal.
    """

    rows: Tensor
    distances: Tensor


def distances(points: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances: (N, D), (M, D) -> (N, M) float64."""
    middle = others.double().mean(0)
    return torch.cdist(points.double() - middle, others.double() - middle)


def nearest_rows(points: Tensor, others: Tensor, count: int = 1) -> Nearest:
    """The `count` nearest of `others` for each point; fewer if there are fewer.

    Args:
        points: (N, D).
        others: (M, D), M at least 1.
        count: k.
    """
    count = min(count, len(others))
    middle = others.double().mean(0)
    among = others.double() - middle
    screen = _Screen(among)
    rows, apart = [], []
    candidates = min(count + _SPARE, len(others))
    each = max(len(others), candidates * points.shape[1])  # numbers held for one point
    for part in torch.split(points, max(1, _AT_ONCE // each)):
        moved = part.double() - middle
        found, beyond = screen.nearest(moved, candidates)
        order, exact = _exact_order(moved, among, found, count)
        # `not` instead of `<=`: overflow gives NaN.
        unsure = (~(exact[:, -1] < beyond)).nonzero()[:, 0]
        if candidates < len(others):
            for some in torch.split(unsure, max(1, _AT_ONCE_EXACT // each)):
                more = min(count + _SPARE_EXACT, len(others))
                again = torch.cdist(moved[some], among).topk(more, largest=False).indices
                order[some], exact[some] = _exact_order(moved[some], among, again, count)
        rows.append(order)
        apart.append(exact)
    if not rows:
        return Nearest(torch.empty(0, count, dtype=torch.int64), torch.empty(0, count).double())
    return Nearest(torch.cat(rows), torch.cat(apart))


class _Screen:
    """Approximate distances by |b|^2 - 2 a.b in float32, with a bound of their error.

    Args:
        among: (M, D) float64, mean 0.
    """

    def __init__(self, among: Tensor) -> None:
        # Numbers up to 1, so that squares neither overflow nor vanish.
        self.scale = float(among.abs().max()) or 1.0
        self.among = (among / self.scale).float()
        squares = self.among.double().square().sum(1)
        self.squares, self.largest = squares.float(), float(squares.max()) ** 0.5

    def nearest(self, moved: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(B, count) rows that seem nearest, and (B,) a distance that all other rows exceed.

        Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", equation 3.5: the
        computed product of D terms is wrong by at most D u |a| |b|, u being the rounding error.
        """
        points = (moved / self.scale).float()
        found = torch.addmm(self.squares, points, self.among.T, alpha=-2).topk(count, largest=False)
        own = points.double().square().sum(1)
        reach = own.sqrt() + self.largest
        error = (2 * points.shape[1] + 16) * _ROUNDING * reach.square()
        beyond = (found.values[:, -1].double() + own - error).clamp(min=0).sqrt()
        return found.indices, beyond * self.scale


def _exact_order(moved: Tensor, among: Tensor, found: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest among (B, k) rows, and their distances by plain differences."""
    exact = torch.cat(
        [
            torch.cdist(point[:, None], among[near], compute_mode=_BY_DIFFERENCES)[:, 0]
            for point, near in zip(torch.split(moved, 64), torch.split(found, 64), strict=True)
        ]
    )
    order = exact.argsort(dim=1, stable=True)[:, :count]
    return found.gather(1, order), exact.gather(1, order)

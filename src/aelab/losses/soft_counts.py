"""Soft histograms of many rows of values; memory grows with the rows, not with rows x bins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aelab.errors import ConfigError

#: Intermediate numbers held at once: on a CPU as many as fit its cache, else enough for a GPU.
_PIECE_CPU, _PIECE_ELSEWHERE = 2**18, 2**24


def soft_histogram(
    values: Tensor, bins: int, min: float = 0.0, max: float = 1.0, sigma: float = 100.0
) -> Tensor:
    """Number of values of each row in each bin, with sigmoids as bin edges.

    h_k = sum over i of sigmoid(sigma (x_i - e_k)) - sigmoid(sigma (x_i - e_(k+1))), where e_k =
    min + k (max - min) / bins. Summed over bins, a value counts sigmoid(sigma (x - min)) -
    sigmoid(sigma (x - max)): one half if it is exactly `min` or `max`, and near 0 outside.

    Memory: values, result, and a piece of fixed size; the backward pass recomputes the sigmoids.

    Args:
        values: (R, ...), one histogram for each row; a 1-D tensor is one row.
        bins: number of bins of equal width between `min` and `max`.
        sigma: steepness of the edges, in 1 / units of the values; not relative to the bins.

    Returns:
        (R, bins), counts; at least 0, at most the number of values in a row.

    Raises:
        ConfigError: no bin, an empty range, or a sigma that is not above 0.

    Source: Tony-Y in the PyTorch forum, thread 25865 "differentiable torch.histc"; document 000.
    """
    check_bins(bins, min, max, sigma)
    rows = values[None] if values.ndim == 1 else values.flatten(1)
    edges = torch.linspace(min, max, bins + 1, dtype=rows.dtype, device=rows.device)
    return soft_counts(rows, edges, sigma)


def soft_counts(rows: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """Soft counts of values between neighbouring edges, as in `soft_histogram`.

    Args:
        rows: (R, N).
        edges: (E,), ascending; gets no gradient.

    Returns:
        (R, E - 1).
    """
    counts: Tensor = _SoftCounts.apply(rows, edges, float(sigma))  # type: ignore[no-untyped-call]
    return counts


def check_bins(bins: int, min: float, max: float, sigma: float) -> None:
    """Raises a `ConfigError` unless bins >= 1, min < max and sigma > 0."""
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ConfigError(f"a histogram needs bins >= 1, not {bins!r}")
    if not min < max:
        raise ConfigError(f"a histogram needs min < max, not {min!r} and {max!r}")
    if not sigma > 0:
        raise ConfigError(f"the bin edges of a histogram need a steepness above 0, not {sigma!r}")


class _SoftCounts(torch.autograd.Function):
    """Differences of sigmoids at neighbouring edges, piece by piece, forward and backward.

    Each edge is computed once for its two bins: half the sigmoids of the formula.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, edges: Tensor, sigma: float) -> Tensor:
        """(R, N), (E,) -> (R, E - 1)."""
        bins = edges.shape[0] - 1
        # Written in place: allocating small results between large pieces fragments the heap.
        counts = rows.new_zeros(rows.shape[0], bins)
        for some, few in _pieces(rows, bins):
            walls = _walls(rows[some], edges[few.start : few.stop + 1], sigma)
            counts[some, few] = (walls[:, :-1] - walls[:, 1:]).sum(-1)
        return counts

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Saves the values for `backward`, not the sigmoids, which are R x E x N."""
        rows, edges, ctx.sigma = inputs
        ctx.save_for_backward(rows, edges)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        """sigma * sum over edges of (g_k - g_(k-1)) s (1 - s)."""
        if not ctx.needs_input_grad[0]:
            return None, None, None
        rows, edges = ctx.saved_tensors
        nothing = torch.zeros_like(gradients[0][:, :1])
        # An edge ends one bin and starts the next: the difference of their gradients, (R, E).
        of_edges = torch.cat([gradients[0], nothing], 1) - torch.cat([nothing, gradients[0]], 1)
        total = torch.zeros_like(rows)
        for some, few in _pieces(rows, len(edges)):
            walls = _walls(rows[some], edges[few], ctx.sigma)
            slope = walls.sub_(walls * walls)
            total[some] += torch.bmm(of_edges[some, None, few], slope)[:, 0]  # (R, 1, E) (R, E, N)
        return total.mul_(ctx.sigma), None, None


def _walls(rows: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """sigmoid(sigma (x - e)): (R, N), (E,) -> (R, E, N)."""
    # Subtract first: x - e is exact for close numbers; sigma x - sigma e is not.
    return (rows[:, None, :] - edges[:, None]).mul_(sigma).sigmoid_()


def _pieces(rows: Tensor, num_edges: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of rows and of edges whose product stays small; at least one row and one edge."""
    limit = _PIECE_CPU if rows.device.type == "cpu" else _PIECE_ELSEWHERE
    num_rows, row = len(rows), max(1, rows.shape[1])
    edges = min(num_edges, max(1, limit // row))
    some = max(1, limit // (row * edges))
    for start in range(0, num_rows, some):
        for first in range(0, num_edges, edges):
            yield slice(start, start + some), slice(first, min(first + edges, num_edges))

"""Monotone splines of rational quadratic pieces, and the flow layer made of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: K, pieces of a spline.
PIECES = 8
#: The spline covers -5..5 in units of the prior's standard deviation; beyond it is the identity.
LIMIT = 5.0
#: Least share of a piece in width or height, and least slope, so that the inverse stays exact.
_LEAST = 1e-3


def rational_quadratic(x: Tensor, raw: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """A monotone function of x, or its inverse, made of K rational quadratic pieces.

    Pieces cover -5..5 and meet with equal slopes; beyond, the function is the identity. With
    `raw` = 0 it is the identity everywhere.

    Args:
        x: any shape.
        raw: (*shape of x, 3 K - 1): widths and heights before the softmax, and the K - 1 slopes
            at the inner knots before a softplus.
        inverse: whether the inverse function is computed.

    Returns:
        The values, and the logarithm of the derivative of what was computed; both as x.

    Source: Durkan et al. 2019, arXiv:1906.04032, equations 4 to 8.
    """
    pieces = (raw.shape[-1] + 1) // 3
    width, height, slope = raw.split([pieces, pieces, pieces - 1], -1)  # type: ignore[no-untyped-call]
    left, width = _knots(width)
    floor, height = _knots(height)
    # softplus(ln(e - 1)) is 1: raw zeros give the slope of the identity.
    slope = _LEAST + (1 - _LEAST) * F.softplus(slope + math.log(math.e - 1))
    slope = F.pad(slope, (1, 1), value=1.0)  # (..., K + 1): smooth ends
    inside = (x > -LIMIT) & (x < LIMIT)
    near = x.clamp(-LIMIT, LIMIT)  # numbers that are not finite stay so
    edges = floor if inverse else left
    piece = ((near[..., None] >= edges).sum(-1, keepdim=True) - 1).clamp(0, pieces - 1)
    left, width, floor, height, low, high = (
        values.gather(-1, piece)[..., 0]
        for values in (left, width, floor, height, slope[..., :-1], slope[..., 1:])
    )
    steep = height / width
    bend = low + high - 2 * steep
    if inverse:
        # Equation 6: a xi^2 + b xi + c = 0, solved in the form without cancellation.
        up = near - floor
        a = height * (steep - low) + up * bend
        b = height * low - up * bend
        c = -steep * up
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        share = 2 * c / (-b - root)
        made = left + share * width
    else:
        share = (near - left) / width
        mixed = share * (1 - share)
        made = floor + height * (steep * share.square() + low * mixed) / (steep + bend * mixed)
    mixed = share * (1 - share)
    rise = high * share.square() + 2 * steep * mixed + low * (1 - share).square()
    log_slope = 2 * steep.log() + rise.log() - 2 * (steep + bend * mixed).log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, made, x), torch.where(inside, log_slope, 0.0)


class SplineCoupling(nn.Module):
    """A flow layer: the second half of a latent is bent by splines that the first half chooses.

    It starts as the identity.

    Args:
        dims: D; the first D // 2 dimensions stay, the others change.
        hidden: width of the network that gives the splines.

    Source: Durkan et al. 2019, arXiv:1906.04032, section 3.2 (RQ-NSF (C)).
    """

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.kept = dims // 2
        self.net = nn.Sequential(
            nn.Linear(max(1, self.kept), hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, (dims - self.kept) * (3 * PIECES - 1)),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, z: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B, D), and the logarithm of the determinant of what was computed, (B,)."""
        still, moved = z[:, : self.kept], z[:, self.kept :]
        # A single dimension has nothing before it: its spline is the same for all latents.
        raw = self.net(still if self.kept else torch.ones_like(z[:, :1]))
        raw = raw.unflatten(1, (moved.shape[1], 3 * PIECES - 1))
        made, log_slope = rational_quadratic(moved, raw, inverse)
        return torch.cat([still, made], 1), log_slope.sum(1)


def _knots(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(..., K) -> the lower ends and the sizes of K pieces that cover -5..5."""
    count = raw.shape[-1]
    size = 2 * LIMIT * (_LEAST + (1 - _LEAST * count) * raw.softmax(-1))
    ends = size.cumsum(-1) - LIMIT
    return F.pad(ends[..., :-1], (1, 0), value=-LIMIT), size

"""Paths through the latent space: between two codes, and along one dimension."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ShapeError


def linear_path(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """A straight path, (steps, D): start + t (end - start), t from 0 to 1, both ends included."""
    _same(start, end, steps)
    t = torch.linspace(0, 1, steps)[:, None]
    return start + t * (end - start)


def spherical_path(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """A path along the great circle, (steps, D), both ends included.

    Codes of a high-dimensional normal distribution lie near a sphere. The straight line between two
    of them passes inside of it, where there are no codes. If both codes have the same or opposite
    directions, the path is the straight line.

    Source: Shoemake 1985, Animating rotation with quaternion curves; White 2016, arXiv:1609.04468.
    """
    _same(start, end, steps)
    lengths = start.norm(), end.norm()
    cosine = (start @ end / (lengths[0] * lengths[1]).clamp(min=1e-12)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle.sin() < 1e-4:  # the weights below divide by it
        return linear_path(start, end, steps)
    t = torch.linspace(0, 1, steps)[:, None]
    weights = torch.sin((1 - t) * angle) / angle.sin(), torch.sin(t * angle) / angle.sin()
    return weights[0] * start + weights[1] * end


def traversal(code: Tensor, dimension: int, values: Tensor) -> Tensor:
    """Copies of `code`, (len(values), D), with one dimension set to each value."""
    path = code.expand(len(values), -1).clone()
    path[:, dimension] = values
    return path


def _same(start: Tensor, end: Tensor, steps: int) -> None:
    if start.ndim != 1 or start.shape != end.shape or steps < 2:
        raise ShapeError(
            "a path needs two codes of equal length and two steps at least, not "
            f"{tuple(start.shape)}, {tuple(end.shape)} and {steps}"
        )

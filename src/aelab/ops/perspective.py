"""Images seen at a slant: the plane's projection that four corners determine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def projection(start: Tensor, end: Tensor) -> Tensor:
    """The map that takes each `end` corner to its `start` corner.

    Args:
        start, end: (B, 4, 2), corners as (x, y).

    Returns:
        (B, 8), a to h of x' = (ax + by + c) / (gx + hy + 1), y' = (dx + ey + f) / (gx + hy + 1).

    Source: eight linear equations, as torchvision 0.28, `_get_perspective_coeffs`.
    """
    start, end = start.double(), end.double()
    ones, zeros = torch.ones_like(end[..., :1]), torch.zeros_like(end)
    zero = zeros[..., :1]
    x, y = start[..., :1], start[..., 1:]
    for_x = torch.cat((end, ones, zeros, zero, -x * end), dim=-1)
    for_y = torch.cat((zeros, zero, end, ones, -y * end), dim=-1)
    equations = torch.cat((for_x, for_y), dim=1)  # (B, 8, 8)
    # Corners that meet leave no exact solution; least squares gives the nearest.
    solution: Tensor = torch.linalg.lstsq(equations, torch.cat((x, y), dim=1), driver="gelsd")[0]
    return solution[..., 0]


def perspective(images: Tensor, start: Tensor, end: Tensor, mode: str, fill: Tensor) -> Tensor:
    """Each image with its four `start` corners moved to `end`.

    Args:
        images: (B, C, H, W) float.
        start, end: (B, 4, 2) pixels as (x, y), counted from 0.
        mode: `bilinear` or `nearest`.
        fill: (C,), what comes in from outside.

    Returns:
        (B, C, H, W).

    Source: torchvision 0.28, `functional.perspective`: the projection of the corners' numbers is
        applied to the centres of pixels, which lie half a pixel further.
    """
    height, width = images.shape[-2:]
    a, b, c, d, e, f, g, h = (
        projection(start, end).to(images.device).float()[..., None, None].unbind(1)
    )
    x = torch.arange(width, device=images.device)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device)[None, :, None] + 0.5
    below = g * x + h * y + 1.0
    column, row = (a * x + b * y + c) / below, (d * x + e * y + f) / below
    grid = torch.stack((column / (0.5 * width) - 1.0, row / (0.5 * height) - 1.0), dim=-1)
    grid = torch.nan_to_num(grid, nan=2.0, posinf=2.0, neginf=-2.0)  # the horizon: outside
    both = torch.cat((images, torch.ones_like(images[:, :1])), dim=1)
    moved = F.grid_sample(both, grid.to(images.dtype), mode, "zeros", align_corners=False)
    inside, moved = moved[:, -1:], moved[:, :-1]
    outside = fill.to(images).view(1, -1, 1, 1)
    if mode == "nearest":
        return torch.where(inside < 0.5, outside, moved)
    # Beside the border a bilinear value already holds its share of black: only the rest is filled.
    return moved * inside + (1.0 - inside) * outside

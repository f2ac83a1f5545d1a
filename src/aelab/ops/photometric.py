"""Brightness, contrast, colour, rotation and perspective of batches, with one factor per image.

All take float images. The colour functions equal Pillow's functions of the same names, without
rounding to 8 bit, clamped to 0..1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aelab.ops.color import convert_channels


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies each image by its factor: 0 is black, 1 changes nothing.

    Args:
        images: (B, C, H, W) float in 0..1.
        factor: (B,), at least 0.

    Returns:
        (B, C, H, W), clamped to 0..1.

    Source: Pillow, ImageEnhance.Brightness.
    """
    return (images * _column(factor, images)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scales each image's difference from its mean grey value: 0 is that grey everywhere.

    Args:
        images: (B, C, H, W) float in 0..1; 1 or 3 channels.
        factor: (B,), at least 0.

    Returns:
        (B, C, H, W), clamped to 0..1.

    Source: Pillow, ImageEnhance.Contrast, which rounds the mean to 8 bit.
    """
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _column(factor, images)).clamp(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scales each pixel's difference from its own grey value: 0 is a grey image.

    Args:
        images: (B, C, H, W) float in 0..1; grey images are returned unchanged.
        factor: (B,), at least 0.

    Returns:
        (B, C, H, W), clamped to 0..1.

    Source: Pillow, ImageEnhance.Color.
    """
    if images.shape[1] == 1:
        return images
    return torch.lerp(_grey(images), images, _column(factor, images)).clamp(0, 1)


def autocontrast(images: Tensor) -> Tensor:
    """Stretches each channel so that its darkest pixel is 0 and its brightest 1.

    A constant channel stays unchanged.

    Args:
        images: (B, C, H, W) float in 0..1.

    Returns:
        (B, C, H, W) in 0..1.

    Source: Pillow, ImageOps.autocontrast with a cutoff of 0.
    """
    low = images.amin(dim=(2, 3), keepdim=True)
    high = images.amax(dim=(2, 3), keepdim=True)
    constant = high <= low
    spread = torch.where(constant, torch.ones_like(high), high - low)
    return (images - torch.where(constant, torch.zeros_like(low), low)) / spread


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotates each image counter-clockwise about its centre; nearest pixels, black outside.

    Args:
        images: (B, C, H, W), any type.
        degrees: (B,) float.

    Returns:
        (B, C, H, W) of the same type; corners that leave the frame are lost.

    Source: Pillow, Image.rotate with NEAREST and without `expand`.
    """
    height, width = images.shape[-2:]
    device = images.device
    angle = torch.deg2rad(degrees.to(device, torch.float32))[:, None, None]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    down = (torch.arange(height, device=device) + 0.5 - height / 2)[None, :, None]
    right = (torch.arange(width, device=device) + 0.5 - width / 2)[None, None, :]
    # Source column and row of each pixel of the result, (B, H, W); rows count downwards.
    column = torch.floor(right * cosine - down * sine + width / 2).long()
    row = torch.floor(right * sine + down * cosine + height / 2).long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # (B, H, W)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    place = place[:, None].expand(-1, images.shape[1], -1)
    turned = images.flatten(2).gather(2, place).view(images.shape)
    return turned * inside[:, None].to(images.dtype)


def projection(start: Tensor, end: Tensor) -> Tensor:
    """Coefficients of the projective map from each `end` corner to its `start` corner.

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
    # If two corners coincide there is no exact solution; least squares gives the closest.
    solution: Tensor = torch.linalg.lstsq(equations, torch.cat((x, y), dim=1), driver="gelsd")[0]
    return solution[..., 0]


def perspective(images: Tensor, start: Tensor, end: Tensor, mode: str, fill: Tensor) -> Tensor:
    """Warps each image so that its four `start` corners move to `end`.

    Args:
        images: (B, C, H, W) float.
        start, end: (B, 4, 2) pixels as (x, y), counted from 0.
        mode: `bilinear` or `nearest`.
        fill: (C,), colour outside of the image.

    Returns:
        (B, C, H, W).

    Source: torchvision 0.28, `functional.perspective`: the projection of the corner coordinates is
        applied to pixel centres, which lie half a pixel further.
    """
    height, width = images.shape[-2:]
    a, b, c, d, e, f, g, h = (
        projection(start, end).to(images.device).float()[..., None, None].unbind(1)
    )
    x = torch.arange(width, device=images.device)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device)[None, :, None] + 0.5
    below = g * x + h * y + 1.0  # the denominator, (B, H, W)
    column, row = (a * x + b * y + c) / below, (d * x + e * y + f) / below
    grid = torch.stack((column / (0.5 * width) - 1.0, row / (0.5 * height) - 1.0), dim=-1)
    # On the horizon the denominator is 0: 2 lies outside of grid_sample's -1..1.
    grid = torch.nan_to_num(grid, nan=2.0, posinf=2.0, neginf=-2.0)
    # A channel of ones is warped along: it says where the result lies inside of the image.
    both = torch.cat((images, torch.ones_like(images[:, :1])), dim=1)
    moved = F.grid_sample(both, grid.to(images.dtype), mode, "zeros", align_corners=False)
    inside, moved = moved[:, -1:], moved[:, :-1]
    outside = fill.to(images).view(1, -1, 1, 1)
    if mode == "nearest":
        return torch.where(inside < 0.5, outside, moved)
    # At the border bilinear values are mixed with black already; only the rest is filled.
    return moved * inside + (1.0 - inside) * outside


def _grey(images: Tensor) -> Tensor:
    return convert_channels(images, 1)


def _column(factor: Tensor, images: Tensor) -> Tensor:
    return factor.to(images.device, images.dtype).view(-1, 1, 1, 1)

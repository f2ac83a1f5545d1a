"""Brightness, contrast and colour of whole batches, each image by its own factor, and rotation.

All take float images and give what Pillow's functions of the same names give, without its
rounding to 8 bit; results are clamped to 0..1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.ops.color import convert_channels


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Each image times its factor: 0 is black, 1 changes nothing.

    Args:
        images: (B, C, H, W) float in 0..1.
        factor: (B,), at least 0.

    Returns:
        (B, C, H, W), clamped to 0..1.

    Source: Pillow, ImageEnhance.Brightness.
    """
    return (images * _column(factor, images)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Each image's distance from its mean grey value times its factor: 0 is that grey everywhere.

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
    """Each pixel's distance from its own grey value times the image's factor: 0 is a grey image.

    Args:
        images: (B, C, H, W) float in 0..1; grey images come back as they are.
        factor: (B,), at least 0.

    Returns:
        (B, C, H, W), clamped to 0..1.

    Source: Pillow, ImageEnhance.Color.
    """
    if images.shape[1] == 1:
        return images
    return torch.lerp(_grey(images), images, _column(factor, images)).clamp(0, 1)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel's darkest pixel to 0 and its brightest to 1; a constant channel stays.

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
    """Each image turned counter-clockwise about its middle, nearest pixels, black coming in.

    Args:
        images: (B, C, H, W), any type.
        degrees: (B,) float.

    Returns:
        (B, C, H, W) of the same type; corners that turn out are lost.

    Source: Pillow, Image.rotate with NEAREST and without `expand`.
    """
    height, width = images.shape[-2:]
    device = images.device
    angle = torch.deg2rad(degrees.to(device, torch.float32))[:, None, None]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    down = (torch.arange(height, device=device) + 0.5 - height / 2)[None, :, None]
    right = (torch.arange(width, device=device) + 0.5 - width / 2)[None, None, :]
    # Where each pixel of the result comes from; rows count downwards.
    column = torch.floor(right * cosine - down * sine + width / 2).long()
    row = torch.floor(right * sine + down * cosine + height / 2).long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # (B, H, W)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    place = place[:, None].expand(-1, images.shape[1], -1)
    turned = images.flatten(2).gather(2, place).view(images.shape)
    return turned * inside[:, None].to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    return convert_channels(images, 1)


def _column(factor: Tensor, images: Tensor) -> Tensor:
    return factor.to(images.device, images.dtype).view(-1, 1, 1, 1)

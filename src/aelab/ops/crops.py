"""Crops, shifts and flips of whole batches, each image with its own draw.

All take a generator and none keeps one. Numbers are drawn on the generator's device: with a CPU
generator no GPU is waited for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aelab.errors import ShapeError


def crop_at(images: Tensor, tops: Tensor, lefts: Tensor, size: tuple[int, int]) -> Tensor:
    """One window of each image.

    Args:
        images: (B, C, H, W), any type.
        tops: (B,) int64, first row of each window.
        lefts: (B,) int64, first column.
        size: (height, width) of the windows.

    Returns:
        (B, C, height, width), a copy.
    """
    height, width = size
    # One indexed copy out of the view of all windows: 2 to 6 times quicker than a flat gather.
    windows = images.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, tops, lefts, height, width)
    batch = torch.arange(images.shape[0], device=images.device)
    tops, lefts = (place.to(images.device, non_blocking=True) for place in (tops, lefts))
    return windows[batch, :, tops, lefts]


def random_crop(images: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """A window at a random place of each image.

    Returns:
        (B, C, height, width).

    Raises:
        ShapeError: if the images are smaller than `size`.
    """
    room_down, room_right = images.shape[-2] - size[0], images.shape[-1] - size[1]
    if room_down < 0 or room_right < 0:
        raise ShapeError(
            f"cannot crop {size[0]}x{size[1]} out of {images.shape[-2]}x{images.shape[-1]} images",
            hint="crop a smaller window, or pad or resize before",
        )
    count = (images.shape[0],)
    device = generator.device
    tops = torch.randint(room_down + 1, count, generator=generator, device=device)
    lefts = torch.randint(room_right + 1, count, generator=generator, device=device)
    return crop_at(images, tops, lefts, size)


def random_shift(images: Tensor, pixels: int, generator: Generator) -> Tensor:
    """Each image moved by up to `pixels` in both directions; what comes in is black."""
    if pixels == 0:
        return images
    size = images.shape[-2], images.shape[-1]
    return random_crop(F.pad(images, (pixels,) * 4), size, generator)


def random_flip(images: Tensor, horizontal: float, vertical: float, generator: Generator) -> Tensor:
    """Each image mirrored left-right with probability `horizontal`, upside-down with `vertical`."""
    chances = torch.rand(2, images.shape[0], generator=generator, device=generator.device)
    images = _flip_where(images, chances[0] < horizontal, 3)
    return _flip_where(images, chances[1] < vertical, 2)


def center_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle (..., height, width) window; what lies outside small images is black."""
    height, width = size
    top, left = (images.shape[-2] - height) / 2, (images.shape[-1] - width) / 2
    if top < 0 or left < 0:
        down, right = max(0, height - images.shape[-2]), max(0, width - images.shape[-1])
        images = F.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
        return center_crop(images, size)
    # Rounded half to even, as torchvision's center_crop.
    row, column = round(top), round(left)
    return images[..., row : row + height, column : column + width]


def _flip_where(images: Tensor, mask: Tensor, axis: int) -> Tensor:
    if mask.device.type != "cpu":
        mask = mask.to(images.device)[:, None, None, None]
        return torch.where(mask, images.flip(axis), images)
    # On the CPU copying only the chosen ones is 18 times quicker than torch.where.
    chosen = mask.nonzero()[:, 0].to(images.device)
    flipped = images.index_select(0, chosen).flip(axis)
    return images.index_copy(0, chosen, flipped)

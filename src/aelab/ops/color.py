"""Conversion between grey, colour and transparent images."""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.errors import ShapeError

#: Weights of red, green and blue in grey (ITU-R BT.601), as in the documents' tool and torchvision.
LUMA = (0.2989, 0.587, 0.114)


def convert_channels(pixels: Tensor, channels: int) -> Tensor:
    """Images with another number of channels: 3 to 1 by luma, 1 to any number by repetition.

    Images with 4 channels (red, green, blue, alpha) are drawn on black.

    Args:
        pixels: (..., C, H, W), uint8 0..255 or float.
        channels: number of channels of the result.

    Returns:
        (..., channels, H, W) of the same dtype, a view where channels are repeated;
        uint8 is rounded to the nearest value.

    Raises:
        ShapeError: for any other pair of channel numbers, for instance 2 to 5.
    """
    given = pixels.shape[-3]
    if given == channels:
        return pixels
    if given == 1:
        # A view: no copy of the repeated channel.
        return pixels.expand(*pixels.shape[:-3], channels, *pixels.shape[-2:])
    if given == 4 and channels in (1, 3):
        return convert_channels(over_colour(pixels, (0, 0, 0)), channels)
    if given == 3 and channels == 1:
        red, green, blue = (pixels[..., i : i + 1, :, :] for i in range(3))
        whole = not pixels.is_floating_point()
        first = red.float() if whole else red
        grey = (first * LUMA[0]).add(green, alpha=LUMA[1]).add(blue, alpha=LUMA[2])
        return grey.round_().clamp_(0, 255).to(pixels.dtype) if whole else grey
    raise ShapeError(
        f"cannot turn {given} channels into {channels}",
        hint="possible: 3 -> 1 (luma), 1 -> any number (repeated), 4 -> 3 or 1 (on black), or the "
        "same number",
    )


def composite_on_black(pixels: Tensor) -> Tensor:
    """Colour times alpha: (..., 2 or 4, H, W) uint8, alpha last -> (..., 1 or 3, H, W) uint8."""
    if pixels.shape[-3] not in (2, 4):
        raise ShapeError(f"expected 2 or 4 channels (the last is alpha), got {pixels.shape[-3]}")
    colour = pixels[..., :-1, :, :].to(torch.int32)
    alpha = pixels[..., -1:, :, :].to(torch.int32)
    return ((colour * alpha + 127) // 255).to(torch.uint8)  # + 127: rounds to the nearest


#: Side of a square of the checkerboard behind transparent pixels, and its two greys of 0..255.
SQUARE, GREYS = 4, (102, 153)


def over_colour(pixels: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Draws images on a colour of 0..255: (..., 4, H, W) uint8 or float 0..1 -> (..., 3, H, W)."""
    behind = torch.tensor(colour, device=pixels.device).view(3, 1, 1)
    return _over(pixels, behind)


def over_checker(pixels: Tensor) -> Tensor:
    """Draws images on a checkerboard: (..., 4, H, W) uint8 or float 0..1 -> (..., 3, H, W)."""
    rows = torch.arange(pixels.shape[-2], device=pixels.device)[:, None] // SQUARE
    columns = torch.arange(pixels.shape[-1], device=pixels.device)[None] // SQUARE
    return _over(pixels, torch.where((rows + columns) % 2 == 0, *GREYS)[None])


def _over(pixels: Tensor, behind: Tensor) -> Tensor:
    colour, alpha = pixels[..., :3, :, :], pixels[..., 3:, :, :]
    if pixels.is_floating_point():
        return colour * alpha + behind.to(pixels.dtype) / 255 * (1 - alpha)
    colour, alpha = colour.to(torch.int32), alpha.to(torch.int32)
    mixed: Tensor = (colour * alpha + behind.to(torch.int32) * (255 - alpha) + 127) // 255
    return mixed.to(torch.uint8)

"""Choosing images by simple measures: brightness, contrast, and how well they compress."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from aelab.ops.color import convert_channels
from aelab.ops.resize import resize

Bounds = tuple[float | None, float | None]
_ANY: Bounds = (None, None)


@dataclass(frozen=True)
class ImageFilter:
    """A test of images; each measure has a minimum and a maximum, None for no bound.

    A ratio is the size as PNG divided by the size of the 8 bit pixels: detail makes it large.

    Args:
        mean: of all values, 0..1.
        std: of all values.
        channel_std: of every channel separately.
        ratio: of the image as it is.
        scaled_ratio: of the image at 16 x 16.
        blurred_ratio: after a Gaussian blur with sigma 10.
        blur_pixels: side of the blur's window, odd.
        also: a further condition: a function of one image that returns true or false.
    """

    mean: Bounds = _ANY
    std: Bounds = _ANY
    channel_std: Bounds = _ANY
    ratio: Bounds = _ANY
    scaled_ratio: Bounds = _ANY
    blurred_ratio: Bounds = _ANY
    blur_pixels: int = 11
    also: Callable[[Tensor], Any] | None = None

    def __call__(self, image: Tensor) -> bool:
        """Whether one float (C, H, W) image in 0..1 passes."""
        return bool(self.passes(image[None])[0])

    def passes(self, images: Tensor) -> Tensor:
        """(N,) bool for float (N, C, H, W) in 0..1; costly measures only where still needed."""
        good = _within(images.flatten(1).mean(1), self.mean)
        good &= _within(images.flatten(1).std(1), self.std)
        good &= _within(images.flatten(2).std(2), self.channel_std).all(1)
        # Compression is slow, so it runs only on images that pass the cheap tests above.
        measures: list[tuple[Bounds, Callable[[Tensor], Tensor]]] = [
            (self.blurred_ratio, lambda x: png_ratio(gaussian_blur(x, self.blur_pixels, 10.0))),
            (self.scaled_ratio, lambda x: png_ratio(resize(x, (16, 16)))),
            (self.ratio, png_ratio),
        ]
        if self.also is not None:
            also = self.also
            measures.append(
                ((0.5, None), lambda x: torch.tensor([float(bool(also(i))) for i in x]))
            )
        for bounds, measure in measures:
            rows = good.nonzero()[:, 0]
            if bounds != _ANY and len(rows):
                good[rows] = _within(measure(images[rows]), bounds)
        return good


def png_bytes(pixels: Tensor) -> bytes:
    """(C, H, W) uint8 as a PNG file; channel numbers other than 1 and 3 side by side in grey."""
    if pixels.shape[0] not in (1, 3):
        # (C, H, W) -> (H, C * W): PNG has no such number of channels.
        pixels = convert_channels(pixels.permute(1, 0, 2).flatten(1)[None], 1)
    array = pixels[0].numpy() if pixels.shape[0] == 1 else pixels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def png_ratio(images: Tensor) -> Tensor:
    """(N,) sizes as PNG divided by the sizes of the pixels, of float (N, C, H, W) in 0..1."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    sizes = [len(png_bytes(image)) / image.numel() for image in pixels]
    return torch.tensor(sizes)


def gaussian_blur(images: Tensor, side: int, sigma: float) -> Tensor:
    """(N, C, H, W) blurred by a window of `side` pixels; the border is mirrored."""
    # Reflection cannot pad by more than the image has.
    side = min(side, 2 * min(images.shape[-2:]) - 1)
    offsets = torch.arange(side, dtype=images.dtype, device=images.device) - (side - 1) / 2
    # (side,): the Gaussian is separable, one kernel serves both axes.
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    # (N * C, 1, H, W): each channel is blurred alone. Rows, then columns: 2 k in place of k^2
    # products.
    planes = F.pad(images.flatten(0, 1)[:, None], (side // 2,) * 4, mode="reflect")
    planes = F.conv2d(planes, weights.view(1, 1, 1, -1))
    return F.conv2d(planes, weights.view(1, 1, -1, 1)).view(images.shape)


def _within(values: Tensor, bounds: Bounds) -> Tensor:
    least, most = bounds
    good = torch.ones_like(values, dtype=torch.bool)
    if least is not None:
        good &= values >= least
    return good if most is None else good & (values <= most)

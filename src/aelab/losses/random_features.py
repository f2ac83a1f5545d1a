"""A perceptual distance from random convolutions, without weights to download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.losses.histograms import images
from aelab.losses.reconstruction import per_image


def random_features(
    reconstruction: Tensor,
    target: Tensor,
    widths: Sequence[int] = (16, 32, 32),
    kernel_size: int = 3,
    seed: int = 0,
) -> Tensor:
    """Mean absolute difference of the features of a fixed random network, over all layers.

    Each layer is a convolution with orthonormal filters (if there are enough dimensions), scaled to
    keep the variance, then GELU, then halving of the image. Filters depend only on the seed, not on
    the device.

    Args:
        reconstruction, target: (B, C, H, W); any C and size.
        widths: channels of the layers.
        kernel_size: odd.
        seed: of the filters.

    Returns:
        (B,), at least 0: the mean over layers of the mean over channels and places.

    Raises:
        ConfigError: no layer, an even kernel.
        ShapeError: the shapes differ, or are not those of images.

    Source: the documents' "random 3-layer conv with GELU" as perceptual model; He, Wang & Hopcroft
        2016, arXiv:1606.04801, on random weights; Saxe et al. 2014, arXiv:1312.6120, section 3, for
        orthogonal ones.
    """
    images(reconstruction, target)
    if not widths or any(width < 1 for width in widths) or kernel_size % 2 == 0:
        raise ConfigError(
            f"random_features needs layers and an odd kernel, not {widths!r} and {kernel_size!r}"
        )
    filters = _filters(
        target.shape[1], tuple(widths), kernel_size, seed, target.device, target.dtype
    )
    # Centred at 0, so that the zero padding is grey and not black.
    maps = torch.cat([reconstruction, target]) - 0.5  # (2 B, C, H, W): one pass for both
    total = target.new_zeros(len(target))
    for layer, weight in enumerate(filters):
        if layer and min(maps.shape[2:]) > 1:
            maps = F.avg_pool2d(maps, 2)
        maps = F.gelu(F.conv2d(maps, weight, padding=kernel_size // 2))
        ours, wanted = maps[: len(target)], maps[len(target) :]
        total = total + per_image((ours - wanted).abs())
    return total / len(filters)


@lru_cache(maxsize=32)
def _filters(
    channels: int,
    widths: tuple[int, ...],
    kernel: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """The filters of each layer, (width, channels before, kernel, kernel)."""
    # NumPy's generator: the same numbers everywhere, and allowed inside of torch.vmap.
    generator = np.random.default_rng(seed)
    found = []
    for width in widths:
        fan_in = channels * kernel * kernel
        drawn = generator.standard_normal((max(width, fan_in), min(width, fan_in)))
        orthonormal, triangle = np.linalg.qr(drawn)
        # QR is unique only up to signs: fixing them makes machines agree.
        orthonormal = orthonormal * np.sign(triangle.diagonal())
        rows = orthonormal.T if width <= fan_in else orthonormal
        # GELU roughly halves the variance of centred values: sqrt(2) restores the scale.
        gain = 2**0.5 * max(1.0, width / fan_in) ** 0.5
        weight = torch.from_numpy(gain * rows.reshape(width, channels, kernel, kernel))
        found.append(weight.to(device=device, dtype=dtype))
        channels = width
    return tuple(found)

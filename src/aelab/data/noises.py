"""Noises for denoising: random changes of the input, written `VT.SaltAndPepper(0.1)`.

As `input_transforms` they change what the model sees, and not what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aelab.data.transforms import RandomTransform
from aelab.errors import DataError


@dataclass(frozen=True)
class MaskingNoise(RandomTransform):
    """Sets squares of pixels, in all channels, to one value, each with probability `share`.

    Args:
        share: 0..1.
        block: side of a square in pixels; 1: each pixel by itself.
        fill: the value.

    Source: Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3.
    """

    share: float = 0.25
    block: int = 1
    fill: float = 0.0

    def __post_init__(self) -> None:
        _share("MaskingNoise", self.share)
        if self.block < 1:
            raise DataError(f"MaskingNoise: block is {self.block}; possible: 1, 2.. pixels")

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same shape, each image with its own squares."""
        count, _, height, width = images.shape
        cells = (count, 1, -(-height // self.block), -(-width // self.block))
        hidden = _rand(cells, generator, images) < self.share
        if self.block > 1:
            hidden = hidden.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        return images.masked_fill(hidden[..., :height, :width], self.fill)


@dataclass(frozen=True)
class SaltAndPepper(RandomTransform):
    """Makes each pixel, in all channels, black or white with probability `share`, half of each.

    Source: Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3.
    """

    share: float = 0.1
    of_unit_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _share("SaltAndPepper", self.share)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1."""
        # One number for both: below share / 2 black, then white up to share.
        drawn = _rand((len(images), 1, *images.shape[2:]), generator, images)
        pepper = images.masked_fill(drawn < self.share, 1.0)
        return pepper.masked_fill(drawn < self.share / 2, 0.0)


@dataclass(frozen=True)
class SpeckleNoise(RandomTransform):
    """Multiplies each value by 1 + std times a normal number and clamps to 0..1."""

    std: float = 0.2
    of_unit_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive("SpeckleNoise", "std", self.std)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1."""
        noise = torch.randn(images.shape, generator=generator, device=generator.device)
        return (images * (1 + self.std * noise.to(images.device))).clamp(0.0, 1.0)


@dataclass(frozen=True)
class ShotNoise(RandomTransform):
    """Counts photons: each value v becomes a Poisson number of mean `photons` v, / `photons`.

    Clamped to 0..1. Fewer photons are more noise: the deviation is sqrt(v / photons).
    """

    photons: float = 30.0
    of_unit_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive("ShotNoise", "photons", self.photons)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1."""
        rates = (images.clamp(0.0, 1.0) * self.photons).to(generator.device)
        drawn = torch.poisson(rates, generator=generator)
        return (drawn / self.photons).clamp(0.0, 1.0).to(images.device)


@dataclass(frozen=True)
class RandomBlur(RandomTransform):
    """Blurs each image with a Gaussian of its own width; borders are mirrored.

    Args:
        sigma: standard deviation in pixels: one number, or (least, greatest), drawn uniformly.
    """

    sigma: float | Sequence[float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        self._bounds()

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape."""
        low, high = self._bounds()
        count, channels, height, width = images.shape
        sigmas = (low + (high - low) * _rand((count,), generator, images))[:, None]  # (B, 1)
        # Three deviations hold 99.7 % of a Gaussian; a mirrored border is below the size.
        reach = min(max(1, round(3 * high)), height - 1, width - 1)
        if reach < 1:
            return images
        places = torch.arange(-reach, reach + 1, device=images.device)
        kernel = torch.exp(-0.5 * (places / sigmas).square())
        kernel = kernel / kernel.sum(1, keepdim=True)  # (B, 2 reach + 1)
        # The images of a batch are channels with kernels of their own; rows, then columns.
        each = kernel.repeat_interleave(channels, 0)[:, None].to(images.dtype)
        flat = F.pad(images.reshape(1, -1, height, width), (reach,) * 4, mode="reflect")
        rows = F.conv2d(flat, each[..., None], groups=count * channels)
        return F.conv2d(rows, each[:, :, None], groups=count * channels).reshape(images.shape)

    def _bounds(self) -> tuple[float, float]:
        given = (self.sigma, self.sigma) if isinstance(self.sigma, int | float) else self.sigma
        if len(given) != 2 or not 0 < given[0] <= given[1]:
            raise DataError(
                f"RandomBlur: sigma is a positive number or a pair (least, greatest), "
                f"got {self.sigma!r}",
                hint="for instance 1.0, or (0.5, 1.5)",
            )
        return float(given[0]), float(given[1])


def _rand(shape: Sequence[int], generator: Generator, images: Tensor) -> Tensor:
    """Uniform numbers of the generator, on the device of the images."""
    drawn = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return drawn.to(images.device)


def _share(owner: str, value: float) -> None:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise DataError(f"{owner}: share is {value!r}; possible: 0 to 1")


def _positive(owner: str, name: str, value: float) -> None:
    if isinstance(value, bool) or value <= 0:
        raise DataError(f"{owner}: {name} is {value!r}; it must be above 0")


#: Names of noises after `VT.`, beside those of `torchvision.transforms`.
NOISES: dict[str, Callable[..., RandomTransform]] = {
    "MaskingNoise": MaskingNoise,
    "RandomBlur": RandomBlur,
    "SaltAndPepper": SaltAndPepper,
    "ShotNoise": ShotNoise,
    "SpeckleNoise": SpeckleNoise,
}

"""Random rotation, auto-contrast and colour jitter under torchvision's names, whole batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from aelab.data.change import RandomTransform
from aelab.errors import DataError
from aelab.ops.perspective import perspective
from aelab.ops.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    autocontrast,
    rotate,
)
from aelab.ops.resize import filter_name


@dataclass(frozen=True)
class RandomRotation(RandomTransform):
    """Turned by an angle drawn evenly from -degrees..degrees, or from a pair (low, high).

    Nearest pixels, the corners that come in are black, what turns out is lost.
    """

    degrees: float | Sequence[float]

    def __post_init__(self) -> None:
        _interval(self.degrees, "RandomRotation: degrees", centre=0.0)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same shape, each image turned by its own angle."""
        low, high = _interval(self.degrees, "RandomRotation: degrees", centre=0.0)
        return rotate(images, _uniform(len(images), low, high, generator))


@dataclass(frozen=True)
class RandomPerspective(RandomTransform):
    """With probability p seen at a slant: each corner moved inwards by a draw of its own.

    Args:
        distortion_scale: 0..1; a corner moves by up to this share of half the width and height.
        p: probability of an image to be changed.
        interpolation: `bilinear` or `nearest`.
        fill: what comes in from outside, a number or one a channel.

    Source: torchvision 0.28, `transforms.RandomPerspective`.
    """

    distortion_scale: float = 0.5
    p: float = 0.5
    interpolation: bool | str = "bilinear"
    fill: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        for name, value in (("distortion_scale", self.distortion_scale), ("p", self.p)):
            if isinstance(value, bool) or not 0.0 <= value <= 1.0:
                raise DataError(f"RandomPerspective: {name} must be in 0..1, not {value!r}")
        if filter_name(self.interpolation) not in ("bilinear", "nearest"):
            raise DataError(
                f"RandomPerspective: interpolation must be 'bilinear' or 'nearest', "
                f"not {self.interpolation!r}"
            )

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, each image with corners of its own, or as it is."""
        count, channels, height, width = images.shape
        fill = torch.tensor(self.fill, dtype=torch.float32).reshape(-1)
        if len(fill) not in (1, channels):
            raise DataError(
                f"RandomPerspective: fill has {len(fill)} numbers for {channels} channels"
            )
        sizes = torch.tensor([width, height])
        reach = (self.distortion_scale * (sizes // 2)).long()
        draws = torch.rand(count, 9, generator=generator, device=generator.device).cpu()
        # Whole pixels 0 .. reach, as torchvision draws them.
        inwards = (draws[:, :8].view(count, 4, 2) * (reach + 1)).long().minimum(reach)
        start = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]]) * (sizes - 1)
        end = torch.where(start > 0, start - inwards, inwards)
        mode = filter_name(self.interpolation)
        moved = perspective(images, start.expand_as(end), end, mode, fill.expand(channels))
        chosen = (draws[:, 8] < self.p).to(images.device).view(-1, 1, 1, 1)
        return torch.where(chosen, moved, images)


@dataclass(frozen=True)
class RandomAutocontrast(RandomTransform):
    """With probability p each channel's darkest pixel becomes 0 and its brightest 1."""

    p: float = 0.5
    of_unit_images: ClassVar[bool] = True

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1, each image changed or not."""
        chosen = _uniform(len(images), 0.0, 1.0, generator) < self.p
        chosen = chosen.to(images.device).view(-1, 1, 1, 1)
        return torch.where(chosen, autocontrast(images), images)


@dataclass(frozen=True)
class ColorJitter(RandomTransform):
    """Brightness, contrast and saturation of each image changed by factors, in a random order.

    A number s draws the factor evenly from max(0, 1 - s) .. 1 + s, a pair (low, high) from there;
    0 leaves it. Saturation has no effect on grey images.
    """

    brightness: float | Sequence[float] = 0.0
    contrast: float | Sequence[float] = 0.0
    saturation: float | Sequence[float] = 0.0
    of_unit_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in _ADJUSTMENTS:
            self._factors(name)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1, each image with its own factors."""
        # Everything is drawn whether it is used or not, so that other settings change no draw.
        count = len(images)
        device = generator.device
        order = torch.rand(count, 3, generator=generator, device=device).argsort(1)
        factors = [_uniform(count, *self._factors(name), generator) for name in _ADJUSTMENTS]
        used = [number for number, name in enumerate(_ADJUSTMENTS) if self._is_used(name, images)]
        if len(used) == 1:
            return list(_ADJUSTMENTS.values())[used[0]](images, factors[used[0]])
        for place in range(3 if used else 0):
            turn = order[:, place].to(images.device).view(-1, 1, 1, 1)
            before = images
            for number in used:
                adjusted = list(_ADJUSTMENTS.values())[number](before, factors[number])
                images = torch.where(turn == number, adjusted, images)
        return images

    def _is_used(self, name: str, images: Tensor) -> bool:
        grey = name == "saturation" and images.shape[1] == 1
        return self._factors(name) != (1.0, 1.0) and not grey

    def _factors(self, name: str) -> tuple[float, float]:
        return _interval(getattr(self, name), f"ColorJitter: {name}", centre=1.0, least=0.0)


_ADJUSTMENTS = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
}


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """(count,) float32 drawn evenly, on the generator's device."""
    values = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * values


def _interval(
    value: float | Sequence[float], what: str, centre: float, least: float = -math.inf
) -> tuple[float, float]:
    """(low, high) from one number, the distance to both sides of `centre`, or from a pair.

    Raises:
        DataError: neither, or in the wrong order; `what` is named.
    """
    try:
        if isinstance(value, (int, float)):
            low, high = max(least, centre - value), centre + value
        else:
            low, high = map(float, value)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not least <= low <= high:
        raise DataError(
            f"{what} is a number from 0 up or a pair (low, high), got {value!r}",
            hint="for instance 0.5, or (0.5, 1.5)",
        )
    return float(low), float(high)

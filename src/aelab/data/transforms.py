"""The transforms that old files name (`VT.RandomCrop`, ...), as batched operations of the lab.

A transform can be called with one image (C, H, W), as torchvision's are. A data set recognises the
lab's own transforms and changes whole batches: `batch` for deterministic ones, `augment` for random
ones, which then follow the seed of the run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aelab.errors import DataError
from aelab.ops.color import convert_channels
from aelab.ops.crops import center_crop, random_crop, random_flip
from aelab.ops.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    autocontrast,
    perspective,
    rotate,
)
from aelab.ops.resize import filter_name, resize
from aelab.ops.value_range import affine
from aelab.types import ValueRange


class Transform(ABC):
    """A deterministic change of images."""

    @abstractmethod
    def batch(self, images: Tensor) -> Tensor:
        """Changes a batch (B, C, H, W)."""

    def range_after(self, value_range: ValueRange) -> ValueRange:
        """The values of black and white after the change; unchanged by default."""
        return value_range

    def __call__(self, image: Tensor) -> Tensor:
        return self.batch(image[None])[0]


class RandomTransform(ABC):
    """A random change; called with one image, it draws from torch's default generator.

    Attributes:
        of_unit_images: it expects images in 0..1 and returns images in 0..1.
    """

    of_unit_images: ClassVar[bool] = False

    @abstractmethod
    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """Changes a batch (B, C, H, W), each image with its own draw."""

    def __call__(self, image: Tensor) -> Tensor:
        return self.augment(image[None], torch.default_generator)[0]


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cuts the middle window; black where the image is smaller."""

    size: int | tuple[int, int]
    any_medium: ClassVar[bool] = True

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, *size)."""
        return center_crop(images, _pair(self.size))


@dataclass(frozen=True)
class Pad(Transform):
    """Adds a border: one width, (left-right, top-bottom), or (left, top, right, bottom)."""

    padding: int | Sequence[int]
    fill: float = 0.0

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the same with a border around it."""
        left, top, right, bottom = _borders(self.padding)
        return F.pad(images, (left, right, top, bottom), value=self.fill)


@dataclass(frozen=True)
class Resize(Transform):
    """Resizes; one number sets the shorter side and keeps the aspect ratio."""

    size: int | Sequence[int]
    interpolation: bool | str = "bilinear"
    max_size: int | None = None
    antialias: bool = True

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W'); a single size sets the shorter side."""
        height, width = images.shape[-2:]
        size = (self.size,) if isinstance(self.size, int) else tuple(self.size)
        if len(size) == 1:
            factor = size[0] / min(height, width)
            if self.max_size is not None:
                factor = min(factor, self.max_size / max(height, width))
            size = (int(height * factor), int(width * factor))
        return resize(images, (size[0], size[1]), filter_name(self.interpolation), self.antialias)


@dataclass(frozen=True)
class Grayscale(Transform):
    """Converts colour images to luma, repeated if several channels are wanted."""

    num_output_channels: int = 1

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_output_channels, H, W)."""
        grey = convert_channels(images, 1)
        return convert_channels(grey, self.num_output_channels)


@dataclass(frozen=True)
class Normalize(Transform):
    """Computes (image - mean) / std for each channel."""

    mean: Sequence[float]
    std: Sequence[float]

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float -> the same shape, (images - mean) / std for each channel."""
        # (C, 1, 1), or (1, 1, 1) for one number.
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def range_after(self, value_range: ValueRange) -> ValueRange:
        """Black and white after the same normalisation."""
        mean, std = ([v] if isinstance(v, (int, float)) else [*v] for v in (self.mean, self.std))
        return affine(value_range, mean, std)


@dataclass(frozen=True)
class ToTensor(Transform):
    """Converts uint8 to float in 0..1; items are tensors already."""

    any_medium: ClassVar[bool] = True

    def batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float32 in 0..1; float images are unchanged."""
        return images.float() / 255.0 if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class RandomCrop(RandomTransform):
    """Cuts a window at a random place, after adding an optional black border."""

    size: int | tuple[int, int]
    padding: int | Sequence[int] | None = None
    any_medium: ClassVar[bool] = True

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> (B, C, *size), each image from its own place."""
        if self.padding is not None:
            images = Pad(self.padding).batch(images)
        return random_crop(images, _pair(self.size), generator)


@dataclass(frozen=True)
class RandomHorizontalFlip(RandomTransform):
    """Flips left-right with probability p."""

    p: float = 0.5

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same shape, each image flipped or not."""
        return random_flip(images, self.p, 0.0, generator)


@dataclass(frozen=True)
class RandomVerticalFlip(RandomTransform):
    """Flips top-bottom with probability p."""

    p: float = 0.5

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same shape, each image flipped top-bottom or not."""
        return random_flip(images, 0.0, self.p, generator)


@dataclass(frozen=True)
class AddNoise(RandomTransform):
    """Adds normal noise and clamps to 0..1."""

    std: float = 0.1
    of_unit_images: ClassVar[bool] = True

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1."""
        shape, device = images.shape, generator.device
        noise = torch.randn(shape, generator=generator, device=device).to(images.device)
        return (images + self.std * noise).clamp(0.0, 1.0)


@dataclass(frozen=True)
class RandomRotation(RandomTransform):
    """Rotates by an angle drawn uniformly from -degrees..degrees, or from a pair (low, high).

    Uses nearest pixels. Uncovered corners are black; parts outside the image are lost.
    """

    degrees: float | Sequence[float]

    def __post_init__(self) -> None:
        _interval(self.degrees, "RandomRotation: degrees", centre=0.0)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) -> the same shape, each image rotated by its own angle."""
        low, high = _interval(self.degrees, "RandomRotation: degrees", centre=0.0)
        return rotate(images, _uniform(len(images), low, high, generator))


@dataclass(frozen=True)
class RandomPerspective(RandomTransform):
    """With probability p applies a perspective: each corner moves inwards by its own draw.

    Args:
        distortion_scale: 0..1; a corner moves by up to this share of half the width and height.
        p: probability that an image is changed.
        interpolation: `bilinear` or `nearest`.
        fill: value of uncovered pixels: one number, or one for each channel.

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
        """(B, C, H, W) float -> the same shape, each image with its own corners, or unchanged."""
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
        # (count, 4, 2): x and y of four corners. `minimum` because rand * (n + 1) may round up to n
        # + 1.
        inwards = (draws[:, :8].view(count, 4, 2) * (reach + 1)).long().minimum(reach)
        # Corners (x, y) clockwise from the top left: (4, 2), against (count, 4, 2) of the moved
        # ones.
        start = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]]) * (sizes - 1)
        end = torch.where(start > 0, start - inwards, inwards)
        mode = filter_name(self.interpolation)
        moved = perspective(images, start.expand_as(end), end, mode, fill.expand(channels))
        chosen = (draws[:, 8] < self.p).to(images.device).view(-1, 1, 1, 1)
        # Computed for all images and chosen here: cheaper than selecting rows on a GPU.
        return torch.where(chosen, moved, images)


@dataclass(frozen=True)
class RandomAutocontrast(RandomTransform):
    """With probability p stretches each channel so that its darkest pixel is 0, its brightest 1."""

    p: float = 0.5
    of_unit_images: ClassVar[bool] = True

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) float -> the same shape, in 0..1, each image changed or not."""
        chosen = _uniform(len(images), 0.0, 1.0, generator) < self.p
        chosen = chosen.to(images.device).view(-1, 1, 1, 1)
        return torch.where(chosen, autocontrast(images), images)


@dataclass(frozen=True)
class ColorJitter(RandomTransform):
    """Changes brightness, contrast and saturation of each image by factors, in a random order.

    A number s draws the factor uniformly from max(0, 1 - s) .. 1 + s, a pair from (low, high); 0
    turns the change off. Saturation has no effect on grey images.
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
        # All factors are drawn, used or not, so that a changed setting does not change other draws.
        count = len(images)
        device = generator.device
        order = torch.rand(count, 3, generator=generator, device=device).argsort(1)
        factors = [_uniform(count, *self._factors(name), generator) for name in _ADJUSTMENTS]
        used = [number for number, name in enumerate(_ADJUSTMENTS) if self._is_used(name, images)]
        if len(used) == 1:
            return list(_ADJUSTMENTS.values())[used[0]](images, factors[used[0]])
        # Each image has its own order: at each place every adjustment is made for all and chosen by
        # `where`.
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


@dataclass(frozen=True)
class RandomAugment:
    """Adapts a random transform to an augmentation of batches."""

    transform: RandomTransform

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return self.transform.augment(images, generator)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape after the transform, tried on a black image."""
        generator = torch.Generator()
        return tuple(self.transform.augment(torch.zeros(1, *shape), generator).shape[1:])


class Compose:
    """Applies transforms one after the other; `flat_transforms` replaces it by its steps.

    It is no sequence, so blocks cannot read its steps.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self._steps = tuple(flat_transforms(transforms))

    def __call__(self, image: Any) -> Any:
        for transform in self._steps:
            image = transform(image)
        return image


def Lambda(lambd: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function unchanged, as torchvision's `Lambda` is written in old files."""
    return lambd


def flat_transforms(
    transforms: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None,
) -> list[Callable[[Any], Any]]:
    """A flat list of transforms, with nested lists and `Compose` replaced by their entries.

    Raises:
        DataError: an entry cannot be called.
    """
    if transforms is None:
        return []
    if isinstance(transforms, Compose):
        return list(transforms._steps)
    if not isinstance(transforms, (list, tuple)):
        if not callable(transforms):
            raise DataError(
                f"a transform is a function of one image, got {transforms!r}",
                hint="for instance transforms=[lambda x: 1. - x]",
            )
        return [transforms]
    return [single for part in transforms for single in flat_transforms(part)]


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    values = (size, size) if isinstance(size, int) else tuple(size)
    return (int(values[0]), int(values[-1]))


def _borders(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    values = (padding,) if isinstance(padding, int) else tuple(padding)
    if len(values) not in (1, 2, 4):
        raise DataError(f"padding is one, two or four numbers, got {padding!r}")
    left, top, right, bottom = (values * 4)[:4]
    return left, top, right, bottom


_ADJUSTMENTS = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
}


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """(count,) float32 drawn uniformly, on the generator's device."""
    values = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * values


def _interval(
    value: float | Sequence[float], what: str, centre: float, least: float = -math.inf
) -> tuple[float, float]:
    """(low, high) from one number, the distance to both sides of `centre`, or from a pair.

    Raises:
        DataError: neither, or in the wrong order; the message names `what`.
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


#: Names of `torchvision.transforms` that files may use.
TORCHVISION_TRANSFORMS: dict[str, Callable[..., Any]] = {
    "AddNoise": AddNoise,
    "CenterCrop": CenterCrop,
    "ColorJitter": ColorJitter,
    "Compose": Compose,
    "Grayscale": Grayscale,
    "Lambda": Lambda,
    "Normalize": Normalize,
    "Pad": Pad,
    "RandomAutocontrast": RandomAutocontrast,
    "RandomCrop": RandomCrop,
    "RandomHorizontalFlip": RandomHorizontalFlip,
    "RandomPerspective": RandomPerspective,
    "RandomRotation": RandomRotation,
    "RandomVerticalFlip": RandomVerticalFlip,
    "Resize": Resize,
    "ToTensor": ToTensor,
}

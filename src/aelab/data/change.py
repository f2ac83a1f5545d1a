"""What a transform is: a change of images that draws nothing, or a random one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Generator, Tensor

from aelab.types import ValueRange


class Transform(ABC):
    """A change of images that draws nothing."""

    @abstractmethod
    def batch(self, images: Tensor) -> Tensor:
        """All of (B, C, H, W)."""

    def range_after(self, value_range: ValueRange) -> ValueRange:
        """What black and white are after the change; as before unless it says otherwise."""
        return value_range

    def __call__(self, image: Tensor) -> Tensor:
        return self.batch(image[None])[0]


class RandomTransform(ABC):
    """A random change; called with one image it draws from torch's default generator.

    Attributes:
        of_unit_images: it takes images for 0..1, and what it gives is 0..1.
    """

    of_unit_images: ClassVar[bool] = False

    @abstractmethod
    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """All of (B, C, H, W), each image with its own draw."""

    def __call__(self, image: Tensor) -> Tensor:
        return self.augment(image[None], torch.default_generator)[0]

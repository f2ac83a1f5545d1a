"""Mirrors ASCII pictures: each character is replaced by its mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from aelab.ascii.glyphs.text import mirrored_numbers


@dataclass(frozen=True)
class RandomMirror:
    """Mirrors ASCII pictures left to right with a probability, `/` becoming `\\` and so on."""

    probability: float = 0.5
    moves_only: ClassVar[bool] = True
    any_medium: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, 1, H, W) character numbers, uint8 or float number / 255 -> the same type."""
        drawn = torch.rand(len(images), generator=generator, device=generator.device)
        chosen = (drawn < self.probability).to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], mirrored(images), images)


def mirrored(images: Tensor) -> Tensor:
    """Mirrors (B, 1, H, W) ASCII pictures left to right, uint8 or float number / 255.

    Characters without a mirror image in the alphabet are unchanged.
    """
    table = mirrored_numbers().to(images.device)
    turned = images.flip(3)
    if images.is_floating_point():
        return (table[(turned * 255).round().long()].float() / 255).to(images.dtype)
    return table[turned.long()]

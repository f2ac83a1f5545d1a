"""Random changes of ASCII pictures that keep each character whole: rolling and mirroring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from aelab.errors import ConfigError
from aelab.glyphs.text import mirrored_numbers

Draws = Literal["uniform", "normal"]


@dataclass(frozen=True)
class RandomRoll:
    """Rolls each image over rows and columns by its own draw; what leaves comes in opposite.

    `uniform` draws each whole number up to the greatest shift equally often. `normal` draws as the
    document's `RandomRoll` does: a normal number of deviation `sigma`, or half the greatest shift,
    truncated toward zero and clamped. The input stays as it is (the original wrote into it).

    Source: the document's `RandomRoll`, (20, 7) at commit cb2c7dd, (15, 5) at e49ec1d, (5, 5) at
    fee8ca6.
    """

    rows: int
    columns: int
    sigma: float | None = None
    draws: Draws = "uniform"
    moves_only: ClassVar[bool] = True
    keeps_characters: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) of any type -> the same layout, a copy."""
        shifts = self.shifts(len(images), generator)
        for axis, shift in zip((2, 3), shifts, strict=True):
            size = images.shape[axis]
            place = (torch.arange(size, device=shift.device) - shift[:, None]) % size
            place = place.to(images.device, non_blocking=True)
            place = place[:, None, :, None] if axis == 2 else place[:, None, None, :]
            images = images.gather(axis, place.expand(images.shape))
        return images

    def shifts(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Down and to the right, (count,) int64 each, on the generator's device."""
        down, right = (self._drawn(most, count, generator) for most in (self.rows, self.columns))
        return down, right

    def _drawn(self, most: int, count: int, generator: Generator) -> Tensor:
        device = generator.device
        if self.draws == "uniform":
            return torch.randint(-most, most + 1, (count,), generator=generator, device=device)
        deviation = most / 2 if self.sigma is None else self.sigma
        drawn = torch.randn(count, generator=generator, device=device) * deviation
        return drawn.trunc().long().clamp(-most, most)


@dataclass(frozen=True)
class RandomMirror:
    """Mirrors ASCII pictures left to right with a probability, `/` becoming `\\` and so on."""

    probability: float = 0.5
    moves_only: ClassVar[bool] = True
    keeps_characters: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, 1, H, W) character numbers, uint8 or float number / 255 -> the same type."""
        drawn = torch.rand(len(images), generator=generator, device=generator.device)
        chosen = (drawn < self.probability).to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], mirrored(images), images)


def mirrored(images: Tensor) -> Tensor:
    """(B, 1, H, W) ASCII pictures, uint8 or float number / 255, left to right.

    Characters that have no mirror image among the others stay as they are.
    """
    table = mirrored_numbers().to(images.device)
    turned = images.flip(3)
    if images.is_floating_point():
        return (table[(turned * 255).round().long()].float() / 255).to(images.dtype)
    return table[turned.long()]


def roll(rows: int, columns: int, sigma: float | None, draws: Draws) -> RandomRoll:
    """A checked `RandomRoll`.

    Raises:
        ConfigError: an argument out of its range.
    """
    for value, name in ((rows, "rows"), (columns, "columns")):
        if isinstance(value, bool) or int(value) != value or value < 0:
            raise ConfigError(
                f"roll: {name} is the greatest shift, a whole number from 0, got {value!r}"
            )
    if draws not in ("uniform", "normal"):
        raise ConfigError(f"roll: draws is 'uniform' or 'normal', got {draws!r}")
    if sigma is not None and (draws != "normal" or sigma <= 0):
        raise ConfigError(
            f"roll: sigma is a positive deviation of normal draws, got {sigma!r} with {draws!r}",
            hint='write .roll(5, 5, sigma=2.5, draws="normal")',
        )
    return RandomRoll(int(rows), int(columns), sigma, draws)

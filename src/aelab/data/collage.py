"""Collages: larger pictures made of small ones, drawn anew each time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aelab.data.base import Change, Description, RandomChange
from aelab.errors import DataError, ShapeError
from aelab.ops.crops import random_flip

#: From the documents: probability of each pasted patch to be flipped left-right, and top-bottom.
FLIP = 0.3


@dataclass(frozen=True)
class Collage(RandomChange):
    """Enlarges each image and pastes its neighbours in the batch on it.

    A batch is divided into groups of `num_combine` images; the last group may be smaller. Each
    image of a group becomes a background, enlarged by `nearest` or `bicubic` with equal chance.
    The others are pasted on it in random order, flipped or not, at random places that leave at
    least the last row and column free.

    Args:
        size: (height, width) of the result, both larger than the images; or a whole (C, H, W).
        num_combine: images in a group.
        black_is_alpha: black pixels of a pasted image are transparent.
    """

    size: tuple[int, ...]
    num_combine: int = 4
    black_is_alpha: bool = True
    of_unit_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_combine < 1:
            raise DataError(f"num_combine is a whole number from 1 up, got {self.num_combine!r}")
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise ShapeError(f"a size is (height, width) or a whole shape, got {tuple(self.size)}")

    def settled(self, before: Description) -> Change | None:
        """The same change with `size` reduced to (height, width).

        Raises:
            ShapeError: the images of the set are not smaller, or have other channels.
            ConfigError: the medium of the set does not allow it.
        """
        channels = before.item_shape()[0]
        if len(self.size) == 3 and self.size[0] != channels:
            raise ShapeError(
                f"the images have {channels} channels, the collage {self.size[0]}",
                hint="write the wanted channels into the shape of the images",
            )
        height, width = self.size[-2:]
        size = (int(height), int(width))
        change = Collage(size, int(self.num_combine), bool(self.black_is_alpha))
        change.shape_after(before.item_shape())
        return super(Collage, change).settled(before)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, h, w) float 0..1 -> (B, C, *size)."""
        self.shape_after(tuple(images.shape[1:]))
        canvas = self._backgrounds(images, generator)
        for source, used in zip(*self._sources(len(images), generator), strict=True):
            self._paste(canvas, images, source, used, generator)
        return canvas

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, h, w) -> (C, *size).

        Raises:
            ShapeError: if the images are not smaller than the collage.
        """
        if shape[-2] >= self.size[0] or shape[-1] >= self.size[1]:
            raise ShapeError(
                f"a collage of {self.size[0]}x{self.size[1]} needs smaller images to paste, "
                f"not {shape[-2]}x{shape[-1]}",
                hint="make the images smaller: .resize((C, H, W)), or ask for a larger collage",
            )
        return (*shape[:-2], *self.size)

    def _backgrounds(self, images: Tensor, generator: Generator) -> Tensor:
        images = images.float() / 255.0 if images.dtype == torch.uint8 else images
        drawn = torch.rand(len(images), generator=generator, device=generator.device)
        which = (drawn < 0.5).long().to(images.device, non_blocking=True)
        # Both ways of enlarging are a matrix for each axis: half the time of computing both.
        # down: (B, 1, H, h), right: (B, 1, W, w); `which` picks bicubic or nearest for each image.
        down, right = (
            _enlarging(inner, outer).to(images.device)[which, None]
            for inner, outer in zip(images.shape[2:], self.size, strict=True)
        )
        # (B, C, h, w) -> (B, C, H, W); clamped because bicubic overshoots.
        return (down @ images @ right.transpose(-1, -2)).clamp_(0.0, 1.0)

    def _sources(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws which image is pasted on each image in each round, and whether one is.

        Returns:
            (num_combine - 1, count) int64, and bool of the same shape.
        """
        device = generator.device
        own = torch.arange(count, device=device)
        place, places = own % self.num_combine, torch.arange(self.num_combine, device=device)
        first = own - place
        # Sorting random numbers gives each image its own random order of its group.
        drawn = torch.rand(count, self.num_combine, generator=generator, device=device)
        # 2.0 is above every draw, so these places come last and are recognised below.
        # An image is not pasted on itself; the last group may be smaller.
        drawn = drawn.masked_fill(places == place[:, None], 2.0)
        drawn = drawn.masked_fill(first[:, None] + places >= count, 2.0)
        ranked = drawn.argsort(1)[:, : self.num_combine - 1]
        used = drawn.gather(1, ranked) < 2.0
        # An unused place names the image itself: a valid index, whose pixels `_paste` then ignores.
        return torch.where(used, first[:, None] + ranked, own[:, None]).T, used.T

    def _paste(
        self, canvas: Tensor, images: Tensor, source: Tensor, used: Tensor, generator: Generator
    ) -> None:
        count, _, height, width = images.shape
        device = generator.device
        chosen = images[source.to(images.device, non_blocking=True)]
        patches = random_flip(chosen, FLIP, FLIP, generator).to(canvas.dtype)
        tops, lefts = (
            # The bound is exclusive, so the last row and column of the canvas always stay free.
            torch.randint(outer - inner, (count, 1, 1), generator=generator, device=device)
            for outer, inner in zip(self.size, (height, width), strict=True)
        )
        rows = (tops + torch.arange(height, device=device).view(-1, 1)).to(
            canvas.device, non_blocking=True
        )
        columns = (lefts + torch.arange(width, device=device)).to(canvas.device, non_blocking=True)
        # which (B, 1, 1), rows (B, h, 1) and columns (B, 1, w) index together as (B, h, w).
        which = torch.arange(count, device=canvas.device).view(-1, 1, 1)
        # (B, H, W, C): the channel last, so that one index addresses a whole pixel.
        flat = canvas.permute(0, 2, 3, 1)  # a view: what is written there is in the canvas
        patches = patches.permute(0, 2, 3, 1)
        seen = used.to(canvas.device, non_blocking=True).view(-1, 1, 1, 1)
        if self.black_is_alpha:
            # (B, h, w, 1): false where all channels are black.
            seen = seen & (patches.sum(3, keepdim=True) > 0)
        flat[which, rows, columns] = torch.where(seen, patches, flat[which, rows, columns])


@lru_cache(maxsize=16)
def _enlarging(inner: int, outer: int) -> Tensor:
    """(2, outer, inner): enlarging one axis by `bicubic` and by `nearest`, as matrices."""
    # Resizing the identity gives the matrix: column i is how input pixel i spreads.
    eye = torch.eye(inner, device="cpu")[None, None]
    size = (outer, inner)
    return torch.cat([F.interpolate(eye, size, mode=mode)[0] for mode in ("bicubic", "nearest")])

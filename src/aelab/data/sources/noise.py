"""Noise, which no autoencoder can compress: its known plateau of the loss checks the whole lab."""

from __future__ import annotations

import math

import torch

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.memory import refuse_too_large
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import checked_shape
from aelab.errors import DataError
from aelab.ops.random import keyed_generator
from aelab.types import Images, Provenance

_BLOCK = 4096


class Noise(Source):
    """Normal noise, see `noise_dataset`."""

    name = "noise"

    def __init__(
        self,
        shape: tuple[int, ...],
        size: int,
        mean: float,
        std: float,
        clamp01: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.wanted = checked_shape(shape)
        self.size, self.mean, self.std = int(size), float(mean), float(std)
        self.clamp01, self.seed = bool(clamp01), int(seed)
        if self.size < 1:
            raise DataError(f"noise_dataset: size must be at least 1, got {size}")

    def item_shape(self) -> tuple[int, ...]:
        """The shape that was asked for."""
        return self.wanted

    def count(self) -> int | None:
        """The number of images asked for."""
        return self.size

    def few(self, count: int) -> Source | None:
        """The same with fewer images."""
        return Noise(
            self.wanted, min(self.size, count), self.mean, self.std, self.clamp01, self.seed
        )

    def reading_seconds(self) -> float | None:
        """Ten nanoseconds for each value, at least those of one block."""
        return 1e-8 * max(self.size, _BLOCK) * math.prod(self.wanted)

    def is_bytes(self) -> bool:
        """True if the noise is clamped, and therefore stored as uint8."""
        return self.clamp01

    def fingerprint(self) -> str:
        """All arguments, which alone decide the pixels."""
        values = (self.wanted, self.size, self.mean, self.std, self.clamp01, self.seed)
        return f"noise {values}"

    def read(self) -> Images:
        what = f"noise_dataset of {self.size:,} images {'x'.join(map(str, self.wanted))}"
        refuse_too_large(4 * _BLOCK * math.prod(self.wanted), what)  # of one block
        room = PixelRoom(self.size, what)
        room.promise(self.wanted, torch.uint8 if self.clamp01 else torch.float32)
        for start in range(0, self.size, _BLOCK):
            # Whole blocks are drawn: a smaller set is the beginning of a larger one.
            generator = keyed_generator(self.seed, "noise", start)
            # One generator a block, keyed by its start: blocks do not depend on the size of the
            # set.
            values = torch.randn(_BLOCK, *self.wanted, generator=generator)
            values = values[: self.size - start].mul_(self.std).add_(self.mean)
            if self.clamp01:
                values = values.clamp_(0.0, 1.0).mul_(255.0).round_().to(torch.uint8)
            room.add(values)
        mapped, pixels = room.mapped, room.done()
        sha256 = content_sha256(pixels)
        source = Provenance(self.name, "generated", self.size, sha256)
        facts = {"memory_mapped": mapped}
        return make_images(pixels, provenance=[source], facts=facts, sha256=sha256)


@listed("noise", {"size": 10_000}, {"size": 10_000, "seed": 1})
def noise_dataset(
    shape: tuple[int, int, int] = (1, 32, 32),
    size: int = 60_000,
    mean: float = 0.5,
    std: float = 0.5,
    clamp01: bool = True,
    seed: int = 0,
) -> Dataset:
    """Normal noise, the same for the same seed.

    For mean 0.5 and std 0.5 the best constant prediction has a mean absolute error of 0.316, the
    plateau of the documents' figure.

    Args:
        shape: (C, H, W).
        size: number of images.
        mean: of the noise before clamping.
        std: of the noise before clamping.
        clamp01: clamp to 0..1 and store as uint8; otherwise float32 without a range.
        seed: use different seeds for training and validation.
    """
    return Dataset(Noise(shape, size, mean, std, clamp01, seed))

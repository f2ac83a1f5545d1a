"""Batches cut from a resident tensor: where pixels are stored, their order, random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError
from aelab.hardware import machine_bytes
from aelab.ops.augmented import changed_batch
from aelab.ops.factors import Partners, factors_of, needs_factors, pairs_of
from aelab.ops.labels import label_classes
from aelab.ops.random import block_permutation, keyed_generator, keyed_seed, permutation
from aelab.ops.subset import draw_order
from aelab.types import Augment, Images

#: Share of a GPU's free memory that a data set may take; more stays in host memory.
_RESIDENT_SHARE = 0.5
#: A set that takes more than this share of the machine's memory is shuffled by blocks: of about so
#: many bytes each, and so many together that their images take this share.
SHUFFLED_SHARE, BLOCK_BYTES, TOGETHER_SHARE = 0.5, 1 << 20, 0.125


class Draws:
    """Random numbers on one device, keyed by (seed, purpose, images).

    One generator is reseeded for each draw, so no random state has to be stored.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._device = device
        self._generator = torch.Generator(device=device)

    def generator(self, purpose: str, index: int) -> torch.Generator:
        """The generator, seeded for this draw; valid until the next call."""
        return self._generator.manual_seed(keyed_seed(self._seed, purpose, index))

    def normal(self, shape: Sequence[int], purpose: str, index: int) -> Tensor:
        """Standard normal numbers of the given shape, float32 on the device."""
        generator = self.generator(purpose, index)
        return torch.randn(tuple(shape), generator=generator, device=self._device)

    def reseed_default(self, index: int) -> None:
        """Reseed torch's default generator, from which `nn.Dropout` draws.

        `torch.manual_seed` also seeds all other devices and takes 238 us; this takes 1.5 us.
        """
        value = keyed_seed(self._seed, "module", index)
        if self._device.type == "cuda":
            number = self._device.index
            number = torch.cuda.current_device() if number is None else number
            torch.cuda.default_generators[number].manual_seed(value)
        elif self._device.type == "mps":
            torch.mps.manual_seed(value)
        else:
            torch.default_generator.manual_seed(value)


class Batches:
    """One image set, stored on the computing device if it fits there.

    Args:
        images: the set; uint8 0..255, or float 0..1.
        device: the device of the batches. Pixels are moved there once if they fit; else they stay
            in host memory (or memory-mapped) and each batch is copied.
        channels_last: whether float batches are NHWC in memory.
    """

    def __init__(self, images: Images, device: torch.device, channels_last: bool = False) -> None:
        if len(images) == 0:
            raise DataError("the image set is empty", hint="look at it with: aelab data")
        # uint8 on the device: a quarter of float32, and no copy from the host for each batch.
        fits = device.type != "cpu" and images.pixels.nbytes < _room(device)
        self.pixels = images.pixels.to(device) if fits else images.pixels
        self.augment = images.augment
        self._labels = images.labels
        self._factors = factors_of(images)
        self._partners: Partners | None = None
        self._device = device
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._orders: dict[tuple[int, int], Tensor] = {}  # seed, memory -> order of the epoch
        self._orders_of: int | None = None
        self._drawn: Tensor | None = None

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def order(self, seed: int, epoch: int, memory: int = 0) -> Tensor:
        """(N,) int64: the shuffled order of an epoch, on the device of the pixels; cached.

        Args:
            memory: of `shuffle_memory`; 0: the whole set is shuffled.
        """
        if self._orders_of != epoch:
            self._orders, self._orders_of = {}, epoch
        if (seed, memory) not in self._orders:
            # One copy to the GPU per epoch; non_blocking, so the CPU does not wait for it.
            order = self._shuffled(seed, epoch, memory)
            self._orders[seed, memory] = order.to(self.pixels.device, non_blocking=True)
        return self._orders[seed, memory]

    def _shuffled(self, seed: int, epoch: int, memory: int) -> Tensor:
        """The order of an epoch; by blocks where the set does not fit into memory with ease."""
        if not memory or self.pixels.nbytes <= SHUFFLED_SHARE * memory:
            return permutation(len(self), seed, epoch)
        block = max(1, BLOCK_BYTES // self.pixels[:1].nbytes)
        together = max(2, int(TOGETHER_SHARE * memory) // (block * self.pixels[:1].nbytes))
        return block_permutation(len(self), seed, epoch, block, together)

    def drawn(self, count: int) -> Tensor:
        """(count,) int64, ascending: a fixed random subset, balanced over classes."""
        if self._drawn is None or len(self._drawn) != count:
            # Ascending, so that a memory-mapped file is read in order.
            rows = draw_order(len(self), self._labels)[:count].sort().values
            self._drawn = rows.to(self.pixels.device)
        return self._drawn

    def gather(self, index: Tensor | slice) -> Tensor:
        """The images of these rows: (B, C, H, W) float32, 0..1, on the device."""
        pixels = self.pixels[index]
        if pixels.device != self._device:
            if self._device.type == "cuda":
                # Only from pinned memory does a non_blocking copy to a GPU return at once.
                pixels = pixels.pin_memory()
            pixels = pixels.to(self._device, non_blocking=True)
        if pixels.dtype != torch.uint8:
            # A slice is a view of the set: copy it, because callers may change the batch in place.
            copied = isinstance(index, slice)
            return pixels.to(torch.float32, memory_format=self._format, copy=copied)
        # In place on the fresh float32 copy: no second allocation.
        return pixels.to(torch.float32, memory_format=self._format).mul_(1 / 255)

    def labels_for(self, model: nn.Module, index: Tensor | slice) -> Tensor | None:
        """The labels of these rows, (B,) int64 on the device; None unless the model asks."""
        if label_classes(model) is None or self._labels is None:
            return None
        return self._of_rows(self._labels, index)

    def factors_for(self, objective: object, index: Tensor | slice) -> Tensor | None:
        """The factors of these rows, (B, F) int64 on the device; None unless the objective asks."""
        if not needs_factors(objective) or self._factors is None:
            return None
        return self._of_rows(self._factors, index)

    def paired(
        self, model: nn.Module, index: Tensor | slice, seed: int, now: int
    ) -> Tensor | slice:
        """The rows, with a partner of the first of every two in place of the second.

        Unchanged unless the model asks. An odd last row stays alone.

        Args:
            seed, now: of the run, and the images seen: the key of the draw.
        """
        pairs = pairs_of(model)
        if pairs is None or self._factors is None:
            return index
        if self._partners is None:
            self._partners = Partners(self._factors, pairs)
        # Drawn on the CPU: the same pairs on every device.
        rows = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()]
        generator = keyed_generator(seed, "partners", now)
        rows[1::2] = self._partners.rows(rows[0::2][: len(rows) // 2], generator)
        return rows.to(self.pixels.device, non_blocking=True)

    def _of_rows(self, values: Tensor, index: Tensor | slice) -> Tensor:
        rows = index if isinstance(index, slice) else index.cpu()
        return values[rows].to(self._device, non_blocking=True)

    def changed(self, index: Tensor | slice, draws: Draws, purpose: str, now: int) -> Tensor:
        """The chosen images after the set's random augmentation, drawn from one generator.

        Gives the same values as `gather` then `transformed`, but crops and flips work on the
        uint8 bytes, which is faster.
        """
        resident = self.pixels.device == self._device
        if not self.augment or not resident or isinstance(index, slice):
            return self.transformed(self.gather(index), self.augment, draws, purpose, now)
        generator = draws.generator(purpose, now)
        batch = changed_batch(self.pixels, index, self.augment, generator)
        return batch.contiguous(memory_format=self._format)

    def transformed(
        self, batch: Tensor, changes: Sequence[Augment], draws: Draws, purpose: str, index: int
    ) -> Tensor:
        """The batch after the random changes, all drawn from one generator keyed by `index`."""
        if changes:
            generator = draws.generator(purpose, index)
            for change in changes:
                batch = change(batch, generator)
        return batch


class ScheduledSets:
    """Image sets by the epoch from which each is used.

    Args:
        sets: one set, or (first epoch, set) pairs; the pair with the latest epoch reached is used.
        key: of the experiment file, for messages.
    """

    def __init__(
        self,
        sets: Images | Sequence[tuple[int, Images]],
        device: torch.device,
        channels_last: bool,
        key: str = "train_set",
    ) -> None:
        pairs = [(0, sets)] if isinstance(sets, Images) else list(sets)
        self._pairs = sorted(pairs, key=lambda pair: pair[0])
        if not self._pairs or self._pairs[0][0] > 0:
            raise ConfigError("no images for epoch 0", hint=f"add the key {key}")
        self._device, self._channels_last = device, channels_last
        self._current: tuple[int, Batches] | None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(first epoch, images) of each set."""
        return [(first, len(images)) for first, images in self._pairs]

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest set."""
        return max(images.pixels.nbytes for _, images in self._pairs)

    @property
    def is_augmented(self) -> bool:
        """Whether any of the sets has random changes."""
        return any(images.augment for _, images in self._pairs)

    def position(self, epoch: int) -> int:
        """Index of the set used in an epoch, from 0."""
        return max(i for i, (first, _) in enumerate(self._pairs) if first <= epoch)

    def at(self, epoch: int) -> Batches:
        """The batches of an epoch; only one set at a time is resident."""
        position = self.position(epoch)
        if self._current is None or self._current[0] != position:
            images = self._pairs[position][1]
            self._current = (position, Batches(images, self._device, self._channels_last))
        return self._current[1]


def shuffle_memory(most_bytes: int) -> int:
    """The memory for which the sets of a run are shuffled; chosen once and kept with the run.

    Args:
        most_bytes: of the largest set.

    Returns:
        Bytes of this machine's memory if a set needs blocks; 0 if whole sets are shuffled.
    """
    memory = machine_bytes()
    return 0 if memory is None or most_bytes <= SHUFFLED_SHARE * memory else memory


def _room(device: torch.device) -> float:
    """Greatest number of bytes of a data set on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * _RESIDENT_SHARE
    return float("inf")  # MPS shares its memory with the CPU

"""Random changes of a batch, as training applies them: `change(images, generator) -> images`.

Small frozen objects rather than closures: they compare, print and pickle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from aelab.data.base import Change, Description, RandomChange, make_images
from aelab.data.functions import call_on_image, function_key, refuse_missing_names
from aelab.data.pixel_room import PixelRoom
from aelab.errors import ConfigError, ShapeError
from aelab.ops.crops import random_crop, random_flip, random_shift
from aelab.ops.random import keyed_generator, keyed_seed
from aelab.types import Images

#: How far an image is rolled: each whole number equally often, or as normal numbers.
Draws = Literal["uniform", "normal"]


@dataclass(frozen=True)
class RandomShift(RandomChange):
    """Moves each image by up to `pixels`: pads with zeros (black), then crops at a random place."""

    pixels: int
    moves_only: ClassVar[bool] = True
    any_medium: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return random_shift(images, self.pixels, generator)


@dataclass(frozen=True)
class RandomRoll(RandomChange):
    """Rolls each image by random numbers of rows and columns, with wrap-around.

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
    any_medium: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, C, H, W) of any type -> the same layout, a copy."""
        shifts = self.shifts(len(images), generator)
        for axis, shift in zip((2, 3), shifts, strict=True):
            size = images.shape[axis]
            # (B, size): for each image and target row or column, where its pixel comes from.
            place = (torch.arange(size, device=shift.device) - shift[:, None]) % size
            place = place.to(images.device, non_blocking=True)
            place = place[:, None, :, None] if axis == 2 else place[:, None, None, :]
            # One gather an axis in place of torch.roll in a loop: every image has another shift.
            images = images.gather(axis, place.expand(images.shape))
        return images

    def shifts(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """The shifts down and to the right, (count,) int64 each, on the generator's device."""
        down, right = (self._drawn(most, count, generator) for most in (self.rows, self.columns))
        return down, right

    def _drawn(self, most: int, count: int, generator: Generator) -> Tensor:
        device = generator.device
        if self.draws == "uniform":
            return torch.randint(-most, most + 1, (count,), generator=generator, device=device)
        deviation = most / 2 if self.sigma is None else self.sigma
        drawn = torch.randn(count, generator=generator, device=device) * deviation
        # Truncated toward zero, as int() of the document: 0 is drawn more often than with rounding.
        return drawn.trunc().long().clamp(-most, most)


@dataclass(frozen=True)
class RandomFlip(RandomChange):
    """Mirrors each image with these probabilities; the documents use 0.4 and 0.2."""

    horizontal: float = 0.4
    vertical: float = 0.2
    moves_only: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return random_flip(images, self.horizontal, self.vertical, generator)


@dataclass(frozen=True)
class RandomWindow(RandomChange):
    """Cuts a window of (height, width) at a random place of each image."""

    size: tuple[int, int]
    moves_only: ClassVar[bool] = True
    any_medium: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return random_crop(images, self.size, generator)

    def gather(self, pixels: Tensor, index: Tensor, generator: Generator) -> Tensor:
        """Cuts windows of the images chosen by `index` (B,) directly from the whole set."""
        return random_crop(pixels, self.size, generator, index)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H, W) -> (C, *size).

        Raises:
            ShapeError: if the images are smaller than the window.
        """
        if shape[-2] < self.size[0] or shape[-1] < self.size[1]:
            raise ShapeError(
                f"cannot crop {self.size[0]}x{self.size[1]} out of {shape[-2]}x{shape[-1]} images",
                hint="crop a smaller window, or pad or resize before",
            )
        return (*shape[:-2], *self.size)


@dataclass(frozen=True)
class RandomBinarize(RandomChange):
    """Draws each pixel black or white, anew each time; its grey value is the probability of white.

    For a fixed set of binary images: `.binarize().freeze()`.

    Source: Salakhutdinov & Murray 2008, On the quantitative analysis of deep belief networks.
    """

    of_unit_images: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        drawn = torch.rand(images.shape, generator=generator, device=images.device)
        # (B, C, H, W): one draw for each pixel and channel.
        return (drawn < images).to(images.dtype)


@dataclass(frozen=True)
class Steps:
    """A change of whole batches without random numbers that follows a random one, such as a resize.

    `sets_range`: the change is what brings the images into the set's `value_range`.
    """

    change: Callable[[Tensor], Tensor]
    sets_range: bool = field(default=False, repr=False)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return self.change(images)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape after the change, tried on a black image."""
        # One black image costs microseconds and is right for any function of shapes.
        return tuple(self.change(torch.zeros(1, *shape)).shape[1:])


@dataclass(frozen=True)
class EachItem:
    """A user's per-sample functions after a random change: slow, one image at a time.

    Torch's default generator and `random` are seeded from the given generator and restored
    afterwards, so that the user's functions follow the run's seed too.

    `sets_range`: they bring the images into the set's `value_range`, as `x / 255` does.
    """

    functions: tuple[Callable[[Any], Any], ...]
    sets_range: bool = field(default=False, repr=False)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        # One draw from the run's generator seeds both others for this batch.
        limit = (1 << 31) - 1
        drawn = torch.randint(limit, (1,), generator=generator, device=generator.device)
        with seeded(int(drawn)):
            # A copy of each image: the function may change it in place, and the batch belongs to
            # others.
            return torch.stack([self._one(image.clone(), row) for row, image in enumerate(images)])

    def __repr__(self) -> str:
        """Names the functions by their content instead of their address: runs record this text."""
        return f"EachItem({', '.join(map(function_key, self.functions))})"

    def _one(self, image: Tensor, row: int = 0) -> Tensor:
        for function in self.functions:
            image = call_on_image(function, image, "transforms", row)
        return image

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape after the functions, tried on a black image."""
        with seeded(0):
            return tuple(self._one(torch.zeros(shape)).shape)


def refuse_missing_in(name: str, changes: Sequence[Any]) -> None:
    """Raise for a function among random changes with a name that is not defined.

    Raises:
        DataError: naming the function and the name.
    """
    for change in changes:
        if isinstance(change, EachItem):
            refuse_missing_names(name, *change.functions)


class seeded:
    """Torch's default generator and `random`, seeded inside a `with` and restored after it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        torch.default_generator.manual_seed(self.seed)
        random.seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._torch)
        random.setstate(self._python)

    def drew(self) -> bool:
        """Whether anything was drawn since entering."""
        # A draw moves the state of the generator, so any difference from a fresh one is a draw.
        fresh = torch.Generator().manual_seed(self.seed).get_state()
        if not torch.equal(torch.get_rng_state(), fresh):
            return True
        return random.getstate() != random.Random(self.seed).getstate()


@dataclass(frozen=True)
class Mirror(Change):
    """Mirrors images with this probability, elements included: `/` becomes `\\`.

    For media whose elements have a mirror image, such as characters.
    """

    probability: float = 0.5

    def settled(self, before: Description) -> Change:
        """The same change, after checking that the medium can be mirrored.

        Raises:
            ConfigError: the elements of the medium have no mirror image.
        """
        before.medium.random_mirror(before.name, float(self.probability))
        return self

    def apply(self, images: Images, before: Description) -> Images:
        """The same pixels; training draws the change with each batch."""
        change = images.medium.random_mirror(before.name, float(self.probability))
        return replace(images, augment=(*images.augment, change))


@dataclass(frozen=True)
class Freeze(Change):
    """Applies the random changes once and keeps the result."""

    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", int(self.seed))

    def apply(self, images: Images, before: Description) -> Images:
        """See `freeze_images`."""
        return freeze_images(images, self.seed)


def augmented(images: Tensor, augment: Sequence[Any], generator: Generator) -> Tensor:
    """Applies all augmentations to one batch in order; if any, uint8 becomes float in 0..1."""
    if augment and images.dtype == torch.uint8:
        images = images.float() / 255.0
    for change in augment:
        images = change(images, generator)
    return images


def freeze_images(images: Images, seed: int = 0) -> Images:
    """Applies the random changes of a set once and keeps the result.

    A validation set needs this where a random change alters the shape (a crop), and for the
    documents' `freeze_validation_set`.

    Args:
        images: any set; returned unchanged when it has no augmentation.
        seed: another seed gives other crops.

    Returns:
        `Images` without augmentation; uint8 where the result still has 8 bits.
    """
    if not images.augment:
        return images
    room = PixelRoom(len(images), "the set with its random changes made once")
    # One generator a part, keyed by its first row: a longer set begins with the same draws.
    for start in range(0, len(images), 1024):
        generator = keyed_generator(keyed_seed(seed, "freeze"), "freeze", start)
        part = augmented(images.pixels[start : start + 1024], images.augment, generator)
        room.add(to_bytes(part))
    mapped = room.mapped
    frozen = make_images(
        room.done(),
        labels=images.labels,
        provenance=images.provenance,
        facts={**images.facts, "memory_mapped": mapped, "frozen_seed": seed},
        medium=images.medium,
        value_range=images.value_range,
        file_names=images.file_names,
        factors=images.factors,
    )
    return replace(frozen, augment=())


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


def to_bytes(images: Tensor) -> Tensor:
    """Converts to uint8 if each value is k / 255 up to rounding (no loss), else to float32."""
    if not images.is_floating_point():
        return images
    # k / 255 in float32 differs from k by at most a few 1e-5 after this product.
    scaled = images.float() * 255.0
    whole = scaled.round()
    exact = (scaled - whole).abs().amax() < 1e-3 and whole.amin() >= 0 and whole.amax() <= 255
    return whole.to(torch.uint8) if bool(exact) else images.float()

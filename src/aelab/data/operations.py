"""The table of operations: what may be called on every set, and the change that it adds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from aelab.data.augment import (
    Draws,
    Freeze,
    Mirror,
    RandomBinarize,
    RandomFlip,
    RandomShift,
    RandomWindow,
    roll,
)
from aelab.data.base import Change
from aelab.data.collage import Collage
from aelab.data.per_sample import PerSample
from aelab.data.prepare import Scale, Size, ToShape, ValuesBetween
from aelab.data.rows import Filter, Limit, Repeat, Sample, Shuffle, Skip
from aelab.data.transforms import CenterCrop, flat_transforms
from aelab.errors import ShapeError

if TYPE_CHECKING:
    from aelab.data.dataset import Dataset

P = ParamSpec("P")


class operation(Generic[P]):
    """One entry of the table: a method that gives the set with further changes.

    Args:
        make: the class of a change, or a function that returns one or several, () for none. Its
            arguments are those of the method.
    """

    def __init__(self, make: Callable[P, Change | tuple[Change, ...]]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, dataset: Dataset, owner: type) -> Callable[P, Dataset]:
        def method(*args: P.args, **kwargs: P.kwargs) -> Dataset:
            try:
                inspect.signature(self.make).bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.name}() {error}") from None
            made = self.make(*args, **kwargs)
            return dataset.changed(*made) if isinstance(made, tuple) else dataset.changed(made)

        method.__name__, method.__doc__ = self.name, self.__doc__
        return method


def _size(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ShapeError(f"a size is (height, width) or a whole shape, got {tuple(shape)}")
    return int(shape[-2]), int(shape[-1])


def _shuffle(max_shuffle: int | None = None, *, seed: int = 0) -> Change:
    """Another order, the same for the same seed.

    Training shuffles each epoch anyway; this decides what `limit` takes. `max_shuffle`, the
    buffer of the old streams, is accepted and has no effect: the whole set is shuffled.
    """
    return Shuffle(seed)


def _transform(
    transforms: Sequence[Callable[[Any], Any]] | None = None,
    *,
    dtype: Any = None,
    multiply: float | None = None,
    num_repeat: int = 1,
) -> tuple[Change, ...]:
    """Functions of one image, one after the other; see `TransformDataset`."""
    return PerSample(tuple(flat_transforms(transforms)), dtype, multiply), Repeat(num_repeat)


def _resize(shape: Sequence[int], interpolation: bool | str = True) -> Change:
    """At another (C, H, W) or (H, W)."""
    whole = tuple(shape)
    return Size(whole, interpolation) if len(whole) == 2 else ToShape(whole, interpolation)


def _center_crop(shape: Sequence[int]) -> Change:
    """The middle (H, W), black where an image is smaller; a (C, H, W) is accepted."""
    return PerSample((CenterCrop(_size(shape)),))


def _random_crop_all(shape: Sequence[int]) -> Change:
    """A window of (H, W) at another place of each image each time; (C, H, W) is accepted."""
    return RandomWindow(_size(shape))


def _random_shift(pixels: int) -> Change | tuple[Change, ...]:
    """Moved by up to `pixels` each time, black coming in."""
    return RandomShift(int(pixels)) if pixels else ()


def _random_flip(horizontal: float = 0.4, vertical: float = 0.2) -> Change:
    """Mirrored each time with these probabilities."""
    return RandomFlip(float(horizontal), float(vertical))


def _roll(
    rows: int, columns: int, *, sigma: float | None = None, draws: Draws = "uniform"
) -> Change:
    """Rolled over by up to so many rows and columns each time; what leaves comes in opposite.

    `draws="normal"` draws as the document of the ASCII pictures, with deviation `sigma`, or
    half the greatest shift.
    """
    return roll(rows, columns, sigma, draws)


def _nothing() -> tuple[Change, ...]:
    """Itself: the old streams and lists are one thing here."""
    return ()


def _collage(shape: Sequence[int], num_combine: int = 4, black_is_alpha: bool = True) -> Change:
    """Each image enlarged to `shape`, with others pasted on it, made anew for each batch.

    As many collages as images; which images come together follows the order of training.
    `.freeze()` makes each once. The images of a set without random changes should be bytes or in
    0..1, where black is 0. See `Collage`.

    Args:
        shape: (H, W) or (C, H, W), larger than the images.
        num_combine: images a collage, from 1 up.
        black_is_alpha: black pixels of a pasted image are transparent.
    """
    return Collage(tuple(shape), num_combine, black_is_alpha)


class Operations:
    """The table. A line here is a method of every set and a name that blocks may call."""

    limit = operation(Limit)
    skip = operation(Skip)
    offset = operation(Skip)
    repeat = operation(Repeat)
    shuffle = operation(_shuffle)
    sample = operation(Sample)
    freeze = operation(Freeze)
    transform = operation(_transform)
    resize = operation(_resize)
    scale = operation(Scale)
    filter = operation(Filter)
    center_crop = operation(_center_crop)
    random_crop_all = operation(_random_crop_all)
    random_shift = operation(_random_shift)
    random_flip = operation(_random_flip)
    roll = operation(_roll)
    mirror = operation(Mirror)
    binarize = operation(RandomBinarize)
    values_between = operation(ValuesBetween)
    collage = operation(_collage)
    to_iterable = operation(_nothing)


#: Their names.
OPERATIONS = tuple(name for name, entry in vars(Operations).items() if isinstance(entry, operation))

"""The table of operations: methods of every set, and the change that each adds."""

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
    """One entry of the table: a method that returns the set with further changes.

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
                # Bound first: Python's own message would name `make`, which the user did not type.
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
    """Shuffles the set; the same seed gives the same order.

    Training shuffles each epoch anyway; use this to choose what `limit` takes. `max_shuffle`, the
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
    """Applies functions of one image, one after the other; see `TransformDataset`."""
    return PerSample(tuple(flat_transforms(transforms)), dtype, multiply), Repeat(num_repeat)


def _resize(shape: Sequence[int], interpolation: bool | str = True) -> Change:
    """Resizes to another (C, H, W) or (H, W)."""
    whole = tuple(shape)
    return Size(whole, interpolation) if len(whole) == 2 else ToShape(whole, interpolation)


def _center_crop(shape: Sequence[int]) -> Change:
    """Cuts the middle (H, W), black where an image is smaller; (C, H, W) is accepted."""
    return PerSample((CenterCrop(_size(shape)),))


def _random_crop_all(shape: Sequence[int]) -> Change:
    """Cuts a window (H, W) at a random place of each image each time; (C, H, W) is accepted."""
    return RandomWindow(_size(shape))


def _random_shift(pixels: int) -> Change | tuple[Change, ...]:
    """Shifts each image by up to `pixels` each time; the uncovered border is black."""
    return RandomShift(int(pixels)) if pixels else ()


def _random_flip(horizontal: float = 0.4, vertical: float = 0.2) -> Change:
    """Flips each image left-right and top-bottom with these probabilities, drawn each time."""
    return RandomFlip(float(horizontal), float(vertical))


def _roll(
    rows: int, columns: int, *, sigma: float | None = None, draws: Draws = "uniform"
) -> Change:
    """Rolls each image by up to `rows` and `columns` pixels each time, with wrap-around.

    `draws="normal"` draws as the document about ASCII pictures does, with deviation `sigma`, or
    half the greatest shift.
    """
    return roll(rows, columns, sigma, draws)


def _nothing() -> tuple[Change, ...]:
    """No change: the old tool's streams and lists are the same thing here."""
    return ()


def _collage(shape: Sequence[int], num_combine: int = 4, black_is_alpha: bool = True) -> Change:
    """Enlarges each image to `shape` and pastes others on it, anew for each batch.

    There are as many collages as images; the order of training decides which images are combined.
    `.freeze()` makes each once. The images of a set without random changes should be uint8 or in
    0..1, where black is 0. See `Collage`.

    Args:
        shape: (H, W) or (C, H, W), larger than the images.
        num_combine: images in a collage, from 1 up.
        black_is_alpha: black pixels of a pasted image are transparent.
    """
    return Collage(tuple(shape), num_combine, black_is_alpha)


class Operations:
    """The table: each line is a method of every set and a name that blocks may call."""

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


#: The names of the operations.
OPERATIONS = tuple(name for name, entry in vars(Operations).items() if isinstance(entry, operation))

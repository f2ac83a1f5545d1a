"""The methods every data set has, each giving a new description: `mnist.limit(100).shuffle()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor

if TYPE_CHECKING:
    from aelab.data.base import Dataset

#: What a block of an experiment file may call on a data set.
METHODS = (
    "limit",
    "skip",
    "offset",
    "repeat",
    "shuffle",
    "sample",
    "freeze",
    "transform",
    "resize",
    "scale",
    "filter",
    "center_crop",
    "random_crop_all",
    "random_shift",
    "random_flip",
    "roll",
    "mirror",
    "binarize",
    "values_between",
    "collage",
    "interleave",
    "to_iterable",
)


class Chain:
    """Mixed into `Dataset`; the classes behind it are in `combine`."""

    def limit(self, size: int) -> Dataset:
        """The first `size` images."""
        from aelab.data.combine import limit

        return limit(self._set, size)

    def skip(self, count: int) -> Dataset:
        """Without the first `count` images."""
        from aelab.data.combine import skip

        return skip(self._set, count)

    def offset(self, count: int) -> Dataset:
        """The same as `skip`."""
        return self.skip(count)

    def repeat(self, count: int) -> Dataset:
        """Each image `count` times, copies side by side; useful with random changes."""
        from aelab.data.combine import repeat

        return repeat(self._set, count)

    def shuffle(self, max_shuffle: int | None = None, *, seed: int = 0) -> Dataset:
        """Another order, the same for the same seed.

        Training shuffles each epoch anyway; this decides what `limit` takes. `max_shuffle`, the
        buffer of the old streams, is accepted and has no effect: the whole set is shuffled.
        """
        from aelab.data.combine import shuffle

        return shuffle(self._set, seed)

    def sample(self, count: int, *, seed: int = 0) -> Dataset:
        """`count` images chosen at random, none twice, in their order."""
        from aelab.data.combine import sample

        return sample(self._set, count, seed)

    def freeze(self, seed: int = 0) -> Dataset:
        """The random changes applied once and for all."""
        from aelab.data.combine import Frozen

        return Frozen(self._set, seed)

    def transform(
        self,
        transforms: Sequence[Callable[[Any], Any]] | None = None,
        *,
        dtype: Any = None,
        multiply: float | None = None,
        num_repeat: int = 1,
    ) -> Dataset:
        """Functions of one image, one after the other; see `TransformDataset`."""
        from aelab.data.transformed import TransformDataset

        return TransformDataset(self._set, dtype, multiply, transforms, num_repeat)

    def resize(self, shape: Sequence[int], interpolation: bool | str = True) -> Dataset:
        """At another (C, H, W) or (H, W)."""
        from aelab.data.combine import resized

        return resized(self._set, shape, interpolation)

    def scale(self, factor: float, interpolation: bool | str = True) -> Dataset:
        """Height and width times `factor`, rounded, at least 1."""
        from aelab.data.combine import resized

        _, height, width = self._set.shape
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        return resized(self._set, size, interpolation)

    def filter(self, keep: Callable[[Tensor], Any]) -> Dataset:
        """The images for which `keep(image)` is true; `image` is float32 (C, H, W) in 0..1."""
        from aelab.data.combine import Filtered

        return Filtered(self._set, keep)

    def center_crop(self, shape: Sequence[int]) -> Dataset:
        """The middle (H, W), black where an image is smaller; a (C, H, W) is accepted."""
        from aelab.data.transformed import TransformDataset
        from aelab.data.transforms import CenterCrop

        return TransformDataset(self._set, transforms=[CenterCrop(_size(shape))])

    def random_crop_all(self, shape: Sequence[int]) -> Dataset:
        """A window of (H, W) at another place of each image each time; (C, H, W) is accepted."""
        from aelab.data.augment import RandomWindow
        from aelab.data.combine import Augmented

        return Augmented(self._set, (RandomWindow(_size(shape)),))

    def random_shift(self, pixels: int) -> Dataset:
        """Moved by up to `pixels` each time, black coming in."""
        from aelab.data.augment import RandomShift
        from aelab.data.combine import Augmented

        return Augmented(self._set, (RandomShift(int(pixels)),)) if pixels else self._set

    def random_flip(self, horizontal: float = 0.4, vertical: float = 0.2) -> Dataset:
        """Mirrored each time with these probabilities."""
        from aelab.data.augment import RandomFlip
        from aelab.data.combine import Augmented

        return Augmented(self._set, (RandomFlip(float(horizontal), float(vertical)),))

    def roll(
        self,
        rows: int,
        columns: int,
        *,
        sigma: float | None = None,
        draws: Literal["uniform", "normal"] = "uniform",
    ) -> Dataset:
        """Rolled over by up to so many rows and columns each time; what leaves comes in opposite.

        `draws="normal"` draws as the document of the ASCII pictures, with deviation `sigma`, or
        half the greatest shift.
        """
        from aelab.data.augment import roll
        from aelab.data.combine import Augmented

        return Augmented(self._set, (roll(rows, columns, sigma, draws),))

    def mirror(self, probability: float = 0.5) -> Dataset:
        """Mirrored each time with this probability, with the elements: `/` becomes `\\`.

        For media whose elements have a mirror image, such as characters.
        """
        from aelab.data.combine import Augmented

        change = self._set.medium.random_mirror(self._set.name, float(probability))
        return Augmented(self._set, (change,))

    def binarize(self) -> Dataset:
        """Black or white at random, drawn anew each time with the grey values as probabilities.

        For a fixed set of binary images: `.binarize().freeze()`.
        """
        from aelab.data.augment import RandomBinarize
        from aelab.data.combine import Augmented

        return Augmented(self._set, (RandomBinarize(),))

    def values_between(self, low: float, high: float) -> Dataset:
        """Says that `low` is black and `high` white, and changes no pixel.

        For floats in a range of their own, so that measures and pictures are right.
        """
        from aelab.data.combine import Between

        return Between(self._set, low, high)

    def collage(
        self, shape: Sequence[int], num_combine: int = 4, black_is_alpha: bool = True
    ) -> Dataset:
        """Each image enlarged to `shape`, with others pasted on it; see `data.collage`."""
        from aelab.data.collage import collage

        return collage(self._set, shape, num_combine, black_is_alpha)

    def interleave(self, *others: Dataset) -> Dataset:
        """One image of each in turn; when one is exhausted, the others go on."""
        from aelab.data.combine import Interleaved

        return Interleaved(self._set, *others)

    def to_iterable(self) -> Dataset:
        """Itself: the old streams and lists are one thing here."""
        return self._set

    @property
    def _set(self) -> Dataset:
        return cast("Dataset", self)


def _size(shape: Sequence[int]) -> tuple[int, int]:
    from aelab.errors import ShapeError

    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ShapeError(f"a size is (height, width) or a whole shape, got {tuple(shape)}")
    return int(shape[-2]), int(shape[-1])

"""5,000 digits of MNIST that come with aelab, for a first run without network."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np
import torch

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.prepare import ToShape
from aelab.types import Images, Provenance

#: The file in this package, made by `scripts/make_digits.py`; its licence lies beside it.
_FILE = "mnist-5000.npz"


class Digits(Source):
    """One half of the packaged digits, see `digits_dataset`."""

    name = "digits"

    def __init__(self, train: bool) -> None:
        super().__init__()
        self.half = "train" if train else "test"

    def item_shape(self) -> tuple[int, ...]:
        """(1, 28, 28)."""
        return (1, 28, 28)

    def count(self) -> int | None:
        """4,000 training images, or 1,000 test images."""
        return 4_000 if self.half == "train" else 1_000

    def reading_seconds(self) -> float | None:
        """Seconds of unpacking."""
        return 0.1

    def is_bytes(self) -> bool:
        """True: the file holds uint8."""
        return True

    def fingerprint(self) -> str:
        """The name and the half: the file never changes."""
        return f"digits {self.half}"

    def sources(self) -> list[tuple[str, str]]:
        """A note that the images come with aelab."""
        return [(self.name, "comes with aelab")]

    def read(self) -> Images:
        content = (resources.files("aelab.data.packaged") / _FILE).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            pixels = torch.from_numpy(arrays[f"{self.half}_images"])[:, None]
            labels = torch.from_numpy(arrays[f"{self.half}_labels"]).long()
        note = "4,000 + 1,000 of MNIST's digits: numbers of the whole MNIST are not comparable"
        source = Provenance(
            self.name, "comes with aelab", len(pixels), content_sha256(pixels), note
        )
        facts = {"label_names": list("0123456789")}
        return make_images(pixels, labels=labels, provenance=[source], facts=facts)


@listed("digits", validation={"train": False})
def digits_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
) -> Dataset:
    """5,000 of MNIST's digits that come with aelab: 4,000 + 1,000, 28 x 28 grey.

    A keyed draw of each half of MNIST, for a first run without network.

    Args:
        train: the training or the test half.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        normalize_between: (low, high) for each image's own minimum and maximum.

    Source: LeCun, Cortes, Burges, 1998, CC BY-SA 3.0.
    """
    return Dataset(Digits(bool(train)), [ToShape(shape, interpolation, normalize_between)])

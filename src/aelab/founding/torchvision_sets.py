"""`torchvision.datasets.MNIST(...).data`, as old files write it, over our own sets."""

from __future__ import annotations

from dataclasses import replace

from aelab.data.base import Dataset, make_images
from aelab.data.mnist import FASHION_MNIST, MNIST, KnownIdx
from aelab.data.prepare import Prepared
from aelab.data.wrapped import Wrapped
from aelab.types import Images


class Planes(Wrapped):
    """Grey images without their channel axis, uint8, as torchvision keeps them."""

    raw = True

    def __init__(self, source: Dataset) -> None:
        super().__init__(source)
        self.raw = True

    def item_shape(self) -> tuple[int, ...]:
        """(H, W): the other set's without its one channel."""
        return self.source.item_shape()[1:]

    def fingerprint(self) -> str:
        """The other set, its channel dropped."""
        return f"planes of {self.source.fingerprint()}"

    def _read(self) -> Images:
        images = self.source.load()
        planes = make_images(images.pixels[:, 0], provenance=images.provenance, facts=images.facts)
        return replace(planes, labels=images.labels)


class TorchvisionMNIST(Prepared):
    """MNIST by torchvision's name.

    Args:
        root: has no effect: files are found as `mnist_dataset` finds them.
        train: the training or the test half.
        download: has no effect: missing files are fetched.
    """

    known = MNIST
    block_attributes = frozenset({"data", "targets"})

    def __init__(self, root: str | None = None, train: bool = True, download: bool = True) -> None:
        super().__init__(KnownIdx(self.known, bool(train)))

    @property
    def data(self) -> Dataset:
        """The images: a description of a uint8 (N, 28, 28) tensor, for `TensorDataset`."""
        return Planes(self.source)

    @property
    def targets(self) -> Dataset:
        """The labels, for `TensorDataset`."""
        return Planes(self.source)


class TorchvisionFashionMNIST(TorchvisionMNIST):
    """Fashion-MNIST by torchvision's name; arguments as `TorchvisionMNIST`."""

    known = FASHION_MNIST

"""`torchvision.datasets.MNIST(...).data` of old files, implemented with our own sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aelab.data.base import Change, Description, make_images
from aelab.data.dataset import Dataset
from aelab.data.prepare import ToShape
from aelab.data.sources.mnist import FASHION_MNIST, MNIST, KnownIdx
from aelab.types import Images


@dataclass(frozen=True)
class Planes(Change):
    """Removes the channel axis of grey images, as in torchvision."""

    def item_shape_after(self, before: Description) -> tuple[int, ...]:
        """(H, W): the shape without the channel."""
        return before.item_shape()[1:]

    def raw_after(self, before: Description) -> bool:
        """True: per-sample functions get uint8."""
        return True

    def apply(self, images: Images, before: Description) -> Images:
        """(N, 1, H, W) -> (N, H, W)."""
        planes = make_images(images.pixels[:, 0], provenance=images.provenance, facts=images.facts)
        return replace(planes, labels=images.labels)


class TorchvisionMNIST(Dataset):
    """MNIST under torchvision's name.

    Args:
        root: has no effect: files are searched as in `mnist_dataset`.
        train: the training half if true, else the test half.
        download: has no effect: missing files are downloaded.
    """

    known = MNIST
    block_attributes = frozenset({"data", "targets"})

    def __init__(self, root: str | None = None, train: bool = True, download: bool = True) -> None:
        super().__init__(KnownIdx(self.known, bool(train)), [ToShape()])

    @property
    def data(self) -> Dataset:
        """The images: a description of a uint8 (N, 28, 28) tensor, for `TensorDataset`."""
        return Dataset(self.source, [Planes()])

    @property
    def targets(self) -> Dataset:
        """The labels, for `TensorDataset`."""
        return Dataset(self.source, [Planes()])


class TorchvisionFashionMNIST(TorchvisionMNIST):
    """Fashion-MNIST under torchvision's name; arguments as for `TorchvisionMNIST`."""

    known = FASHION_MNIST

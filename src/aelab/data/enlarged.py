"""Whether the images of a set hold the detail that their size promises."""

from __future__ import annotations

from collections.abc import Iterator

from aelab.data.base import Dataset
from aelab.data.decode import image_shape
from aelab.data.folder import Folder
from aelab.errors import DataError


def enlargement(dataset: Dataset) -> str | None:
    """The first step of a description that makes its images larger than they were stored.

    Headers of picture files are read, no pixels.

    Returns:
        For instance `rpg: 32x32 to 64x64`; None where every image is at least as large as wanted.
    """
    height, width = dataset.item_shape()[-2:]
    shapes: Iterator[tuple[int, ...]] = (part.item_shape() for part in _sources(dataset))
    if isinstance(dataset, Folder):
        shapes = _shapes_of_files(dataset)
    small = next((s[-2:] for s in shapes if s[-2] < height or s[-1] < width), None)
    if small is not None:
        return f"{dataset.name}: {small[1]}x{small[0]} to {width}x{height}"
    found = (enlargement(part) for part in _sources(dataset))
    return next((step for step in found if step is not None), None)


def _shapes_of_files(dataset: Folder) -> Iterator[tuple[int, ...]]:
    for file in dataset.files():
        try:
            yield image_shape(file)
        except DataError:
            if not dataset.skip_corrupt:
                raise


def _sources(dataset: Dataset) -> Iterator[Dataset]:
    """The sets that a set is made of."""
    given = [getattr(dataset, "source", None), *getattr(dataset, "parts", ())]
    given += getattr(dataset, "tensors", ())
    return (part for part in given if isinstance(part, Dataset))

"""Whether the images of a set hold the detail that their size promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aelab.data.dataset import Dataset
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
    parts = _made_of(dataset)
    shapes: Iterator[tuple[int, ...]] = (part.item_shape() for part in parts)
    if dataset.before is None and isinstance(dataset.source, Folder):
        shapes = _shapes_of_files(dataset.source)
    small = next((s[-2:] for s in shapes if s[-2] < height or s[-1] < width), None)
    if small is not None:
        return f"{dataset.name}: {small[1]}x{small[0]} to {width}x{height}"
    found = (enlargement(part) for part in parts)
    return next((step for step in found if step is not None), None)


def _shapes_of_files(folder: Folder) -> Iterator[tuple[int, ...]]:
    for file in folder.files():
        try:
            yield image_shape(file)
        except DataError:
            if not folder.skip_corrupt:
                raise


def _made_of(dataset: Dataset) -> Sequence[Dataset]:
    """The set before the last change, or those that a source is made of."""
    return (dataset.before,) if dataset.before is not None else dataset.source.parts

"""Finds duplicates and near duplicates in a set by the distance of codes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from aelab.errors import DataError
from aelab.metrics import flat
from aelab.ops.nearest import nearest_rows
from aelab.outputs import refuse_to_replace, write_output
from aelab.study.codes import csv_of
from aelab.study.inputs import names_of, unit_images
from aelab.study.made import pairs_sheet
from aelab.types import Images

#: Default number of pairs that are listed and drawn.
SHOWN = 20


@dataclass(frozen=True)
class Neighbours:
    """Pairs of images by the distance of their codes, the nearest first.

    Attributes:
        files, classes: file and class of the first image of each pair.
        nearest_files, nearest_classes: file and class of the second.
        distances: (N,) Euclidean distance of the codes.
        pixels: (N,) root mean squared difference of the pixels, 0..1: 0 for equal images.
        first, second: (N, C, H, W) in 0..1, the images of the pairs that are shown.
        images: the set, for its medium.
    """

    files: list[str]
    classes: list[str]
    nearest_files: list[str]
    nearest_classes: list[str]
    distances: Tensor
    pixels: Tensor
    first: Tensor
    second: Tensor
    images: Images

    @property
    def ratios(self) -> Tensor:
        """(N,) the distances as shares of the median one: near 0 for near duplicates."""
        return self.distances / self.distances.median().clamp(min=1e-12)

    def text(self, count: int = SHOWN) -> str:
        """The first pairs as a table, and the number of pairs with equal pixels."""
        rows = [
            [number + 1, self.files[number], self.nearest_files[number],
             f"{self.distances[number]:.4g}", f"{self.ratios[number]:.2f}",
             f"{self.pixels[number]:.4f}"]
            for number in range(min(count, len(self.files)))
        ]  # fmt: skip
        heads = ["", "file", "nearest", "distance", "of the median", "pixels differ by"]
        table = str(tabulate(rows, heads, tablefmt="simple", disable_numparse=True))
        equal = int((self.pixels == 0).sum())
        note = f"{equal:,} of {len(self.files):,} pairs have equal pixels"
        return f"{table}\n{note}"

    def write(
        self, out: Path, count: int = SHOWN, inputs: Iterable[str | os.PathLike[str]] = ()
    ) -> list[Path]:
        """Writes `neighbours.csv` with all pairs, and `neighbours.png` with the first ones."""
        table = csv_of(
            {
                "file": self.files,
                "class": self.classes,
                "nearest": self.nearest_files,
                "nearest_class": self.nearest_classes,
                "distance": self.distances.numpy().astype(np.float32),
                "ratio": self.ratios.numpy().astype(np.float32),
                "pixels": self.pixels.numpy().astype(np.float32),
            }
        )
        pictures = pairs_sheet(
            self.first[:count], self.second[:count], ("image", "nearest"), self.images.medium
        )
        files = files_of(out)
        write_output(files[0], table, inputs=inputs)
        write_output(files[1], pictures, inputs=inputs)
        return files


def files_of(out: Path) -> list[Path]:
    """The files written by `Neighbours.write`."""
    return [out / "neighbours.csv", out / "neighbours.png"]


def refuse_files(out: Path, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raises the errors of `Neighbours.write` before long work."""
    for path in files_of(out):
        refuse_to_replace(path, inputs=inputs)


def neighbours_of(
    images: Images,
    latents: Tensor,
    others: Images | None = None,
    other_latents: Tensor | None = None,
    count: int = SHOWN,
) -> Neighbours:
    """Finds the nearest image of each image, by the Euclidean distance of codes.

    Args:
        images: N images.
        latents: (N, ...) their codes.
        others: search among these M images; None: among the images themselves, with mutual nearest
            pairs listed once.
        other_latents: (M, ...) their codes.
        count: number of pairs kept as pictures.

    Raises:
        DataError: there is only one image, and no other set to search.
    """
    codes = flat(latents)
    if others is None or other_latents is None:
        if len(images) < 2:
            raise DataError(
                "there is only one image; a neighbour needs another",
                hint="give a folder of several, or search in another set: --among train",
            )
        found = nearest_rows(codes, codes, 2)
        # The nearest point is the point itself, but not always first if several are equal.
        own = torch.arange(len(codes))
        second = found.rows[:, 0] == own
        rows = torch.where(second, found.rows[:, 1], found.rows[:, 0])
        apart = torch.where(second, found.distances[:, 1], found.distances[:, 0])
        keep = (own < rows) | (rows[rows] != own)
        first, nearest, apart = own[keep], rows[keep], apart[keep]
        others = images
    else:
        found = nearest_rows(codes, flat(other_latents))
        first, nearest, apart = torch.arange(len(codes)), found.rows[:, 0], found.distances[:, 0]
    pixels, other_pixels = unit_images(images), unit_images(others)
    differ = (pixels[first] - other_pixels[nearest]).square().flatten(1).mean(1).sqrt()
    # Among equal codes, pairs with equal pixels come first.
    order = torch.tensor(
        sorted(range(len(first)), key=lambda pair: (float(apart[pair]), float(differ[pair])))
    )
    first, nearest = first[order], nearest[order]
    names, classes = _names(images)
    other_names, other_classes = _names(others)
    shown = min(max(count, SHOWN), len(order))
    return Neighbours(
        [names[row] for row in first.tolist()],
        [classes[row] for row in first.tolist()],
        [other_names[row] for row in nearest.tolist()],
        [other_classes[row] for row in nearest.tolist()],
        apart[order],
        differ[order],
        pixels[first[:shown]],
        other_pixels[nearest[:shown]],
        images,
    )


def _names(images: Images) -> tuple[list[str], list[str]]:
    return names_of(images), list(images.class_names) or [""] * len(images)

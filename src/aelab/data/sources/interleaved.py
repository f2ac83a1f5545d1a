"""Several sets as one source: one image of each in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aelab.data.augment import freeze_images
from aelab.data.base import Source, make_images
from aelab.data.pixel_room import PixelRoom, parts_of
from aelab.errors import DataError, ShapeError
from aelab.medium import Medium, common_medium
from aelab.ops.classes import class_numbers, common_classes
from aelab.ops.value_range import range_words
from aelab.types import Images

if TYPE_CHECKING:
    from aelab.data.dataset import Dataset


class Interleaved(Source):
    """Takes one image of each set in turn until all sets are exhausted.

    Labels are kept where all sets have some; classes with the same name are merged.
    Sets with different random changes are frozen first, because a batch does not record which set
    an image came from. Repeat a set before, to keep several versions of each of its images.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        super().__init__()
        if not parts:
            raise DataError("interleave needs at least one data set")
        self.parts = tuple(parts)
        self.name = "+".join(dict.fromkeys(part.name for part in parts))
        self._medium = common_medium((part.name, part.medium) for part in parts)
        shapes = {part.item_shape() for part in parts}
        if len(shapes) > 1:
            raise ShapeError(
                f"cannot interleave images of shapes {sorted(shapes)}",
                hint="give all of them the same shape first: .resize((C, H, W))",
            )

    @property
    def medium(self) -> Medium:
        """The common medium of the sets."""
        return self._medium

    def item_shape(self) -> tuple[int, ...]:
        """The common shape of the sets."""
        return self.parts[0].item_shape()

    def count(self) -> int | None:
        """The sum over the sets; None if one of the numbers is not known."""
        counts = [part.count() for part in self.parts]
        return None if None in counts else sum(count for count in counts if count)

    def verify(self) -> None:
        """Raise DataError if files of any of the sets are missing."""
        for part in self.parts:
            part.verify()

    def reading_seconds(self) -> float | None:
        """The sum over the sets; None if one of them is not known."""
        seconds = [part.reading_seconds() for part in self.parts]
        return None if None in seconds else sum(value for value in seconds if value)

    def is_bytes(self) -> bool:
        """Whether the pixels of all sets are known to be uint8."""
        return all(part.is_bytes() for part in self.parts)

    def sources(self) -> list[tuple[str, str]]:
        """The sources of all sets, each once."""
        return list(dict.fromkeys(source for part in self.parts for source in part.sources()))

    def fingerprint(self) -> str:
        """The fingerprints of the sets, in order."""
        return "interleave(" + ", ".join(part.fingerprint() for part in self.parts) + ")"

    def read(self) -> Images:
        """Reads all sets and interleaves their images.

        Raises:
            DataError: the sets have different ranges of values.
        """
        loaded = [part.load() for part in self.parts]
        first = loaded[0]
        if any((i.augment, i.shape) != (first.augment, first.shape) for i in loaded):
            # Another seed for each set, so that equal sets get different random changes.
            loaded = [freeze_images(images, seed) for seed, images in enumerate(loaded)]
        ranges = {images.value_range for images in loaded}
        if len(ranges) > 1:
            raise DataError(
                f"{self.name}: cannot interleave images in "
                f"{' and '.join(map(range_words, ranges))}",
                hint="bring all of them to one range first",
            )
        counts = [len(images) for images in loaded]
        order = _turns(counts)
        room = PixelRoom(sum(counts), self.name)
        # The inverse of `order`: where each image of each set goes. Copied in parts, never joined
        # first.
        for part, places in zip(loaded, torch.split(order.argsort(), counts), strict=True):
            for some in parts_of(len(part), part.pixels[:1].nbytes):
                room.add(part.pixels[some], places[some])
        provenance = [entry for images in loaded for entry in images.provenance]
        facts: dict[str, Any] = {"resized": any(i.facts.get("resized") for i in loaded)}
        mapped, pixels = room.mapped, room.done()
        if mapped:
            facts["memory_mapped"] = True
        labels, names = self._labels(loaded)
        if names:
            facts["label_names"] = names
        factors = self._factors(loaded)
        if factors is not None:
            facts |= {key: first.facts[key] for key in ("factor_names", "factor_sizes")}
        if all(i.facts.get("alpha") for i in loaded):
            facts["alpha"] = True
        return make_images(
            pixels,
            labels=None if labels is None else labels[order],
            augment=loaded[0].augment,
            provenance=provenance,
            facts=facts,
            medium=self.medium,
            value_range=ranges.pop(),
            file_names=self._file_names(loaded, order),
            factors=None if factors is None else factors[order],
        )

    @staticmethod
    def _file_names(sets: Sequence[Images], order: Tensor) -> list[str]:
        """The file names of all sets in turn; empty for an image without one."""
        if not any(images.file_names for images in sets):
            return []
        names = [name for images in sets for name in images.file_names or [""] * len(images)]
        return [names[row] for row in order.tolist()]

    @staticmethod
    def _factors(sets: Sequence[Images]) -> Tensor | None:
        """The factors of all sets, if all have the same ones."""
        known = [images.factors for images in sets if images.factors is not None]
        kinds = {(i.factor_names, tuple(i.facts.get("factor_sizes") or ())) for i in sets}
        return torch.cat(known) if len(known) == len(sets) and len(kinds) == 1 else None

    @staticmethod
    def _labels(sets: Sequence[Images]) -> tuple[Tensor | None, list[str]]:
        """One numbering of all classes, if all sets have labels and all or none have names."""
        named = {bool(images.label_names) for images in sets}
        numbers = [class_numbers(images.labels) for images in sets]
        known = [labels for labels in numbers if labels is not None]
        if len(named) > 1 or len(known) < len(sets):
            return None, []
        if named == {False}:  # bare numbers stay as they are
            return torch.cat(known), []
        classes = common_classes(sets)
        return torch.cat([labels for labels in classes.labels if labels is not None]), list(
            classes.names
        )


def _turns(counts: Sequence[int]) -> Tensor:
    """Row numbers of the concatenated sets, in the order of taking turns."""
    round_number = torch.cat([torch.arange(count) for count in counts])
    part = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)])
    # Sorted by round, then by set; an exhausted set simply has no entry in later rounds.
    return (round_number * len(counts) + part).argsort()

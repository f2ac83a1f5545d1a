"""One numbering for the classes of several sets, matched by name, else by number.

Each set numbers its own classes. If train/ and val/ folders have different subfolders, the same
class has two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aelab.types import Images


class Classes(NamedTuple):
    """Labels of several sets in one numbering.

    Attributes:
        labels: one entry for each set: (N,) int64 from 0, or None where it has no labels.
        names: of the classes, by number.
    """

    labels: tuple[Tensor | None, ...]
    names: tuple[str, ...]


def class_numbers(labels: Tensor | None) -> Tensor | None:
    """Labels as class numbers, (N,) int64; None if they are missing or not classes.

    One whole number per image is a class, in any numeric type. Several numbers per image, or
    fractions, are something else (targets, one-hot codes).
    """
    if labels is None or labels.numel() != len(labels):
        return None
    numbers = labels.detach().cpu().reshape(-1)
    if numbers.is_floating_point() and not torch.equal(numbers, numbers.round()):
        return None
    return numbers.long()


def common_classes(sets: Sequence[Images]) -> Classes:
    """One numbering for the classes of all sets.

    If every labelled set has names, equal names are one class: first those of the first set in
    its order, then new ones. Otherwise equal numbers are one class, in ascending order; unused
    numbers are left out, because labels may be any whole numbers.
    """
    labelled = [images for images in sets if class_numbers(images.labels) is not None]
    known: dict[str | int, str]
    by_name = all(images.label_names for images in labelled)
    if by_name:
        known = {name: name for images in labelled for name in images.label_names}
        known |= {name: name for i in labelled for name in (_name(i, n) for n in _used(i))}
    else:
        used = sorted({number for images in labelled for number in _used(images)})
        known = {number: str(number) for number in used}
        for images in labelled:
            known |= {n: _name(images, n) for n in used if 0 <= n < len(images.label_names)}
    place = {key: number for number, key in enumerate(known)}

    def renumbered(images: Images) -> Tensor | None:
        """The new labels (N,) of one set; None where it has none."""
        numbers = class_numbers(images.labels)
        if numbers is None:
            return None
        # Only the distinct labels go through Python; `where` (N,) maps them back to images.
        values, where = torch.unique(numbers, return_inverse=True)
        keys = [_name(images, n) if by_name else n for n in values.tolist()]
        return torch.tensor([place[key] for key in keys], dtype=torch.int64)[where]

    return Classes(tuple(map(renumbered, sets)), tuple(known.values()))


def _used(images: Images) -> list[int]:
    numbers = class_numbers(images.labels)
    assert numbers is not None
    return [int(number) for number in torch.unique(numbers).tolist()]


def _name(images: Images, number: int) -> str:
    """The name of a class; its number where it has none."""
    names = images.label_names
    return names[number] if 0 <= number < len(names) else str(number)

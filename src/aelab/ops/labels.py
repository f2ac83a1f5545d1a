"""Labels for models that ask for them: one numbering, checks, and what is passed to the model.

A model asks by an attribute `label_classes`, the number of classes it knows. It is then called
with (images, noise, labels), and `encode` with (images, labels). A label below 0 is an unknown
class. Other models never see labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.findings import Finding
from aelab.ops.classes import class_numbers, common_classes
from aelab.types import Images

#: The label of an image whose class is not known.
UNKNOWN = -1

_Scheduled = Sequence[tuple[int, Images]]


def label_classes(model: object) -> int | None:
    """The number of classes that a model knows; None if it does not ask for labels."""
    return getattr(model, "label_classes", None)


def labels_given(model: nn.Module, labels: Tensor | None) -> tuple[Tensor, ...]:
    """The labels (B,) as a further argument of the model; () if it does not ask or none are known.

    They are moved to the model's device.
    """
    if label_classes(model) is None or labels is None:
        return ()
    parameter = next(model.parameters(), None)
    return (labels if parameter is None else labels.to(parameter.device),)


def with_labels_for(
    model: nn.Module, train: _Scheduled, held_out: _Scheduled
) -> tuple[list[tuple[int, Images]], list[tuple[int, Images]]]:
    """The sets (first epoch, images), with labels in one numbering if the model asks for them.

    Raises:
        ConfigError: a set has no classes, or together they have more than the model knows.
    """
    known, pairs = label_classes(model), [*train, *held_out]
    if known is None or not pairs:
        return list(train), list(held_out)
    for number, (_, images) in enumerate(pairs):
        key = "train_set" if number < len(train) else "validation_set"
        for finding in class_findings(model, images, key):
            raise ConfigError(finding.message, hint=finding.way_out)
    common = common_classes([images for _, images in pairs])
    if len(common.names) > known:
        finding = _too_many("the sets have", len(common.names), known)
        raise ConfigError(finding.message, hint=finding.way_out)
    numbered = [
        (first, _renumbered(images, labels, common.names))
        for (first, images), labels in zip(pairs, common.labels, strict=True)
    ]
    return numbered[: len(train)], numbered[len(train) :]


def class_findings(model: nn.Module, images: Images, name: str) -> list[Finding]:
    """Problems of a set for a model that asks for labels: no classes, or too many.

    Args:
        name: of the set, for messages.
    """
    known = label_classes(model)
    if known is None:
        return []
    if class_numbers(images.labels) is None:
        return [
            Finding(
                "problem",
                "no-classes",
                f"{type(model).__name__} is conditioned on classes, and the {name} has none",
                "use a set with classes, such as mnist_dataset(), or a folder with one subfolder "
                "for each class; or take a model without classes",
            )
        ]
    count = len(common_classes([images]).names)
    return [_too_many(f"the {name} has", count, known)] if count > known else []


def _too_many(who: str, count: int, known: int) -> Finding:
    return Finding(
        "problem",
        "too-many-classes",
        f"{who} {count} classes, the model knows {known}",
        f"write classes={count}; the decoder then takes {count} numbers besides the code",
    )


def labels_by_name(images: Images, names: Sequence[str]) -> Tensor | None:
    """The classes of images in the numbering of `names`; None if they have no classes.

    Returns:
        (N,) int64; `UNKNOWN` where `names` lacks the class.
    """
    numbers = class_numbers(images.labels)
    if numbers is None:
        return None
    place = {name: number for number, name in enumerate(names)}
    own = replace(images, labels=numbers).class_names
    return torch.tensor([place.get(name, UNKNOWN) for name in own], dtype=torch.int64)


def _renumbered(images: Images, labels: Tensor | None, names: tuple[str, ...]) -> Images:
    return replace(images, labels=labels, facts={**images.facts, "label_names": names})

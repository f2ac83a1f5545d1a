"""Conversion to `Images`, from tensors, arrays, and data sets of the lab and of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.types import Images

_POSSIBLE = (
    "give aelab.types.Images(pixels), pixels being (N, C, H, W), uint8 or float in 0..1; a tensor, "
    "a numpy array, a data set of aelab.data, or a torch Dataset whose items are tensors"
)


def as_images(given: Any, name: str) -> Images:
    """`given` as `Images`.

    Args:
        given: `Images`; a tensor or numpy array (N, C, H, W); a data set of the lab; or anything
            with a length whose items are tensors (C, H, W), or pairs of one and a label.
        name: used in messages.

    Raises:
        ConfigError: `given` is none of these.
    """
    if isinstance(given, Images):
        return given
    if isinstance(given, Tensor) or type(given).__module__ == "numpy":
        return Images(given)
    load = getattr(given, "load", None)
    if callable(load) and hasattr(given, "fingerprint"):
        images = load()
        assert isinstance(images, Images)
        return images
    if not isinstance(given, Sequence | dict) and hasattr(given, "__getitem__"):
        return _stacked(given, name)
    raise ConfigError(f"{name}: {type(given).__name__} is not a set of images", hint=_POSSIBLE)


def _stacked(given: Any, name: str) -> Images:
    """`Images` of the items of a torch Dataset; reads each item once."""
    try:
        items = [given[row] for row in range(len(given))]
    except TypeError as error:
        raise ConfigError(f"{name}: {type(given).__name__}: {error}", hint=_POSSIBLE) from error
    pairs = [item if isinstance(item, tuple | list) else (item,) for item in items]
    first = [pair[0] for pair in pairs]
    shapes = {tuple(image.shape) if isinstance(image, Tensor) else type(image) for image in first}
    if len(shapes) != 1 or not isinstance(first[0], Tensor):
        found = ", ".join(str(getattr(shape, "__name__", shape)) for shape in list(shapes)[:3])
        raise ConfigError(
            f"{name}: the items of a {type(given).__name__} must be tensors of one shape, not "
            f"{found or 'nothing'}",
            hint="transform=torchvision.transforms.ToTensor() makes tensors of pictures; or give "
            "aelab.types.Images(torch.stack(...))",
        )
    labels = [pair[1] for pair in pairs if len(pair) > 1]
    whole = len(labels) == len(pairs) and all(_is_whole(label) for label in labels)
    return Images(torch.stack(first), torch.tensor([int(n) for n in labels]) if whole else None)


def _is_whole(label: Any) -> bool:
    if isinstance(label, Tensor):
        return label.numel() == 1 and not label.is_floating_point()
    return isinstance(label, int)

"""Conversion to `Images`, from tensors, arrays, Pillow pictures, and data sets of lab and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aelab.errors import ConfigError
from aelab.types import Images

_POSSIBLE = (
    "give aelab.types.Images(pixels), pixels being (N, C, H, W), uint8 or float in 0..1; a tensor, "
    "a numpy array, pictures of Pillow, a data set of aelab.data, or a torch Dataset whose items "
    "are tensors or pictures"
)
#: Numbers of channels that the last axis of an array may be.
_CHANNELS = (1, 3, 4)


def as_images(given: Any, name: str) -> Images:
    """`given` as `Images`.

    Args:
        given: `Images`; a tensor (N, C, H, W); a numpy array of that, or (N, H, W, C) where only
            the last axis can be the channels, or (N, H, W); a Pillow picture; a data set of the
            lab; or a list or a torch Dataset whose items are tensors or arrays (C, H, W) or
            Pillow pictures, or pairs of one and a label.
        name: used in messages.

    Raises:
        ConfigError: `given` is none of these.
    """
    if isinstance(given, Images):
        return given
    if isinstance(given, Tensor):
        return Images(given)
    if isinstance(given, np.ndarray):
        return Images(_channels_first(given))
    if isinstance(given, Image.Image):
        return Images(picture_pixels(given)[None])
    load = getattr(given, "load", None)
    if callable(load) and hasattr(given, "fingerprint"):
        images = load()
        assert isinstance(images, Images)
        return images
    if hasattr(given, "__getitem__") and not isinstance(given, str | bytes | dict):
        return _stacked(given, name)
    raise ConfigError(f"{name}: {type(given).__name__} is not a set of images", hint=_POSSIBLE)


def picture_pixels(picture: Image.Image) -> Tensor:
    """A picture of Pillow as (C, H, W) uint8: grey 1, transparent 4, everything else 3 channels."""
    if picture.mode in ("1", "L"):
        kind = "L"
    else:
        clear = picture.mode in ("LA", "La", "RGBA", "RGBa", "PA")
        kind = "RGBA" if clear or "transparency" in picture.info else "RGB"
    values = torch.from_numpy(np.array(picture.convert(kind)))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def _channels_first(values: np.ndarray[Any, Any]) -> Tensor:
    """(N, H, W, C) or (N, H, W) as (N, C, H, W); anything else as it is."""
    tensor = torch.as_tensor(values.copy())  # a later change of it must not reach us
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim == 4 and tensor.shape[3] in _CHANNELS and tensor.shape[1] not in _CHANNELS:
        return tensor.permute(0, 3, 1, 2).contiguous()
    return tensor


def _stacked(given: Any, name: str) -> Images:
    """`Images` of the items of a torch Dataset or a list; reads each item once."""
    kind = type(given).__name__
    try:
        items = [given[row] for row in range(len(given))]
    except TypeError as error:
        raise ConfigError(f"{name}: {kind}: {error}", hint=_POSSIBLE) from error
    pairs = [item if isinstance(item, tuple | list) else (item,) for item in items]
    first: list[Any] = [_pixels(pair[0]) if pair else None for pair in pairs]
    shapes = {tuple(image.shape) if isinstance(image, Tensor) else type(image) for image in first}
    many = isinstance(given, list | tuple) and any(getattr(i, "ndim", 3) != 3 for i in first)
    if len(shapes) != 1 or not isinstance(first[0], Tensor) or many:
        found = ", ".join(str(getattr(shape, "__name__", shape)) for shape in list(shapes)[:3])
        raise ConfigError(
            f"{name}: the items of a {kind} must be tensors or pictures of one shape, not "
            f"{found or 'nothing'}",
            hint=f"bring all of them to one size and mode first, or {_POSSIBLE}",
        )
    labels = [pair[1] for pair in pairs if len(pair) > 1]
    whole = len(labels) == len(pairs) and all(_is_whole(label) for label in labels)
    return Images(torch.stack(first), torch.tensor([int(n) for n in labels]) if whole else None)


def _pixels(item: Any) -> Any:
    """A picture or an array as a tensor (C, H, W); anything else as it is."""
    if isinstance(item, Image.Image):
        return picture_pixels(item)
    if isinstance(item, np.ndarray):
        return _channels_first(item[None])[0]
    return item


def _is_whole(label: Any) -> bool:
    if isinstance(label, Tensor):
        return label.numel() == 1 and not label.is_floating_point()
    return isinstance(label, int | np.integer)

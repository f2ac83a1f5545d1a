"""Splits into training and validation by content, so that duplicates never lie on both sides.

The old split took every 21st item of a stream. Neighbouring tiles of one sheet, which are often
equal, landed on both sides, and the validation loss was too good.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from aelab.ops.color import composite_on_black, convert_channels

#: One of 21 images is for validation: 20 : 1, as in the documents.
PARTS = 21


def content_keys(pixels: Tensor) -> list[str]:
    """One key for each image, equal for equal images, their grey versions and their flips.

    Training flips images and may convert them to grey. Copies that differ only so would therefore
    be the same image on both sides of the split.

    Args:
        pixels: (N, C, H, W) uint8.

    Returns:
        Hexadecimal texts: the least of the keys of the four flips.
    """
    grey = pixels
    if pixels.shape[1] in (2, 4):
        grey = composite_on_black(pixels)
    if grey.shape[1] == 3:
        grey = convert_channels(grey, 1)
    # The four flips; the least key is the same for all of them.
    versions = [grey, grey.flip(3), grey.flip(2), grey.flip((2, 3))]
    columns = [[_key(image) for image in version.contiguous()] for version in versions]
    return [min(keys) for keys in zip(*columns, strict=True)]


def is_validation(keys: list[str], parts: int = PARTS) -> Tensor:
    """(N,) bool: whether each key falls into the validation part, one of `parts`."""
    # By the key alone, so the side of an image never depends on the other images of a set.
    return torch.tensor([int(key[:12], 16) % parts == 0 for key in keys], dtype=torch.bool)


def split_rows(pixels: Tensor, validation: bool | None, parts: int = PARTS) -> Tensor:
    """Row numbers of one side of the split; all rows for None."""
    if validation is None:
        return torch.arange(len(pixels))
    mask = is_validation(content_keys(pixels), parts)
    return (mask if validation else ~mask).nonzero()[:, 0]


def first_of_each(pixels: Tensor) -> Tensor:
    """Row numbers of the images without later duplicates, in order."""
    seen: dict[str, int] = {}
    for row, image in enumerate(pixels):
        seen.setdefault(_key(image), row)
    return torch.tensor(sorted(seen.values()), dtype=torch.int64)


def _key(image: Tensor) -> str:
    data = image.contiguous().numpy()
    return hashlib.blake2b(data.data, digest_size=12).hexdigest()

"""Conversion of image tensors for display: rows, PNG files, Pillow images."""

from __future__ import annotations

import io

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from aelab.medium import PIXELS, Medium
from aelab.ops.labels import labels_given
from aelab.ops.value_range import UNIT, from_unit, to_unit
from aelab.report.pictures import SheetRow
from aelab.types import Model, ValueRange


@torch.no_grad()
def reproduce(
    model: nn.Module,
    sample: Tensor,
    value_range: ValueRange = UNIT,
    labels: Tensor | None = None,
) -> Tensor:
    """Reconstructions of (B, C, H, W) images in 0..1, not clamped, on the CPU.

    The model runs in evaluation mode. `value_range`: its values of black and white. `labels`: (B,),
    for models that ask for them.
    """
    training = model.training
    model.eval()
    try:
        parameter = next(model.parameters(), None)
        device = parameter.device if parameter is not None else sample.device
        assert isinstance(model, Model)
        # A copy: a first layer that works in place would change the shown originals.
        given = from_unit(sample, value_range).to(device, copy=True)
        shown: Tensor = model(given, None, *labels_given(model, labels)).reconstruction
        return to_unit(shown.float(), value_range).cpu()
    finally:
        model.train(training)


def row(sample: Tensor, medium: Medium = PIXELS) -> Tensor:
    """Images (B, C, H, W) in 0..1 side by side: (H, B W, 1, 3 or 4) uint8.

    Four channels are kept, so that stored pictures have transparency.
    """
    return rearrange(medium.picture(sample, checker=False), "b c h w -> h (b w) c")


def png(picture: Tensor) -> bytes:
    """The bytes of a PNG file of a picture (H, W, 1, 3 or 4) uint8."""
    buffer = io.BytesIO()
    as_image(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_image(picture: Tensor) -> Image.Image:
    """A picture (H, W, 1, 3 or 4) uint8 as a Pillow image."""
    array = picture.contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def picture_line(
    label: str, images: Tensor, medium: Medium = PIXELS, *, original: bool = False
) -> SheetRow:
    """Images (B, C, H, W) in 0..1 as one named row of a sheet."""
    return SheetRow(label, as_pictures(images, medium), original, medium.gap)


def as_pictures(images: Tensor, medium: Medium = PIXELS) -> list[Image.Image]:
    """Images (B, C, H, W) in 0..1 as Pillow images."""
    return [as_image(rearrange(image, "c h w -> h w c")) for image in medium.picture(images)]

"""Conversion of image tensors for display: rows, PNG files, Pillow images."""

from __future__ import annotations

import io

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from aelab.medium import PIXELS, Medium
from aelab.ops.labels import labels_given
from aelab.ops.random import keyed_generator
from aelab.ops.value_range import UNIT, from_unit, to_unit
from aelab.report.pictures import SheetRow
from aelab.types import Model, Output, ValueRange


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
    output = _output(model, sample, None, value_range, labels)
    return to_unit(output.reconstruction.float(), value_range).cpu()


def seen_and_reproduced(
    model: nn.Module,
    sample: Tensor,
    value_range: ValueRange = UNIT,
    labels: Tensor | None = None,
) -> tuple[Tensor | None, Tensor]:
    """What a model sees of (B, C, H, W) images in 0..1, and its reconstructions, as `reproduce`.

    A model that hides parts of an image in training (its attribute `hides`) is shown here with the
    same parts hidden at every call; hidden pixels are grey. Of other models the first is None.
    """
    if not getattr(model, "hides", False):
        return None, reproduce(model, sample, value_range, labels)
    # Keyed by the place in the sample: pictures of all moments and runs have the same masks.
    size = (len(sample), *model.noise_shape)  # type: ignore[misc]
    noise = torch.randn(size, generator=keyed_generator(0, "hidden-parts"))
    output = _output(model, sample, noise, value_range, labels)
    mask: Tensor = output.posterior.mask.cpu()
    shown = to_unit(output.reconstruction.float(), value_range).cpu()
    return sample.cpu() * (1 - mask) + 0.5 * mask, shown


@torch.no_grad()
def _output(
    model: nn.Module,
    sample: Tensor,
    noise: Tensor | None,
    value_range: ValueRange,
    labels: Tensor | None,
) -> Output:
    """What a model makes of images in 0..1, in evaluation mode and on its own device."""
    training = model.training
    model.eval()
    try:
        parameter = next(model.parameters(), None)
        device = parameter.device if parameter is not None else sample.device
        assert isinstance(model, Model)
        # A copy: a first layer that works in place would change the shown originals.
        given = from_unit(sample, value_range).to(device, copy=True)
        noise = None if noise is None else noise.to(device)
        output: Output = model(given, noise, *labels_given(model, labels))
        return output
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

"""Tensors of images as what people see: rows, PNG files, Pillow images; characters as text."""

from __future__ import annotations

import io

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from aelab.glyphs import ALPHABET, character_numbers, font_renderer, side_by_side, to_lines
from aelab.ops.color import over_checker
from aelab.ops.value_range import UNIT, from_unit, to_unit
from aelab.report.pictures import PAPER_GAP, SheetRow
from aelab.types import Model, ValueRange

#: Size in pixels of the font that stored pictures of characters are drawn with.
FONT_RES = 8
#: Cells of characters that are drawn at once: some 100 MB.
CELLS = 1 << 18


@torch.no_grad()
def reproduce(model: nn.Module, sample: Tensor, value_range: ValueRange = UNIT) -> Tensor:
    """(B, C, H, W) 0..1 through the model in evaluation mode; clamped to 0..1, on the CPU.

    `value_range`: what the model learned as black and white.
    """
    training = model.training
    model.eval()
    try:
        parameter = next(model.parameters(), None)
        device = parameter.device if parameter is not None else sample.device
        assert isinstance(model, Model)
        # A copy: a first layer that works in place would change what is shown as the original.
        given = from_unit(sample, value_range).to(device, copy=True)
        shown: Tensor = model(given).reconstruction
        return to_unit(shown.float(), value_range).clamp(0, 1).cpu()
    finally:
        model.train(training)


def row(sample: Tensor, alphabet: str = "") -> Tensor:
    """(B, C, H, W) 0..1 side by side: (H, B W, 1, 3 or 4) uint8; characters are drawn in a font.

    Four channels stay: what is stored has its transparency.
    """
    return rearrange(seen(sample, alphabet, checker=False), "b c h w -> h (b w) c")


def seen(images: Tensor, alphabet: str = "", *, checker: bool = True) -> Tensor:
    """What people see of images: the one place where numbers of characters become pictures.

    Args:
        images: (B, C, H, W) in 0..1, as batches hold them.
        alphabet: of the set or the model; empty for pictures.
        checker: four channels, the last being alpha, are shown on a checkerboard; else they stay.

    Returns:
        (B, 1 or 3, H, W) uint8; of characters (B, 1, H h, W w), each cell h x w pixels of
        `FontRenderer(FONT_RES)`.
    """
    if alphabet:
        return _drawn(numbers_of(images))
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    channels = pixels.shape[1]
    if channels == 4:
        return over_checker(pixels) if checker else pixels
    if channels not in (1, 3):  # a picture has one or three: show the first, or the first three
        pixels = pixels[:, : 3 if channels > 3 else 1]
    return pixels


def _drawn(numbers: Tensor) -> Tensor:
    renderer = font_renderer(FONT_RES)
    parts = torch.split(numbers, max(1, CELLS // numbers[0].numel()))
    return torch.cat([(renderer.draw(part) * 255).round().to(torch.uint8) for part in parts])


def cell() -> tuple[int, int]:
    """Height and width in pixels of one character in stored pictures."""
    height, width = font_renderer(FONT_RES).cell
    return int(height), int(width)


def numbers_of(images: Tensor) -> Tensor:
    """(B, 1, H, W) as a model gives it -> numbers of characters (B, H, W) int64, on the CPU."""
    return character_numbers(images.cpu()).clamp(0, len(ALPHABET) - 1)


def texts(images: Tensor) -> list[list[str]]:
    """(B, 1, H, W) of characters as B times H lines of W characters."""
    return [to_lines(grid) for grid in numbers_of(images)]


def beside(originals: Tensor, reproductions: Tensor) -> list[str]:
    """(B, 1, H, W) each: `original   |   reconstruction`, H lines an example."""
    pairs = zip(texts(originals), texts(reproductions), strict=True)
    return ["\n".join(side_by_side(left, right)) for left, right in pairs]


def png(picture: Tensor) -> bytes:
    """(H, W, 1, 3 or 4) uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    as_image(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_image(picture: Tensor) -> Image.Image:
    """(H, W, 1, 3 or 4) uint8 as a Pillow image."""
    array = picture.contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def picture_line(
    label: str, images: Tensor, alphabet: str = "", *, original: bool = False
) -> SheetRow:
    """(B, C, H, W) 0..1 as one named row of a sheet."""
    gap = PAPER_GAP if alphabet else "white"
    return SheetRow(label, as_pictures(images, alphabet), original, gap)


def as_pictures(images: Tensor, alphabet: str = "") -> list[Image.Image]:
    """(B, C, H, W) 0..1 as Pillow images."""
    return [as_image(rearrange(image, "c h w -> h w c")) for image in seen(images, alphabet)]

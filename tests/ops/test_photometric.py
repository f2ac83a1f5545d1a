"""Rotation, contrast, brightness and saturation against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from aelab.ops.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    autocontrast,
    rotate,
)

#: Pillow rounds every result to 8 bit, and colours to grey by integers.
HALF_STEP, GREY_STEPS = 0.51 / 255, 2.6 / 255


def pictures(count: int, channels: int = 1, height: int = 12, width: int = 9) -> torch.Tensor:
    shape = (count, channels, height, width)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def pillow(picture: torch.Tensor) -> Image.Image:
    array = picture.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def tensor(image: Image.Image) -> torch.Tensor:
    array = torch.from_numpy(np.array(image))
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


def enhanced(kind, images: torch.Tensor, factors: list[float]) -> torch.Tensor:
    made = [tensor(kind(pillow(x)).enhance(f)) for x, f in zip(images, factors, strict=True)]
    return torch.stack(made) / 255


FACTORS = [0.0, 0.5, 1.0, 1.5, 3.7, 6.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_is_that_of_pillow(channels: int) -> None:
    images = pictures(len(FACTORS), channels)
    ours = adjust_brightness(images / 255, torch.tensor(FACTORS))
    theirs = enhanced(ImageEnhance.Brightness, images, FACTORS)
    # Pillow's blend truncates where it extrapolates.
    assert (ours - theirs).abs().max() <= 1.01 / 255
    assert ours.min() >= 0 and ours.max() <= 1


def test_contrast_is_that_of_pillow() -> None:
    factors = [f for f in FACTORS if f <= 1.5]  # larger ones enlarge Pillow's rounding of the mean
    images = pictures(len(factors))
    ours = adjust_contrast(images / 255, torch.tensor(factors))
    theirs = enhanced(ImageEnhance.Contrast, images, factors)
    assert (ours - theirs).abs().max() <= 1.6 / 255


def test_contrast_of_an_image_with_a_whole_mean_is_that_of_pillow_for_any_factor() -> None:
    image = torch.tensor([[100, 110], [90, 100]], dtype=torch.uint8)[None, None]
    images = image.expand(len(FACTORS), -1, -1, -1)
    ours = adjust_contrast(images / 255, torch.tensor(FACTORS))
    theirs = enhanced(ImageEnhance.Contrast, images, FACTORS)
    assert (ours - theirs).abs().max() <= 1.01 / 255


def test_saturation_is_that_of_pillow_and_leaves_grey_images() -> None:
    factors = [f for f in FACTORS if f <= 1.5]
    images = pictures(len(factors), 3)
    ours = adjust_saturation(images / 255, torch.tensor(factors))
    assert (ours - enhanced(ImageEnhance.Color, images, factors)).abs().max() <= GREY_STEPS
    grey = pictures(2) / 255
    assert torch.equal(adjust_saturation(grey, torch.tensor([0.0, 6.0])), grey)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_that_of_pillow(channels: int) -> None:
    images = (pictures(5, channels) // 3 + 20).to(torch.uint8)
    images[3] = 77  # a constant image stays
    theirs = torch.stack([tensor(ImageOps.autocontrast(pillow(x))) for x in images]) / 255
    # Pillow truncates.
    assert (autocontrast(images / 255) - theirs).abs().max() <= 1.01 / 255
    assert torch.equal(autocontrast(images / 255)[3], images[3] / 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9])
def test_rotation_is_that_of_pillow(channels: int, side: int) -> None:
    angles = [-45.0, -31.7, -10.0, 0.0, 3.3, 20.0, 44.9, 90.0, 180.0]
    images = pictures(len(angles), channels, side, side)
    ours = rotate(images, torch.tensor(angles))
    assert ours.dtype == torch.uint8
    theirs = torch.stack([tensor(pillow(x).rotate(a)) for x, a in zip(images, angles, strict=True)])
    differ = (ours != theirs).any(1).flatten(1).sum(1)
    assert differ.tolist() == [0] * len(angles)


def test_rotation_of_an_oblong_image_keeps_its_shape() -> None:
    images = pictures(2, 1, 6, 11)
    theirs = torch.stack([tensor(pillow(x).rotate(a)) for x, a in zip(images, (30, -20))])  # noqa: B905
    assert torch.equal(rotate(images, torch.tensor([30.0, -20.0])), theirs)

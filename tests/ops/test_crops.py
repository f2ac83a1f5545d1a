"""Crops, shifts and flips of batches against one image at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aelab.errors import ShapeError
from aelab.ops.augmented import changed_batch
from aelab.ops.crops import center_crop, crop_at, random_crop, random_flip, random_shift


def numbered(count: int = 6, height: int = 7, width: int = 9) -> Tensor:
    """Each value is another number, so that every move shows."""
    values = torch.arange(count * 2 * height * width, dtype=torch.float32)
    return values.view(count, 2, height, width)


def seed(number: int = 0) -> Generator:
    return Generator().manual_seed(number)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_gets_its_own_window(dtype: torch.dtype) -> None:
    images = numbered().to(dtype)
    tops, lefts = torch.tensor([0, 1, 2, 3, 4, 2]), torch.tensor([0, 5, 4, 3, 2, 1])
    cropped = crop_at(images, tops, lefts, (3, 4))
    for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        assert torch.equal(cropped[i], images[i, :, top : top + 3, left : left + 4])


def test_random_crops_reach_every_place_and_are_independent() -> None:
    images = numbered(1).expand(2000, -1, -1, -1)
    cropped = random_crop(images, (5, 6), seed())
    places = cropped[:, 0, 0, 0].unique()
    assert len(places) == 3 * 4  # (7 - 5 + 1) x (9 - 6 + 1)


def test_a_window_larger_than_the_images_is_told() -> None:
    with pytest.raises(ShapeError, match="cannot crop 8x4 out of 7x9"):
        random_crop(numbered(), (8, 4), seed())


def test_a_shift_brings_in_black_and_moves_no_further_than_said() -> None:
    images = numbered(500, 5, 5) + 1
    shifted = random_shift(images, 2, seed())
    padded = F.pad(images, (2,) * 4)
    seen = set()
    for i in range(500):
        matches = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(shifted[i], padded[i, :, top : top + 5, left : left + 5])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25
    assert random_shift(images, 0, seed()) is images


def test_flips_come_with_their_probabilities_and_alone() -> None:
    images = numbered(1).expand(4000, -1, -1, -1)
    flipped = random_flip(images, 0.4, 0.2, seed())
    versions = [images[0], images[0].flip(2), images[0].flip(1), images[0].flip((1, 2))]
    shares = torch.stack([(flipped == v).flatten(1).all(1).float().mean() for v in versions])
    assert torch.allclose(shares, torch.tensor([0.48, 0.32, 0.12, 0.08]), atol=0.03)


def test_flips_of_probability_zero_and_one_are_certain() -> None:
    images = numbered()
    assert torch.equal(random_flip(images, 0.0, 0.0, seed()), images)
    assert torch.equal(random_flip(images, 1.0, 1.0, seed()), images.flip((2, 3)))


def test_the_input_is_never_changed() -> None:
    images = numbered()
    before = images.clone()
    random_flip(images, 0.5, 0.5, seed())
    random_shift(images, 2, seed())
    random_crop(images, (3, 3), seed())
    assert torch.equal(images, before)


def test_the_same_generator_gives_the_same_change() -> None:
    images = numbered()
    for change in (
        lambda g: random_crop(images, (3, 3), g),
        lambda g: random_flip(images, 0.5, 0.5, g),
        lambda g: random_shift(images, 2, g),
    ):
        assert torch.equal(change(seed(4)), change(seed(4)))
        assert not torch.equal(change(seed(4)), change(seed(5)))


def test_the_centre_is_cut_out_or_set_into_black() -> None:
    images = numbered()
    assert torch.equal(center_crop(images, (3, 5)), images[:, :, 2:5, 2:7])
    larger = center_crop(images, (9, 9))
    assert torch.equal(larger[:, :, 1:8], images) and larger[:, :, 0].abs().sum() == 0
    mixed = center_crop(images, (9, 3))
    assert mixed.shape == (6, 2, 9, 3) and torch.equal(mixed[:, :, 1:8], images[:, :, :, 3:6])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_out_of_a_set_equals_gather_then_change(dtype: torch.dtype) -> None:
    def move(images: Tensor, generator: Generator) -> Tensor:
        return random_flip(random_shift(images, 1, generator), 0.5, 0.5, generator)

    def window(images: Tensor, generator: Generator) -> Tensor:
        return random_crop(images, (4, 5), generator)

    def noise(images: Tensor, generator: Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)

    pixels = torch.randint(0, 256, (20, 3, 7, 9), dtype=torch.uint8, generator=seed())
    pixels = pixels if dtype == torch.uint8 else pixels / 255
    index = torch.tensor([3, 3, 19, 0, 7])
    plain = pixels[index].float() * (1 / 255 if dtype == torch.uint8 else 1)
    generator = seed(2)
    for change in (window, move, noise):
        plain = change(plain, generator)
    window.moves_only = move.moves_only = True  # type: ignore[attr-defined]
    window.gather = lambda p, i, g: random_crop(p, (4, 5), g, i)  # type: ignore[attr-defined]
    assert torch.equal(changed_batch(pixels, index, (window, move, noise), seed(2)), plain)
    assert torch.equal(
        changed_batch(pixels, index, (), seed()), changed_batch(pixels, index, [], seed())
    )

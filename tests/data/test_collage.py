"""Collages: what is pasted where, how often, and that a seed gives the same ones again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aelab.data import COMBINATORS, Dataset, noise_dataset
from aelab.data.augment import augmented
from aelab.data.collage import Collage
from aelab.errors import DataError, ShapeError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_colours(count: int, size: int = 4) -> Tensor:
    """Image i is everywhere (i + 1) / 100."""
    values = (torch.arange(count) + 1) / 100
    return values.view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def colours(image: Tensor) -> set[int]:
    return {round(value * 100) for value in image.unique().tolist()}


def test_each_image_is_the_background_of_its_group_once() -> None:
    made = Collage((64, 64))(plain_colours(8), generator())
    assert made.shape == (8, 3, 64, 64)
    for index, image in enumerate(made):
        group = {4 * (index // 4) + 1 + k for k in range(4)}
        assert colours(image) <= group
        assert {round(image[0, y, x].item() * 100) for y, x in ((63, 63), (63, 0), (0, 63))} == {
            index + 1
        }
    seen = [colours(image) for image in Collage((64, 64))(plain_colours(400), generator(1))]
    assert sum(len(found) == 4 for found in seen) > 0.9 * 400  # some are pasted over


def test_pasted_images_keep_their_size_and_never_touch_the_far_edge() -> None:
    images = torch.zeros(2, 3, 3, 5)
    images[1] = 1.0
    change = Collage((7, 11), num_combine=2)
    lowest, most_right = 0, 0
    for seed in range(200):
        made = change(images, generator(seed))[0, 0]
        assert made.sum() == 15 and made[-1].sum() == 0 and made[:, -1].sum() == 0
        lowest = max(lowest, int(made.any(1).nonzero().max()))
        most_right = max(most_right, int(made.any(0).nonzero().max()))
    assert (lowest, most_right) == (5, 9)


def test_black_is_transparent_unless_it_is_not() -> None:
    images = torch.zeros(2, 1, 4, 4)
    images[0] = 0.5
    assert (Collage((9, 9), 2)(images, generator())[0] == 0.5).all()
    opaque = Collage((9, 9), 2, black_is_alpha=False)(images, generator())[0]
    assert int((opaque == 0).sum()) == 16
    images = torch.full((2, 3, 4, 4), 0.5)
    images[1] = torch.tensor([0.0, 0.25, 0.0]).view(3, 1, 1)  # black is black in all channels
    assert int((Collage((9, 9), 2)(images, generator())[0, 1] == 0.25).sum()) == 16


def test_backgrounds_are_nearest_or_bicubic_with_equal_chance() -> None:
    images = torch.rand(400, 1, 4, 4, generator=generator(3))
    made = Collage((12, 8), num_combine=1)(images, generator())
    nearest = F.interpolate(images, (12, 8), mode="nearest")
    bicubic = F.interpolate(images, (12, 8), mode="bicubic").clamp(0, 1)
    is_nearest = (made == nearest).flatten(1).all(1)
    is_bicubic = ((made - bicubic).abs() < 1e-6).flatten(1).all(1)
    assert (is_nearest ^ is_bicubic).all()
    assert 160 < int(is_nearest.sum()) < 240


def test_pasted_images_are_flipped_three_times_in_ten_each_way() -> None:
    images = torch.zeros(800, 1, 2, 2)
    images[1::2] = torch.tensor([[0.2, 0.4], [0.6, 0.8]])
    made = Collage((5, 5), num_combine=2)(images, generator())[::2, 0]
    first = torch.stack([image[image > 0][0] for image in made])
    shares = [
        ((first - value).abs() < 1e-6).float().mean().item() for value in (0.2, 0.4, 0.6, 0.8)
    ]
    assert sum(shares) == pytest.approx(1)
    for share, expected in zip(shares, (0.49, 0.21, 0.21, 0.09), strict=True):
        assert share == pytest.approx(expected, abs=0.06)


def test_the_order_of_pasting_is_random() -> None:
    """Of two large patches on one background, each is on top about half of the time."""
    change, images = Collage((5, 5), num_combine=3), plain_colours(3)
    on_top = [change(images, generator(seed))[0, 0, 2, 2].item() for seed in range(200)]
    assert 70 < sum(round(value * 100) == 2 for value in on_top) < 130
    assert {round(value * 100) for value in on_top} == {2, 3}


def test_left_over_images_are_combined_among_themselves() -> None:
    made = Collage((64, 64))(plain_colours(7), generator())
    assert [colours(image) <= {5, 6, 7} for image in made] == [False] * 4 + [True] * 3
    alone = Collage((8, 8))(plain_colours(5), generator())[4]
    assert colours(alone) == {5}


def test_bytes_and_floats_give_the_same_collages() -> None:
    pixels = torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8, generator=generator())
    change = Collage((10, 12))
    made = augmented(pixels, (change,), generator(5))
    assert torch.equal(made, change(pixels.float() / 255, generator(5)))
    assert made.dtype == torch.float32 and 0 <= made.min() and made.max() <= 1


def test_a_seed_gives_the_same_collages_and_another_seed_others() -> None:
    images = torch.rand(8, 3, 4, 4, generator=generator())
    change = Collage((9, 9))
    assert torch.equal(change(images, generator(1)), change(images, generator(1)))
    assert not torch.equal(change(images, generator(1)), change(images, generator(2)))


def test_a_set_of_collages_is_a_set_like_any_other() -> None:
    noise = noise_dataset((3, 8, 8), 10, seed=1)
    made: Dataset = noise.collage((3, 20, 16))
    old = COMBINATORS["ImageCombinePatchIterableDataset"](noise, (20, 16), num_combine=4)
    assert made.shape == (3, 20, 16) == made.load().shape and len(made) == 10
    assert made.fingerprint() == old.fingerprint()
    assert noise.collage((20, 16), num_combine=2).fingerprint() != made.fingerprint()
    frozen = made.freeze(1).load()
    assert frozen.pixels.shape == (10, 3, 20, 16) and not frozen.augment
    assert torch.equal(frozen.pixels, made.freeze(1).load().pixels)


def test_what_cannot_be_is_told() -> None:
    noise = noise_dataset((3, 8, 8), 10, seed=1)
    with pytest.raises(ShapeError, match="a collage of 8x16 needs smaller images to paste, not 8x"):
        noise.collage((8, 16))
    with pytest.raises(ShapeError, match="the images have 3 channels, the collage 1"):
        noise.collage((1, 16, 16))
    with pytest.raises(ShapeError, match="a size is"):
        noise.collage((16,))
    with pytest.raises(DataError, match="num_combine"):
        noise.collage((16, 16), num_combine=0)

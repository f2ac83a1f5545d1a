"""Random rotation, auto-contrast and colour jitter of batches: what is drawn, and by whom."""

from __future__ import annotations

import pytest
import torch

from aelab.data import TensorDataset
from aelab.data.augment import augmented
from aelab.data.transforms import ColorJitter, RandomAutocontrast, RandomPerspective, RandomRotation
from aelab.errors import DataError
from aelab.ops.photometric import adjust_brightness, adjust_contrast, autocontrast, perspective


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat_grey(count: int, value: float = 0.1) -> torch.Tensor:
    return torch.full((count, 1, 2, 2), value)


def test_brightness_factors_are_even_between_one_minus_and_one_plus_the_strength() -> None:
    images = ColorJitter(brightness=0.5).augment(flat_grey(4000), generator())
    factors = images[:, 0, 0, 0] / 0.1
    assert 0.5 <= factors.min() < 0.51 and 1.49 < factors.max() <= 1.5
    assert abs(factors.mean() - 1) < 0.02


def test_a_strength_of_five_is_factors_of_zero_to_six() -> None:
    images = ColorJitter(brightness=5).augment(flat_grey(4000), generator())
    factors = images[:, 0, 0, 0] / 0.1
    assert factors.min() < 0.01 and 5.98 < factors.max() <= 6
    assert abs(factors.mean() - 3) < 0.1


def test_brightness_and_contrast_come_in_both_orders() -> None:
    images = torch.tensor([[0.2, 0.9], [0.4, 0.1]]).expand(400, 1, 2, 2)
    jitter = ColorJitter(brightness=(2.0, 2.0), contrast=(1.5, 1.5), saturation=5)
    changed = jitter.augment(images, generator())
    twice, more = torch.full((400,), 2.0), torch.full((400,), 1.5)
    one = adjust_contrast(adjust_brightness(images, twice), more)
    other = adjust_brightness(adjust_contrast(images, more), twice)
    first = torch.isclose(changed, one).flatten(1).all(1)
    second = torch.isclose(changed, other).flatten(1).all(1)
    assert (first ^ second).all() and 150 < first.sum() < 250


def test_without_strength_nothing_changes() -> None:
    images = torch.rand(5, 3, 4, 4)
    assert torch.equal(ColorJitter().augment(images, generator()), images)


def test_half_of_the_images_get_their_contrast() -> None:
    images = torch.tensor([[0.2, 0.6]]).expand(1000, 1, 1, 2)
    changed = RandomAutocontrast(0.5).augment(images, generator())
    stretched = (changed == autocontrast(images)).flatten(1).all(1)
    assert 450 < stretched.sum() < 550
    assert torch.equal(changed[~stretched], images[~stretched])


def test_every_image_turns_by_its_own_angle_and_corners_come_in_black() -> None:
    images = torch.ones(50, 1, 20, 20)
    turned = RandomRotation(45).augment(images, generator())
    lost = (turned == 0).flatten(1).sum(1)
    assert len(lost.unique()) > 10 and lost.max() > 40
    quarter = RandomRotation((90, 90)).augment(images, generator())
    assert torch.equal(quarter, images)


def test_a_slant_is_torchvisions() -> None:
    """torchvision 0.28.0, `functional.perspective` of a ramp, fill 0.5."""
    ramp = torch.arange(20.0).view(1, 1, 4, 5) / 20
    start = torch.tensor([[[0, 0], [4, 0], [4, 3], [0, 3]]])
    end = torch.tensor([[[1, 0], [3, 1], [4, 3], [0, 2]]])
    bilinear = [
        [0.3787, 0.0578, 0.5000, 0.5000, 0.5000],
        [0.3953, 0.4625, 0.4042, 0.2872, 0.5000],
        [0.5905, 0.6736, 0.6766, 0.6812, 0.5000],
        [0.6304, 0.6892, 0.7783, 0.8595, 0.9080],
    ]
    nearest = [
        [0.50, 0.00, 0.50, 0.50, 0.50],
        [0.50, 0.50, 0.35, 0.20, 0.50],
        [0.75, 0.80, 0.60, 0.65, 0.50],
        [0.75, 0.80, 0.80, 0.85, 0.95],
    ]
    for mode, wanted in (("bilinear", bilinear), ("nearest", nearest)):
        moved = perspective(ramp, start, end, mode, torch.tensor([0.5]))
        torch.testing.assert_close(moved[0, 0], torch.tensor(wanted), atol=1e-4, rtol=0)


def test_every_image_has_its_own_slant_and_corners_move_inwards_only() -> None:
    images = torch.ones(200, 1, 20, 30)
    moved = RandomPerspective(0.5, p=1.0).augment(images, generator())
    lost = (moved < 0.5).flatten(1).sum(1)
    assert len(lost.unique()) > 50 and (moved[:, :, 10, 15] > 0.99).all()
    assert torch.equal(RandomPerspective(0.5, p=0.0).augment(images, generator()), images)
    changed = (RandomPerspective().augment(images, generator()) != images).flatten(1).any(1)
    assert 70 < changed.sum() < 130
    filled = RandomPerspective(1.0, 1.0, "nearest", fill=1.0).augment(images, generator())
    assert torch.equal(filled, images)
    assert RandomPerspective(1.0, p=1.0).augment(images, generator()).isfinite().all()


@pytest.mark.parametrize(
    "change",
    [RandomRotation(45), RandomAutocontrast(), ColorJitter(5, 5), RandomPerspective(0.6, 1.0)],
)
def test_the_same_generator_gives_the_same_images(change) -> None:
    images = torch.rand(6, 1, 8, 8)
    first, again = (change.augment(images, generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, change.augment(images, generator(4)))
    assert first.shape == images.shape and 0 <= first.min() and first.max() <= 1
    assert change(images[0]).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: RandomRotation(-1), "RandomRotation: degrees"),
        (lambda: RandomRotation("x"), "RandomRotation: degrees"),
        (lambda: RandomPerspective(1.5), "distortion_scale must be in 0..1, not 1.5"),
        (lambda: RandomPerspective(p=-1), "p must be in 0..1, not -1"),
        (lambda: RandomPerspective(interpolation="bicubic"), "'bilinear' or 'nearest'"),
        (lambda: ColorJitter(brightness=-0.5), "ColorJitter: brightness"),
        (lambda: ColorJitter(contrast=(2, 1)), "ColorJitter: contrast"),
    ],
)
def test_strengths_that_make_no_sense_are_told(make, what: str) -> None:
    with pytest.raises(DataError, match=what):
        make()


def test_in_a_set_they_run_with_each_batch_and_a_resize_after_them_stays_in_range() -> None:
    pixels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
    pixels[:, :, 8:20, 12:16] = 255
    changes = [RandomRotation(45), RandomAutocontrast(0.5), ColorJitter(5, 5, 5)]
    images = TensorDataset(pixels).transform([lambda x: x / 255.0, *changes])
    images = images.resize((1, 32, 32), "bicubic").load()
    assert images.shape == (1, 32, 32) and len(images.augment) > 0
    batch = augmented(images.pixels, images.augment, generator())
    assert batch.shape == (8, 1, 32, 32) and 0 <= batch.min() and batch.max() <= 1

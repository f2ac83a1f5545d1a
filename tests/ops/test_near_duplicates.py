"""Nearly the same images in both sets are told; images that are merely alike are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aelab.data import TRANSFORMS, TensorDataset, TransformDataset
from aelab.ops.near_duplicates import near_duplicate_findings
from aelab.types import Images

NAMES = ("train_set", "validation_set")


def smooth(count: int, seed: int, channels: int = 1) -> Tensor:
    """(N, C, 16, 16) images of a few soft spots."""
    coarse = torch.rand((count, channels, 4, 4), generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, (16, 16), mode="bicubic").clamp(0, 1)


def told(train: Tensor, validation: Tensor) -> list[str]:
    found = near_duplicate_findings(Images(train), Images(validation), NAMES)
    assert {each.code for each in found} <= {"data-overlap"}
    return [each.message for each in found]


COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "lighter": lambda images: 0.8 * images + 0.1,
    "darker towards the ends": lambda images: images**1.3,
    "noisy": lambda x: x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(9)),
    "mirrored": lambda images: images.flip(-1),
    "upside down": lambda images: images.flip(-2),
    "moved by a pixel": lambda images: images.roll(1, -1),
    "in 8 bits": lambda images: (images * 255).round() / 255,
    "blurred": lambda x: interpolate(interpolate(x, (12, 12), mode="area"), 16, mode="bilinear"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_changed_copies_are_told(change: Callable[[Tensor], Tensor], channels: int) -> None:
    train = smooth(600, seed=1, channels=channels)
    mixed = torch.cat([smooth(120, seed=2, channels=channels), change(train[100:180]).clamp(0, 1)])
    (message,) = told(train, mixed)
    share = int(message.split("about ")[1].split("%")[0])
    assert 30 <= share <= 50  # 80 of 200
    row = int(message.split("image ")[-1].split()[0])
    assert row >= 120


def test_several_copies_of_each_image_are_told_too() -> None:
    """As from changing images first and splitting afterwards."""
    once = smooth(150, seed=1)
    several = torch.cat([once * factor + 0.1 for factor in (0.9, 0.8, 0.7, 0.6)])
    order = torch.randperm(len(several), generator=torch.Generator().manual_seed(0))
    assert told(several[order[100:]], several[order[:100]])


def test_other_images_of_the_same_kind_are_no_copies() -> None:
    assert told(smooth(600, seed=1), smooth(200, seed=2)) == []


def test_images_of_few_directions_are_no_copies() -> None:
    """Neighbours are near there, but none is far nearer than the next ones."""
    numbers = torch.rand((2000, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    made = (numbers * smooth(3, seed=5)[:, 0]).sum(1, keepdim=True) / 3
    assert told(made[:1500], made[1500:]) == []


def test_equal_images_are_left_to_the_exact_comparison() -> None:
    train = smooth(600, seed=1)
    assert told(train, train[:100]) == []


def test_even_images_are_no_copies_of_each_other() -> None:
    train = torch.cat([smooth(300, seed=1), torch.full((300, 1, 16, 16), 0.5)])
    assert told(train, torch.full((50, 1, 16, 16), 0.4)) == []


def test_few_copies_among_many_images_are_not_told() -> None:
    train = smooth(600, seed=1)
    assert told(train, torch.cat([smooth(195, seed=2), 0.9 * train[:5]])) == []


def test_sets_that_cannot_be_compared_are_left_out() -> None:
    assert told(smooth(600, seed=1), smooth(200, seed=1)[:, :, :12]) == []
    assert told(smooth(5, seed=1), smooth(5, seed=2)) == []


def test_sets_whose_stored_images_differ_in_size_are_not_compared() -> None:
    train = TransformDataset(
        TensorDataset(smooth(80, seed=1)), transforms=[TRANSFORMS["RandomCrop"]((8, 8))]
    )
    validation = TensorDataset(smooth(80, seed=1)[..., :8, :8]).load()
    cropped = train.load()
    assert cropped.shape == validation.shape and cropped.pixels.shape[-1] == 16
    assert near_duplicate_findings(cropped, validation, NAMES) == []

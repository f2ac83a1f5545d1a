from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aelab.ops.look import (
    all_equal,
    findings_in_images,
    loss_findings,
    pair_findings,
    row_hashes,
    shared_images,
    values_of,
)
from aelab.types import Images


def codes(images: Images) -> list[tuple[str, str]]:
    return [(found.level, found.code) for found in findings_in_images(images, "train_set")]


def grey(count: int = 20, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_good_set_of_any_type_has_no_findings() -> None:
    bytes_ = (grey() * 255).to(torch.uint8)
    for pixels in (bytes_, grey(), grey().double(), grey().half(), (grey() > 0.5)):
        assert codes(Images(pixels)) == []


def test_a_pixel_that_is_not_finite_is_named_with_its_image() -> None:
    pixels = grey()
    pixels[7, 0, 3, 3] = float("nan")
    pixels[9, 0, 0, 0] = float("inf")
    (found,) = findings_in_images(Images(pixels), "train_set")
    assert (found.level, found.code) == ("problem", "data-not-finite")
    assert found.message == "train_set: image 7 has a pixel that is NaN, and 1 more of 20"


def test_values_are_those_of_the_finite_pixels() -> None:
    pixels = grey() + 0
    pixels[3] = -float("inf")
    values = values_of(pixels)
    rest = torch.cat([pixels[:3], pixels[4:]])
    assert (values.low, values.high) == pytest.approx((rest.min().item(), rest.max().item()))
    assert (values.first_bad, values.bad_images, values.bad_value) == (3, 1, "infinity")


@pytest.mark.parametrize(
    ("pixels", "way"),
    [
        (grey() * 255, "divide by 255"),
        ((grey() * 255).long(), "divide by 255"),
        (grey() * 65_535, "divide by 65535"),
        ((grey() * 65_535).to(torch.uint16), "divide by 65535"),
    ],
)
def test_images_of_another_unit_are_refused_with_the_divisor(pixels: Tensor, way: str) -> None:
    (found,) = findings_in_images(Images(pixels), "train_set")
    assert (found.level, found.code) == ("problem", "data-out-of-range")
    assert way in found.way_out


def test_values_a_little_beyond_are_noted_and_may_be_declared() -> None:
    wide = grey() * 4 - 2
    assert codes(Images(wide)) == [("note", "data-out-of-range")]
    assert codes(Images(wide, value_range=(-2.0, 2.0))) == []
    assert codes(Images(grey() * 1000, value_range=(0.0, 1000.0))) == []


def test_random_changes_that_leave_the_range_are_found() -> None:
    def brighter(images: Tensor, generator: torch.Generator) -> Tensor:
        return images * 255

    def broken(images: Tensor, generator: torch.Generator) -> Tensor:
        return images / 0.0 * 0.0

    (found,) = findings_in_images(Images(grey(), augment=(brighter,)), "train_set")
    assert found.level == "problem" and "after its random changes" in found.message
    (found,) = findings_in_images(Images(grey(), augment=(broken,)), "train_set")
    assert found.code == "data-not-finite" and "random changes" in found.message


@pytest.mark.parametrize("shape", [(20, 8, 8, 1), (20, 16, 12, 3), (20, 16, 16, 4)])
def test_channels_last_is_told_with_the_permutation(shape: tuple[int, ...]) -> None:
    (found,) = findings_in_images(Images(torch.rand(shape)), "train_set")
    assert found.level == "problem" and "permute(0, 3, 1, 2)" in found.way_out


def test_images_without_a_channel_are_told_how_to_get_one() -> None:
    (found,) = findings_in_images(Images(torch.rand(20, 8, 8)), "train_set")
    assert found.level == "problem" and "images[:, None]" in found.way_out


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (torch.zeros(5, 1, 4, 4, dtype=torch.uint8), "every pixel of every image is 0"),
        (grey(1), "one image only"),
        (grey(1).repeat(6, 1, 1, 1), "all 6 images are the same"),
    ],
)
def test_constant_sets_are_noted(pixels: Tensor, words: str) -> None:
    (found,) = findings_in_images(Images(pixels), "train_set")
    assert (found.level, found.code) == ("note", "data-constant")
    assert words in found.message


def test_sets_of_equal_beginnings_are_not_constant() -> None:
    pixels = grey(1).repeat(300, 1, 1, 1)
    pixels[299, 0, 0, 0] += 0.5
    assert not all_equal(pixels)


def test_labels_must_be_one_whole_number_an_image() -> None:
    for labels in (torch.zeros(19, dtype=torch.int64), torch.rand(20), torch.zeros(20, 1).long()):
        assert codes(Images(grey(), labels=labels)) == [("problem", "data-labels")]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 5, 7), (1, 8, 8)])
def test_shared_images_are_counted_exactly(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    pixels = torch.randint(0, 256, (500, *shape), generator=torch.Generator().manual_seed(1))
    train = Images(pixels[:400].to(dtype))
    other = pixels[400:].clone()
    other[[3, 50, 51]] = pixels[[7, 0, 399]]
    assert shared_images(train, Images(other.to(dtype))) == (3, 3)


def test_bytes_and_their_floats_are_the_same_images() -> None:
    pixels = torch.randint(0, 256, (50, 1, 6, 6), dtype=torch.uint8)
    assert shared_images(Images(pixels), Images(pixels[:10].float() / 255)) == (10, 0)


def test_hashes_of_images_that_differ_in_one_bit_differ() -> None:
    rows = torch.zeros(8 * 64 + 1, 64, dtype=torch.uint8)
    for bit in range(8 * 64):
        rows[bit + 1, bit // 8] = 1 << bit % 8
    assert len(row_hashes(rows).unique()) == len(rows)  # type: ignore[no-untyped-call]


def test_the_two_sides_are_compared() -> None:
    def found(train: Images, validation: Images) -> list[str]:
        return [f.code for f in pair_findings(train, validation, ("train_set", "validation_set"))]

    train = Images(grey(seed=1), labels=torch.arange(20) % 4)
    assert found(train, Images(grey(seed=2), labels=torch.arange(20) % 4)) == []
    assert found(train, Images(grey(seed=2), labels=torch.arange(20) % 5)) == ["data-labels-differ"]
    many = Images(grey(400, seed=3), labels=torch.arange(400) % 300)
    assert found(many, Images(grey(seed=2), labels=torch.arange(20))) == ["data-labels-differ"]
    nearly = Images(grey(298, seed=4), labels=torch.arange(298))
    assert found(many, nearly) == []  # two of 300 fonts
    assert found(train, Images(grey(seed=1)[:3])) == ["data-overlap"]
    assert found(train, Images(torch.rand(5, 1, 9, 8))) == ["data-shapes-differ"]
    other = Images(grey(seed=2), value_range=(-1.0, 1.0))
    assert found(train, other) == ["data-ranges-differ"]


def test_a_loss_of_targets_in_0_to_1_refuses_others() -> None:
    ranges = {"bce": (0.0, 1.0)}
    declared = Images(grey() * 2 - 1, value_range=(-1.0, 1.0))
    (found,) = loss_findings(declared, "train_set", ranges)
    assert found.level == "problem"
    assert "bce compares with images in 0..1, these have values from -0.99" in found.message
    assert loss_findings(Images(grey()), "train_set", ranges) == []
    assert loss_findings(declared, "train_set", {}) == []


def test_an_image_and_its_negative_are_told_apart() -> None:
    images = torch.randint(0, 2, (20, 1, 8, 8), dtype=torch.uint8) * 255
    hashes = row_hashes(torch.cat([images, 255 - images]))
    assert len(hashes.unique()) == 40

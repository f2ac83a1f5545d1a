"""Resizing against Pillow, and against torch where torch defines the name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from aelab.errors import DataError, ShapeError
from aelab.ops.color import composite_on_black, convert_channels
from aelab.ops.resize import FILTERS, filter_name, resize, resize_rgba

PILLOW = {
    "pillow-nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SIZES = [(28, 28), (20, 20), (45, 33), (64, 64), (7, 50), (32, 9), (1, 1)]


def noise_pixels(count: int = 4, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def by_pillow(pixels: torch.Tensor, size: tuple[int, int], name: str) -> torch.Tensor:
    planes = []
    for plane in pixels.flatten(0, 1):
        image = Image.fromarray(plane.numpy())
        if size[0] / pixels.shape[2] < size[1] / pixels.shape[3]:
            # Pillow 13 turns the order of the passes where the height shrinks much more; until 12
            # the width was always first, which is what aelab does with every version.
            image = image.resize((size[1], image.height), PILLOW[name])
        planes.append(torch.from_numpy(np.array(image.resize((size[1], size[0]), PILLOW[name]))))
    return torch.stack(planes).reshape(*pixels.shape[:2], *size)


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("size", SIZES)
def test_uint8_resize_equals_pillow_bit_for_bit(name: str, size: tuple[int, int]) -> None:
    pixels = noise_pixels()
    assert torch.equal(resize(pixels, size, name), by_pillow(pixels, size, name))


def test_pillow_nearest_equals_pillow_at_all_small_sizes() -> None:
    for inner in range(1, 40):
        pixels = torch.arange(inner, dtype=torch.uint8).expand(1, 1, 2, inner).contiguous()
        for outer in range(1, 40):
            ours = resize(pixels, (2, outer), "pillow-nearest")
            assert torch.equal(ours, by_pillow(pixels, (2, outer), "pillow-nearest"))


@pytest.mark.parametrize("name", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("size", SIZES)
def test_nearest_equals_torch(name: str, size: tuple[int, int]) -> None:
    pixels = noise_pixels()
    assert torch.equal(resize(pixels, size, name), F.interpolate(pixels, size, mode=name))


def test_the_three_nearest_filters_differ_where_the_documents_resized() -> None:
    pixels = noise_pixels()
    old, exact, pillow = (
        resize(pixels, (28, 28), name) for name in ("nearest", "nearest-exact", "pillow-nearest")
    )
    assert not torch.equal(old, exact)
    assert not torch.equal(exact, pillow)


@pytest.mark.parametrize("size", SIZES)
def test_antialiased_bilinear_equals_torch_within_one_step(size: tuple[int, int]) -> None:
    pixels = noise_pixels()
    planes = pixels.flatten(0, 1)[:, None]  # torch asserts wrongly on three channels to 1 x 1
    theirs = F.interpolate(planes, size, mode="bilinear", antialias=True).view(4, 3, *size)
    assert (resize(pixels, size).int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("name", FILTERS)
def test_float_images_resize_like_bytes_and_stay_in_range(name: str) -> None:
    pixels = noise_pixels()
    as_float = resize(pixels.float() / 255, (21, 40), name)
    as_bytes = resize(pixels, (21, 40), name).float() / 255
    assert as_float.dtype == torch.float32
    assert as_float.min() >= 0 and as_float.max() <= 1
    # each of two passes rounds by half a step; negative lobes amplify the first rounding
    assert (as_float - as_bytes).abs().max() <= 1.6 / 255


def test_a_constant_image_stays_constant_under_every_filter() -> None:
    pixels = torch.full((2, 1, 13, 17), 77, dtype=torch.uint8)
    for name in FILTERS:
        assert (resize(pixels, (30, 5), name) == 77).all(), name


def test_without_antialias_shrinking_looks_at_few_pixels() -> None:
    pixels = torch.zeros(1, 1, 8, 64, dtype=torch.uint8)
    pixels[..., 0] = 255
    assert resize(pixels, (8, 4), "bilinear", antialias=False).max() == 0
    assert resize(pixels, (8, 4), "bilinear").max() > 0


def test_a_fitting_size_returns_the_same_tensor() -> None:
    pixels = noise_pixels()
    assert resize(pixels, (32, 32), "nearest") is pixels


def test_large_sets_are_resized_in_chunks_with_the_same_result() -> None:
    pixels = noise_pixels(3, 700, 900)
    whole = resize(pixels, (350, 401), "bicubic")
    single = torch.cat([resize(pixels[i : i + 1], (350, 401), "bicubic") for i in range(3)])
    assert torch.equal(whole, single)


def test_the_old_flag_names_filters() -> None:
    assert filter_name(True) == "bilinear"
    assert filter_name(False) == "nearest"
    assert filter_name("Nearest_Exact") == "nearest-exact"


def test_an_unknown_filter_names_the_nearest_and_all() -> None:
    with pytest.raises(DataError, match="did you mean 'bicubic'") as raised:
        filter_name("bicubical")
    assert "pillow-nearest" in str(raised.value)


def test_an_empty_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="sizes start at 1"):
        resize(noise_pixels(), (0, 5))


def test_grey_is_the_luma_of_the_documents() -> None:
    pixels = noise_pixels()
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64)
    expected = torch.einsum("nchw,c->nhw", pixels.double(), weights)[:, None]
    grey = convert_channels(pixels, 1)
    assert grey.dtype == torch.uint8
    assert (grey.double() - expected).abs().max() <= 0.5001
    as_float = convert_channels(pixels.float() / 255, 1)
    assert torch.allclose(as_float, (expected / 255).float(), atol=1e-6)


def test_colour_of_grey_repeats_and_other_pairs_are_refused() -> None:
    grey = noise_pixels()[:, :1]
    assert torch.equal(convert_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert torch.equal(convert_channels(grey, 5)[:, 4], grey[:, 0])
    with pytest.raises(ShapeError, match="3 channels into 2"):
        convert_channels(noise_pixels(), 2)


def test_alpha_is_composited_on_black() -> None:
    rgba = torch.tensor([200, 100, 50, 128], dtype=torch.uint8).reshape(1, 4, 1, 1)
    assert composite_on_black(rgba).flatten().tolist() == [100, 50, 25]
    assert composite_on_black(rgba[:, 2:]).flatten().tolist() == [25]


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_window_is_the_same_part_of_the_whole(filter: str, dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (2, 3, 13, 29)).to(dtype)
    for size in ((40, 70), (5, 9), (13, 50), (30, 29)):
        whole = resize(pixels, size, filter)
        part = resize(pixels, size, filter, window=(2, 3, 3, 5))
        assert torch.equal(part, whole[..., 2:5, 3:8])


def test_colours_of_invisible_pixels_do_not_shine_through() -> None:
    pixels = torch.zeros(1, 4, 8, 8, dtype=torch.uint8)
    pixels[:, 0] = 255  # invisible red everywhere
    pixels[:, :, 2:6, 2:6] = torch.tensor([0, 200, 0, 255], dtype=torch.uint8).view(4, 1, 1)
    for size in ((5, 5), (16, 16), (3, 8)):
        made = resize_rgba(pixels, size, "bilinear")
        visible = made[:, 3] > 0
        assert made.dtype == torch.uint8 and visible.any() and not visible.all()
        assert int(made[:, 0].max()) == 0
        assert (made[:, 1][visible].int() - 200).abs().max() <= 1


def test_a_side_that_would_need_too_many_weights_is_refused() -> None:
    with pytest.raises(ShapeError, match="too much memory"):
        resize(torch.zeros(1, 1, 1, 20_000, dtype=torch.uint8), (1, 30_000), "bilinear")

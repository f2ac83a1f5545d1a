"""Noises: how much they change, by their own draws, and against other implementations."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from aelab.data import TRANSFORMS
from aelab.data.noises import NOISES
from aelab.data.transforms import RandomTransform
from aelab.errors import DataError


def applied(noise: RandomTransform, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return noise.augment(images, torch.Generator().manual_seed(seed))


def pictures(count: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, 13, 18, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NOISES)
def test_a_noise_repeats_itself_differs_by_image_and_leaves_its_input(name: str) -> None:
    noise, images = NOISES[name](), pictures(1).repeat(4, 1, 1, 1)
    kept = images.clone()
    made = applied(noise, images)
    assert made.shape == images.shape and made.dtype == images.dtype
    assert torch.equal(images, kept) and torch.equal(made, applied(noise, images))
    assert not torch.equal(made[0], made[1]) and not torch.equal(made, applied(noise, images, 1))
    assert made.min() >= 0 and made.max() <= 1 and TRANSFORMS[name] is NOISES[name]


def test_masking_hides_whole_squares_of_all_channels() -> None:
    made = applied(NOISES["MaskingNoise"](0.3, block=4, fill=0.5), torch.ones(200, 3, 13, 18))
    hidden = made == 0.5
    assert torch.equal(hidden[:, :1].expand_as(hidden), hidden)
    cells = hidden[:, 0, ::4, ::4]
    assert cells.float().mean().item() == pytest.approx(0.3, abs=0.02)
    again = cells.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :13, :18]
    assert torch.equal(hidden[:, 0], again)
    assert applied(NOISES["MaskingNoise"](1.0), pictures()).eq(0).all()
    assert torch.equal(applied(NOISES["MaskingNoise"](0.0), pictures()), pictures())


def test_salt_and_pepper_are_equally_many_and_the_rest_stays() -> None:
    images = 0.2 + 0.6 * pictures(100)
    made = applied(NOISES["SaltAndPepper"](0.4), images)
    black, white = made.eq(0), made.eq(1)
    assert black.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert white.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(made[~(black | white)], images[~(black | white)])


def test_photons_have_the_mean_and_the_variance_of_poisson() -> None:
    for value, photons in ((0.3, 20.0), (0.1, 100.0)):
        made = applied(NOISES["ShotNoise"](photons), torch.full((100, 1, 20, 20), value))
        assert made.mean().item() == pytest.approx(value, rel=0.01)
        assert made.var().item() == pytest.approx(value / photons, rel=0.03)
        assert torch.allclose((made * photons).round(), made * photons, atol=1e-4)


def test_speckles_grow_with_the_brightness() -> None:
    made = applied(NOISES["SpeckleNoise"](0.1), torch.full((100, 1, 20, 20), 0.5))
    assert made.std().item() == pytest.approx(0.05, rel=0.02)
    assert applied(NOISES["SpeckleNoise"](0.1), torch.zeros(2, 1, 4, 4)).eq(0).all()


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_a_blur_is_that_of_scipy(sigma: float) -> None:
    images = pictures()
    made = applied(NOISES["RandomBlur"](sigma), images)
    radius = max(1, round(3 * sigma))
    for row in range(len(images)):
        for channel in range(3):
            plane = images[row, channel].double().numpy()
            expected = gaussian_filter(plane, sigma, mode="mirror", radius=radius)
            torch.testing.assert_close(
                made[row, channel].double(), torch.from_numpy(expected), atol=1e-5, rtol=0
            )


def test_each_image_has_its_own_blur_and_tiny_images_work() -> None:
    image = torch.zeros(1, 1, 21, 21)
    image[..., 10, 10] = 1
    peaks = applied(NOISES["RandomBlur"]((0.5, 2.0)), image.repeat(50, 1, 1, 1))[:, 0, 10, 10]
    assert peaks.max() / peaks.min() > 3
    for size in ((1, 1), (2, 3)):
        small = torch.rand(2, 1, *size)
        assert applied(NOISES["RandomBlur"](2.0), small).shape == small.shape


def test_values_without_meaning_are_refused() -> None:
    for name, options, words in (
        ("MaskingNoise", {"share": 1.5}, "share is 1.5; possible: 0 to 1"),
        ("MaskingNoise", {"block": 0}, "block is 0"),
        ("SaltAndPepper", {"share": -0.1}, "share is -0.1"),
        ("ShotNoise", {"photons": 0}, "photons is 0; it must be above 0"),
        ("SpeckleNoise", {"std": -1}, "std is -1"),
        ("RandomBlur", {"sigma": (2, 1)}, "sigma is a positive number or a pair"),
    ):
        with pytest.raises(DataError, match=words):
            NOISES[name](**options)

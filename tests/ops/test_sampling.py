"""Looking images up between their pixels, against torch's own samplers and our resize."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aelab.errors import ShapeError
from aelab.ops.resize import resize
from aelab.ops.sampling import FULL, Region, look_up, same_borders

IMAGES = 0.4 + 0.2 * torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(5))
IMAGES[..., 0, :2] = torch.tensor([0.0, 1.0])  # room for overshoots: they are clamped elsewhere


@pytest.mark.parametrize("filter", ["nearest", "bicubic"])
def test_the_full_region_at_the_same_size_is_the_image(filter: str) -> None:
    torch.testing.assert_close(look_up(IMAGES, (7, 9), FULL, filter), IMAGES)  # type: ignore[arg-type]


def test_nearest_with_the_same_borders_repeats_each_pixel() -> None:
    shown = look_up(IMAGES, (21, 27), same_borders((7, 9), (21, 27)), "nearest")
    assert torch.equal(shown, IMAGES.repeat_interleave(3, 2).repeat_interleave(3, 3))


def test_bicubic_with_the_same_borders_is_the_resize_filter_away_from_the_border() -> None:
    """At the border Pillow leaves the outer pixels out; here the border's own pixel goes on."""
    shown = look_up(IMAGES, (28, 36), same_borders((7, 9), (28, 36)))
    wanted = resize(IMAGES, (28, 36), "bicubic")
    torch.testing.assert_close(shown[..., 8:-8, 8:-8], wanted[..., 8:-8, 8:-8])


def test_a_region_is_torchs_grid_with_aligned_corners() -> None:
    """A linear ramp: every interpolation that is worth its name reproduces it."""
    ramp = torch.arange(9.0).expand(1, 1, 7, 9) / 8
    region = Region(-0.5, -0.25, 0.75, 0.5)
    y, x = torch.linspace(-0.25, 0.5, 6), torch.linspace(-0.5, 0.75, 11)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    wanted = F.grid_sample(ramp, grid, align_corners=True)
    torch.testing.assert_close(look_up(ramp, (6, 11), region), wanted, atol=1e-6, rtol=0)


def test_the_same_borders_put_four_pixels_onto_one() -> None:
    region = same_borders((2, 2), (4, 4))
    places = torch.linspace(region.x0, region.x1, 4)  # source pixels have their centres at -1, 1
    torch.testing.assert_close(places.view(2, 2).mean(1), torch.tensor([-1.0, 1.0]))
    assert same_borders((5, 6), (5, 6)) == FULL
    with pytest.raises(ShapeError, match="no scale"):
        same_borders((1, 4), (2, 8))

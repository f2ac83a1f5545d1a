"""Errors by spatial frequency: what pure waves, blur and noise must give."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from aelab.errors import ShapeError
from aelab.metrics import error_by_frequency


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 3, 7, 13), (2, 3, 33, 32), (2, 1, 3, 9)])
def test_the_rings_add_up_to_the_squared_error(shape):
    output, target = images(*shape), images(*shape, seed=1)
    found = error_by_frequency(output, target)
    assert found.error.sum().item() == pytest.approx((output - target).square().mean().item())
    assert found.target.sum().item() == pytest.approx(target.square().mean().item())
    assert found.reconstruction.sum().item() == pytest.approx(output.square().mean().item())
    assert found.frequency[0] == 0 and found.frequency.max() <= math.sqrt(0.5)
    assert (found.frequency.diff() > 0).all()
    assert len(set(map(len, found))) == 1


def test_a_wave_is_found_at_its_frequency():
    x = torch.arange(32.0)
    wave = (0.5 + 0.2 * torch.cos(2 * math.pi * 6 / 32 * x)).expand(1, 1, 32, 32)
    grey = torch.full_like(wave, 0.5)
    found = error_by_frequency(grey, wave)
    place = int(found.error.argmax())
    assert place == 6
    assert 5.5 / 32 < found.frequency[place] < 6.5 / 32
    assert found.error[place].item() == pytest.approx(0.2**2 / 2)
    assert found.relative[place].item() == pytest.approx(1)
    assert found.transfer[place].item() == pytest.approx(0, abs=1e-6)
    assert found.transfer[0].item() == pytest.approx(1)


def test_blur_shows_as_its_known_transfer():
    target = images(64, 1, 32, 32)
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)[None, None, None]
    blurred = F.conv2d(F.pad(target, (1, 1, 0, 0), mode="circular"), kernel)
    found = error_by_frequency(blurred, target)
    assert found.transfer[0].item() == pytest.approx(1)
    # In the first ring are 4 axis and 4 diagonal neighbours of 0: 6 of 8 see cos^2(pi f), 2 see 1.
    first = (6 * math.cos(math.pi / 32) ** 2 + 2) / 8
    assert found.transfer[1].item() == pytest.approx(first, abs=1e-3)
    assert (found.transfer[1:17].diff() < 0).all()
    assert 0 < found.relative[16] < 1


def test_a_mere_gain_keeps_the_coherence_and_noise_loses_it():
    target = images(16, 3, 16, 16) - 0.5
    stronger = error_by_frequency(1.5 * target, target)
    torch.testing.assert_close(stronger.transfer, torch.full_like(stronger.transfer, 1.5))
    torch.testing.assert_close(stronger.coherence, torch.ones_like(stronger.coherence))
    invented = error_by_frequency(images(16, 3, 16, 16, seed=2) - 0.5, target)
    assert invented.coherence[3:].max() < 0.05
    assert (invented.relative[3:] > 1.5).all()


def test_perfect_and_empty_pictures():
    target = images(2, 1, 8, 8)
    same = error_by_frequency(target, target)
    assert same.error.abs().max() == 0 and same.relative.max() == 0
    nothing = error_by_frequency(target, torch.zeros_like(target))
    assert nothing.relative.isnan().all() and nothing.transfer.isnan().all()


def test_shapes_must_be_equal_and_images():
    for other in (torch.rand(2, 1, 8, 9), torch.rand(8, 8)):
        with pytest.raises(ShapeError, match="two equal shapes"):
            error_by_frequency(torch.rand(2, 1, 8, 8), other)
    with pytest.raises(ShapeError, match="two equal shapes"):
        error_by_frequency(torch.rand(0, 1, 8, 8), torch.rand(0, 1, 8, 8))

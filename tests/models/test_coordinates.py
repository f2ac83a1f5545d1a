"""Positions of pixels and their codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.models import FourierPositions, LinearPositions, SinePositions
from aelab.models.coordinates import (
    WHOLE,
    attenuation,
    bilinear_weights,
    pixel_positions,
    pixel_size,
)

LIKE = torch.zeros(())


def test_positions_go_row_by_row_between_the_ends():
    positions = pixel_positions((2, 3), WHOLE, LIKE)
    assert positions.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 1], [0, 1], [1, 1]]
    part = pixel_positions((1, 2), (0, 0.5, 0.25, 1), LIKE)
    assert part.tolist() == [[0, 0.5], [0.25, 0.5]]
    assert pixel_size((5, 3), WHOLE) == (1.0, 0.5)


def test_the_documents_code_has_their_order():
    x, y = 0.3, -0.8
    given = torch.tensor([[x, y]])
    waves = [math.sin(7 * x), math.sin(7 * y), math.sin(17 * x), math.sin(17 * y)]
    more = [math.cos(7 * x), math.cos(7 * y), math.cos(17 * x), math.cos(17 * y)]
    newest = SinePositions()(given, (0.1, 0.1))
    torch.testing.assert_close(newest, torch.tensor([[x, y, *waves, *more]]))
    old = SinePositions(cosines=False)(given, (0.1, 0.1))
    torch.testing.assert_close(old, torch.tensor([[x, y, *waves]]))
    assert SinePositions(()).num_features == LinearPositions().num_features == 2
    assert torch.equal(LinearPositions()(given, (0.1, 0.1)), given)


def test_random_frequencies_have_their_scale_and_their_seed():
    code = FourierPositions(4096, scale=3, seed=5)
    cycles = code.frequencies / math.pi
    assert abs(cycles.std() - 3) < 0.1
    assert torch.equal(code.frequencies, FourierPositions(4096, scale=3, seed=5).frequencies)
    assert not torch.equal(code.frequencies, FourierPositions(4096, scale=3).frequencies)
    assert list(code.state_dict()) == ["frequencies"] and not SinePositions().state_dict()
    assert code(torch.rand(3, 2), (0.1, 0.1)).shape == (3, code.num_features) == (3, 8192)
    for settings in ({"num_frequencies": 0}, {"scale": 0}):
        with pytest.raises(ConfigError, match="at least 1 and scale above 0"):
            FourierPositions(**settings)


@pytest.mark.parametrize("cosines", [False, True])
def test_a_box_is_the_average_over_the_pixel(cosines):
    plain, averaged = SinePositions((7, 17), cosines), SinePositions((7, 17), cosines, "box")
    centre, size = torch.tensor([[0.2, -0.6]]), (0.25, 0.125)
    steps = (torch.arange(400) + 0.5) / 400 - 0.5
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).view(-1, 2)
    many = plain(centre + offsets * torch.tensor(size), size).mean(dim=0, keepdim=True)
    torch.testing.assert_close(averaged(centre, size), many, atol=1e-4, rtol=0)


def test_a_gaussian_is_the_average_under_a_normal_density():
    size = (0.2, 0.1)
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn(400_000, 2, generator=generator) * torch.tensor(size) / math.sqrt(12)
    frequency = torch.tensor([[11.0, 6.0]])
    mean = torch.cos((offsets * frequency).sum(dim=1)).mean()
    left = attenuation(frequency, size, "gaussian")[0]
    assert abs(mean - left) < 2e-3 and 0.5 < left < 0.9


@pytest.mark.parametrize("kind", ["box", "gaussian"])
def test_a_finer_grid_leaves_more_of_a_wave(kind):
    waves = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 90.0]])
    coarse, fine = (attenuation(waves, pixel_size((n, n), WHOLE), kind) for n in (32, 64))
    assert coarse[0] == fine[0] == 1
    assert (coarse[1:] < fine[1:]).all() and (fine[1:] < 1).all()
    assert attenuation(waves, (0.1, 0.1), None).tolist() == [1, 1, 1]


@pytest.mark.parametrize("cells", [(4, 3), (1, 1), (2, 5)], ids=str)
def test_bilinear_weights_sample_as_torch_does(cells):
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(50, 2, generator=generator) * 3 - 1.5  # beyond the border too
    grid = torch.randn(1, 6, *cells, generator=generator)
    weights = bilinear_weights(positions, cells)
    sampled = F.grid_sample(
        grid, positions[None, None], padding_mode="border", align_corners=True
    )  # (1, 6, 1, P)
    torch.testing.assert_close(weights @ grid.flatten(2)[0].T, sampled[0, :, 0].T)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(50))

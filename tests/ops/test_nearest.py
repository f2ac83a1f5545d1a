"""Nearest neighbours by their definition, wherever the points lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aelab.ops.nearest import distances, nearest_rows


def _plain(points: Tensor, others: Tensor) -> Tensor:
    return (points.double()[:, None] - others.double()[None]).square().sum(2).sqrt()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5, -1e7])
def test_neighbours_are_those_of_plain_differences(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(60, 5, generator=generator) * max(1, abs(offset) * 1e-4) + offset).float()
    others = (torch.rand(90, 5, generator=generator) * max(1, abs(offset) * 1e-4) + offset).float()
    wanted = _plain(points, others)
    found = nearest_rows(points, others, 4)
    torch.testing.assert_close(found.distances, wanted.sort(1).values[:, :4])
    torch.testing.assert_close(wanted.gather(1, found.rows), found.distances)
    torch.testing.assert_close(distances(points, others), wanted, rtol=1e-5, atol=1e-5)


def test_two_far_clusters_keep_their_inner_neighbours() -> None:
    generator = torch.Generator().manual_seed(1)
    inner = torch.rand(100, 3, generator=generator, dtype=torch.float64)
    others = torch.cat([inner[:50] - 1e6, inner[50:] + 1e6])
    found = nearest_rows(others, others, 2)
    assert found.rows[:, 0].tolist() == list(range(100))
    assert (found.distances[:, 0] == 0).all()
    assert torch.equal(found.rows[:, 1], _plain(others, others).fill_diagonal_(9e9).argmin(1))


def test_few_points_and_none() -> None:
    found = nearest_rows(torch.zeros(2, 3), torch.ones(1, 3), 5)
    assert found.rows.tolist() == [[0], [0]]
    assert found.distances[0, 0] == pytest.approx(3**0.5)
    assert nearest_rows(torch.zeros(0, 3), torch.ones(4, 3), 2).rows.shape == (0, 2)


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e-5, 1e30])
def test_neighbours_of_many_dimensions_are_those_of_plain_differences(spread: float) -> None:
    generator = torch.Generator().manual_seed(2)
    groups = torch.randn(4, 100, generator=generator).repeat_interleave(10, 0)
    others = (groups + spread * torch.randn(40, 100, generator=generator)).double()
    points = others[::3] + 0.1 * spread * torch.randn(14, 100, generator=generator).double()
    wanted = _plain(points, others)
    found = nearest_rows(points, others, 5)
    torch.testing.assert_close(found.distances, wanted.sort(1).values[:, :5])
    torch.testing.assert_close(wanted.gather(1, found.rows), found.distances)

"""What a block builds stays where the run is built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aelab.assembly.placement import OneDevice


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_moves_to_another_device_have_no_effect(place: str) -> None:
    with torch.device(place), OneDevice():
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        first = model[0].weight
        moved = [model.to("cuda"), model.cuda(), model.cpu(), model.to(torch.device("cuda", 1))]
        assert all(each is model for each in moved) and model[0].weight is first
        x = torch.ones(4, 2)
        ways = [
            x.to("cuda"),
            x.cuda(),
            x.cpu(),
            x.to(0),
            x.to(device="cuda"),
            x.to("cuda", copy=False),
        ]
        assert all(each is x for each in ways)
        assert model(x).device.type == place


def test_a_type_beside_a_device_has_its_effect() -> None:
    with OneDevice():
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        assert model.to("cuda", torch.float64)[0].weight.dtype == torch.float64
        assert model[1].num_batches_tracked.dtype == torch.int64
        x = torch.ones(2)
        assert x.to(torch.float16).dtype == x.to("cuda", torch.float16).dtype == torch.float16
        assert x.to(torch.ones(1, dtype=torch.int64)).dtype == torch.int64
        assert x.to(device="cuda", dtype=torch.int32).dtype == torch.int32
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(2).to("cuda:99")

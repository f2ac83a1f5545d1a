"""`train_setN` and `validation_setN`: another set from an epoch on."""

from __future__ import annotations

import pytest
import torch

from aelab.errors import ConfigError
from aelab.train.batches import ScheduledSets
from aelab.types import Images


def _constant(value: int, count: int = 4) -> Images:
    return Images(torch.full((count, 1, 4, 4), value, dtype=torch.uint8))


def test_the_latest_set_that_applies_is_used() -> None:
    sets = ScheduledSets([(5, _constant(2)), (0, _constant(1))], torch.device("cpu"), False)
    assert [int(sets.at(epoch).pixels[0, 0, 0, 0]) for epoch in (0, 4, 5, 9)] == [1, 1, 2, 2]


def test_a_gap_before_the_first_set_names_the_missing_key() -> None:
    with pytest.raises(ConfigError, match="no images for epoch 0") as caught:
        ScheduledSets([(3, _constant(1))], torch.device("cpu"), False, "validation_set")
    assert "validation_set" in str(caught.value)

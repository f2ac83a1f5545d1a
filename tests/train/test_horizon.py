"""Where a run will end, counted before it begins, is where it ends."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from aelab.train import make_state
from aelab.train.horizon import horizon

SETS = {
    "one": [(0, 40)],
    "even": [(0, 48)],
    "two": [(0, 40), (2, 17)],
    "three": [(0, 5), (1, 33), (3, 16)],
}
ENDS = [
    {"max_images": 1, "max_epochs": None},
    {"max_images": 96, "max_epochs": None},
    {"max_images": 131, "max_epochs": None},
    {"max_images": None, "max_epochs": 4},
    {"max_images": 131, "max_epochs": 2},
    {"max_images": 70, "max_epochs": 9},
]


@pytest.mark.parametrize("name", SETS)
def test_the_end_is_counted_as_training_reaches_it(tiny: SimpleNamespace, name: str) -> None:
    for end, accumulation in itertools.product(ENDS, (1, 2, 7)):
        changes: dict[str, Any] = {"gradient_accumulation": accumulation, **end}
        settings = tiny.settings(learnrate=1e-3, log_every_images=10_000, **changes)
        sets = [(first, tiny.images(count)) for first, count in SETS[name]]
        state = make_state(tiny.Model(), settings)
        first_step = 0

        def stopped(state: Any = state) -> bool:
            nonlocal first_step
            if state.clock.steps and not first_step:
                first_step = state.clock.batches
            return False

        tiny.fit_all(state, settings, sets, stop=stopped)
        planned = horizon(settings, SETS[name])
        assert (state.clock.images, state.clock.epoch, state.clock.batches) == planned[:3], (
            end,
            accumulation,
        )
        if first_step:
            assert first_step == planned.batches_to_first_step

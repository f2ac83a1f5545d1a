"""Closed forms of schedules agree with what torch does, batch for batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aelab.schedule_forms import planned
from aelab.settings import Choice
from aelab.train.schedules import make_schedule

SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {}),
    ("cosine", {}),
    ("linear", {"final_factor": 0.1}),
    ("step", {"every_images": 128, "factor": 0.5}),
    ("WarmupCosine", {"warmup_images": 100}),
    ("CosineAnnealingLR", {"eta_min": 0.001}),
    ("CosineAnnealingLR", {"T_max": 20}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.001}),  # rises again, twice
    ("StepLR", {"step_size": 3}),
    ("MultiStepLR", {"milestones": [2, 9], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("OneCycleLR", {}),
]


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES, ids=lambda value: str(value))
def test_the_planned_factor_is_the_one_that_training_uses(
    name: str, arguments: dict[str, Any]
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    choice = Choice(name, arguments)
    schedule = make_schedule(optimizer, choice, max_images=20 * 32, batch_size=32)
    factor = planned(choice, end=20 * 32, batch_size=32, learnrate=0.02)
    assert factor is not None
    for batch in range(20):
        schedule.before_batch(32 * batch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * factor(32 * batch), abs=1e-9)
        optimizer.step()
        schedule.after_batch()


def test_what_follows_from_the_losses_or_is_unknown_is_not_planned() -> None:
    assert planned(Choice("ReduceLROnPlateau"), end=640, batch_size=32) is None
    assert planned(Choice("step", {"every_images": 0}), end=640) is None
    assert planned(Choice("of_a_package"), end=640) is None

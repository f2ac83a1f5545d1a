"""Closed forms against torch's own schedulers, and the names a file may use."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aelab.errors import ConfigError
from aelab.train import (
    SCHEDULES,
    TORCH_SCHEDULERS,
    Choice,
    make_schedule,
)
from aelab.train.horizon import Horizon


def an_optimizer(lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=lr, momentum=0.9)


def rates(choice: Choice | None, steps: int, *, batch: int = 10, lr: float = 0.1) -> list[float]:
    optimizer = an_optimizer(lr)
    schedule = make_schedule(optimizer, choice, max_images=steps * batch, batch_size=batch)
    found = []
    for number in range(steps):
        schedule.before_batch(number * batch)
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.after_batch()
    return found


def torch_rates(make: object, steps: int) -> list[float]:
    optimizer = an_optimizer()
    scheduler = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


#: Closed forms that need an argument, and those that do not end with the run.
ARGUMENTS = {"step": {"every_images": 3_000}}
WITHOUT_END = {"step"}


@pytest.mark.parametrize("name", SCHEDULES.ours)
def test_every_schedule_is_a_closed_form_that_ends_with_the_run(name: str) -> None:
    end, arguments = 20_000, ARGUMENTS.get(name, {})
    factor = SCHEDULES[name](max_images=end, **arguments)
    images = [0, 1, 64, 2_999, 3_000, 9_999, 10_000, end - 1, end]
    factors = [factor(count) for count in images]
    assert all(0 <= value <= 1 for value in factors) and max(factors) > 0
    # In any order, and of another object: nothing is kept.
    again = SCHEDULES[name](max_images=end, **arguments)
    assert [again(count) for count in reversed(images)] == factors[::-1]
    if name not in WITHOUT_END:
        assert factor(end + 1) == factor(3 * end) == factor(end)


@pytest.mark.parametrize("name", SCHEDULES.ours)
def test_every_schedule_refuses_an_argument_that_it_does_not_take(name: str) -> None:
    with pytest.raises(ConfigError, match="every_imagez"):
        make_schedule(
            an_optimizer(), Choice(name, {"every_imagez": 3}), max_images=100, batch_size=10
        )


@pytest.mark.parametrize("name", ["cosine", "CosineAnnealingLR", "CosineAnnealingWarmupLR"])
def test_cosine_equals_torch_iterated(name: str) -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 500), 500)
    assert rates(Choice(name), 500) == pytest.approx(expected, abs=1e-7)


def test_cosine_with_a_floor_equals_torch() -> None:
    room = torch.optim.lr_scheduler
    expected = torch_rates(lambda o: room.CosineAnnealingLR(o, 300, eta_min=0.02), 300)
    found = rates(Choice("CosineAnnealingLR", {"eta_min": 0.02}), 300)
    assert found == pytest.approx(expected, abs=1e-7)


def test_step_equals_torch() -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 20, 0.5), 100)
    found = rates(Choice("step", {"every_images": 200, "factor": 0.5}), 100)
    assert found == pytest.approx(expected, rel=1e-12)


def test_warmup_rises_linearly_and_ends_at_the_final_factor() -> None:
    factor = SCHEDULES["WarmupCosine"](max_images=10_000, warmup_images=1000, final_factor=0.1)
    assert factor(500) == 0.5
    assert factor(1000) == 1.0
    assert factor(5500) == pytest.approx(0.55)
    assert factor(10_000) == pytest.approx(0.1)
    assert factor(12_345) == pytest.approx(0.1)  # does not rise again


def test_a_cosine_does_not_rise_after_its_end() -> None:
    factor = SCHEDULES["cosine"](max_images=1000)
    assert factor(1000) == factor(1064) == 0.0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("StepLR", {"step_size": 3}),
        ("MultiStepLR", {"milestones": [2, 5]}),
        ("ExponentialLR", {"gamma": 0.8}),
        ("ConstantLR", {}),
        ("LinearLR", {}),
        ("PolynomialLR", {"total_iters": 10}),
        ("CosineAnnealingLR", {"T_max": 7}),
        ("CosineAnnealingWarmRestarts", {"T_0": 4}),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}),
        ("OneCycleLR", {"max_lr": 0.2, "total_steps": 12}),
    ],
)
def test_torch_schedulers_are_stepped_as_by_hand(name: str, arguments: dict) -> None:
    expected = torch_rates(lambda o: getattr(torch.optim.lr_scheduler, name)(o, **arguments), 11)
    assert rates(Choice(name, arguments), 11) == expected


def test_onecycle_needs_no_arguments_and_survives_its_end() -> None:
    optimizer = an_optimizer()
    schedule = make_schedule(optimizer, Choice("OneCycleLR"), max_images=100, batch_size=30)
    for _ in range(9):  # 4 are planned; partial batches of epochs make more
        optimizer.step()
        schedule.after_batch()
    assert optimizer.param_groups[0]["lr"] < 1e-5


def test_chained_schedulers_are_named_inside() -> None:
    inner = [{"ExponentialLR": {"gamma": 0.5}}, "ConstantLR"]
    found = rates(Choice("ChainedScheduler", {"schedulers": inner}), 3)
    assert found == pytest.approx([0.1 / 3, 0.05 / 3, 0.025 / 3])


def test_every_scheduler_of_torch_is_known() -> None:
    assert {"CosineAnnealingLR", "OneCycleLR", "ReduceLROnPlateau", "SequentialLR"} <= set(
        TORCH_SCHEDULERS
    )
    assert "LRScheduler" not in TORCH_SCHEDULERS


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("CosineAnealingLR"), "did you mean 'CosineAnnealingLR'"),
        (Choice("cosine", {"eta": 1}), "no argument 'eta'"),
        (Choice("StepLR", {"step": 1}), "did you mean 'step_size'"),
        (Choice("StepLR"), "step_size"),
        (Choice("WarmupCosine", {"warmup_images": -1}), "warmup_images is -1"),
    ],
)
def test_wrong_schedulers_are_refused(choice: Choice, message: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=message):
        make_schedule(an_optimizer(), choice, max_images=1000, batch_size=10)


def test_a_cosine_without_an_end_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="max_images"):
        make_schedule(an_optimizer(), Choice("cosine"), max_images=None, batch_size=10)


#: Every schedule that ends with its run, and the factor that it ends at.
ENDING = [
    ("cosine", 0.0),
    ("CosineAnnealingLR", 0.0),
    ("CosineAnnealingWarmupLR", 0.0),
    ("linear", 0.0),
    ("WarmupCosine", 0.0),
    ("OneCycleLR", 0.0),
]


def rates_in_training(tiny: SimpleNamespace, stop_after: int = 0, **changes: object) -> list[float]:
    """The learning rate of each batch of 16 of 40 images; a stop, and another process goes on."""
    settings = tiny.settings(learnrate=0.01, log_every_images=10**6, **changes)
    sets = [(0, tiny.images(40)), (3, tiny.images(21))]
    state = tiny.start(settings)
    seen: list[float] = []
    before = type(state.learner.schedule).before_batch

    def note(schedule: object, images: int) -> None:
        before(schedule, images)  # type: ignore[arg-type]
        seen.append(float(current[0].learner.optimizer.param_groups[0]["lr"]))

    current = [state]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(state.learner.schedule), "before_batch", note)
        tiny.fit_all(state, settings, sets, stop=lambda: current[0].clock.batches == stop_after > 0)
        if stop_after:
            tensors, numbers = state.stored()
            current[0] = tiny.start(settings)
            current[0].load(tensors, json.loads(json.dumps(numbers)))
            tiny.fit_all(current[0], settings, sets)
    return seen


@pytest.mark.parametrize(("name", "final"), ENDING)
@pytest.mark.parametrize(
    "changes",
    [
        {"max_images": 400},
        {"max_images": 397},
        {"max_images": 400, "gradient_accumulation": 2},
        {"max_images": 400, "gradient_accumulation": 7},
        {"max_images": None, "max_epochs": 9},
        {"max_images": 10**6, "max_epochs": 9},
    ],
    ids=str,
)
def test_a_schedule_ends_where_the_run_ends(
    tiny: SimpleNamespace, name: str, final: float, changes: dict
) -> None:
    arguments = {"warmup_images": 100} if name == "WarmupCosine" else {}
    seen = rates_in_training(tiny, scheduler=Choice(name, arguments), **changes)
    highest = max(seen)
    assert highest == pytest.approx(0.01, rel=0.05)
    # The last batch is above the end by what one batch is worth, and none before is there already.
    assert seen[-1] < 0.09 * highest
    assert all(rate > 1e-4 * highest for rate in seen[:-1])
    assert (
        rates_in_training(tiny, stop_after=5, scheduler=Choice(name, arguments), **changes) == seen
    )


def test_onecycle_of_partial_batches_is_torchs_over_the_batches_that_there_are(
    tiny: SimpleNamespace,
) -> None:
    """Issue 10: counted as whole batches, the second half of a run had a rate of 0."""
    seen = rates_in_training(tiny, scheduler=Choice("OneCycleLR"), max_images=None, max_epochs=3)
    assert len(seen) == 9
    optimizer = an_optimizer()
    room = torch.optim.lr_scheduler
    scheduler = room.OneCycleLR(optimizer, max_lr=0.01, total_steps=9)
    expected = []
    for _ in range(9):
        expected.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(expected, rel=1e-9)


def test_a_run_of_an_earlier_version_keeps_the_end_it_was_begun_with() -> None:
    optimizer = an_optimizer()
    schedule = make_schedule(
        optimizer, Choice("cosine"), max_images=1000, max_epochs=2, batch_size=10
    )
    schedule.load_state_dict({})  # as it was written before
    schedule.plan(Horizon(200, 2, 20, 1))
    schedule.before_batch(500)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert schedule.state_dict() == {}
    one = make_schedule(an_optimizer(), Choice("OneCycleLR"), max_images=1000, batch_size=10)
    old = one.state_dict()
    again = make_schedule(optimizer, Choice("OneCycleLR"), max_images=1000, batch_size=10)
    again.load_state_dict(old)
    again.plan(Horizon(1000, 9, 150, 1))
    assert again.state_dict()["total_steps"] == 100

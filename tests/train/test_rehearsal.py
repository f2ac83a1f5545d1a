"""Wrong arguments of optimisers and schedules end in one message, before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from aelab.errors import ConfigError
from aelab.train import (
    OPTIMIZERS,
    SCHEDULES,
    TORCH_SCHEDULERS,
    Choice,
    FitSettings,
    rehearse_optimizer,
    rehearse_schedule,
)

#: What a file may hold in the place of any argument.
VALUES: list[Any] = [
    "x", "", 0, -1, 3, 0.5, float("inf"), float("nan"), 10**400, -(10**400), 2**63, 1e300, True,
    None, [], [1, 2], [0.9, 0.999], ["x"], {"a": 1}, [10**5000],
]  # fmt: skip

#: Arguments that a schedule cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [1, 2]},
    "OneCycleLR": {},
    "SWALR": {"swa_lr": 0.01},
    "SequentialLR": {"schedulers": ["ConstantLR", "LinearLR"], "milestones": [1]},
    "ChainedScheduler": {"schedulers": ["ConstantLR"]},
    "StepLR": {"step_size": 3},
    "step": {"every_images": 20},
}


def arguments_of(part: Callable[..., Any]) -> list[str]:
    return [n for n in inspect.signature(part).parameters if n not in ("params", "optimizer")]


def tried(rehearse: Callable[[FitSettings], None], **settings: Any) -> str:
    """Empty when it passes, else the message; anything but a ConfigError fails the test."""
    try:
        rehearse(FitSettings(max_images=100, batch_size=10, **settings))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_says_what_is_wrong_with_any_argument(name: str) -> None:
    assert not tried(rehearse_optimizer, optimizer=Choice(name))
    for argument in arguments_of(OPTIMIZERS[name]):
        for value in VALUES:
            said = tried(rehearse_optimizer, optimizer=Choice(name, {argument: value}))
            assert not said or name in said
            if value in ("x", ""):
                assert argument in said


@pytest.mark.parametrize("name", dict.fromkeys([*SCHEDULES, *TORCH_SCHEDULERS]))
def test_a_schedule_says_what_is_wrong_with_any_argument(name: str) -> None:
    part = {**TORCH_SCHEDULERS, **SCHEDULES}[name]
    needed = NEEDED.get(name, {})
    optimizer = Choice("SGD", {"momentum": 0.9})
    if name in ("LambdaLR", "MultiplicativeLR"):
        said = tried(rehearse_schedule, scheduler=Choice(name, {"lr_lambda": "x"}))
        assert "takes a function" in said
        return
    assert not tried(rehearse_schedule, optimizer=optimizer, scheduler=Choice(name, needed))
    for argument in arguments_of(part):
        for value in VALUES:
            choice = Choice(name, {**needed, argument: value})
            said = tried(rehearse_schedule, optimizer=optimizer, scheduler=choice)
            assert not said or name in said or argument in said
            if value == "":
                assert said


@pytest.mark.parametrize(
    ("key", "choice", "words"),
    [
        ("scheduler", Choice("StepLR", {"step_size": 0}), ["StepLR", "step_size=0", "divide by 0"]),
        ("scheduler", Choice("step", {"every_images": "x"}), ["every_images", "a whole number"]),
        ("scheduler", Choice("cosine", {"eta_min_factor": -2.0}), ["learning rate -"]),
        ("scheduler", Choice("WarmupCosine", {"warmup_images": 1e4}), []),
        ("scheduler", Choice("CosineAnnealingLR", {"eta_min": "x"}), ["eta_min", "a number"]),
        ("scheduler", Choice("SequentialLR", {"schedulers": 3, "milestones": [1]}), ["a list"]),
        (
            "optimizer",
            Choice("AdamW", {"foreach": 3, "fused": 4}),
            ["foreach = 3", "True or False"],
        ),
        ("optimizer", Choice("Adam", {"differentiable": True}), ["no effect"]),
        ("optimizer", Choice("Adam", {"betas": [0.9, 0.95]}), []),
        ("optimizer", Choice("Adam", {"betas": [0.9, 2.0]}), ["beta"]),
        ("optimizer", Choice("SGD", {"momentum": 10**400}), ["momentum"]),
        ("optimizer", Choice("Muon", {"ns_steps": "x"}), ["ns_steps", "a whole number"]),
        ("optimizer", Choice("Muon", {"nesterov": False, "ns_steps": 3}), []),
    ],
)
def test_the_message_names_argument_value_and_what_is_possible(
    key: str, choice: Choice, words: list[str]
) -> None:
    rehearse = {"scheduler": rehearse_schedule, "optimizer": rehearse_optimizer}[key]
    said = tried(rehearse, **{key: choice})
    assert bool(said) == bool(words), said
    assert all(word in said for word in words), said


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_a_schedule_says_which_arguments_it_needs(name: str) -> None:
    said = tried(rehearse_schedule, scheduler=Choice(name))
    assert f"scheduler {name} needs " in said and "__init__" not in said, said
    assert all(argument in said for argument in NEEDED[name])


@pytest.mark.parametrize(
    ("name", "argument"),
    [("StepLR", "step_size"), ("CosineAnnealingLR", "T_max"), ("CyclicLR", "step_size_up")],
)
def test_a_schedule_that_divides_by_0_says_by_what(name: str, argument: str) -> None:
    choice = Choice(name, {**NEEDED.get(name, {}), argument: 0})
    said = tried(rehearse_schedule, scheduler=choice)
    assert f"{argument}=0" in said and "divide by 0" in said and "ZeroDivision" not in said, said


def test_no_optimizer_climbs() -> None:
    said = tried(rehearse_optimizer, optimizer=Choice("Adam", {"maximize": True}))
    assert "maximize makes the loss larger" in said


def test_the_same_optimizer_is_tried_once_and_another_part_of_its_name_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counted(torch.optim.SGD):
        made = 0

        def __init__(self, params: Any, lr: float = 0.1) -> None:
            type(self).made += 1
            super().__init__(params, lr=lr)

    class Refusing(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            raise ValueError("never")

    choice = Choice("of_this_test")
    for part in (Counted, Refusing):
        OPTIMIZERS.register("of_this_test", part)
        try:
            said = [tried(rehearse_optimizer, optimizer=choice) for _ in range(2)]
        finally:
            OPTIMIZERS.forget("of_this_test")
        assert [bool(each) for each in said] == [part is Refusing] * 2
    assert Counted.made == 1

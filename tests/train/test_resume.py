"""Stopped and continued equals uninterrupted, bit for bit; the same seed gives the same bytes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from aelab.errors import StoreError
from aelab.train import (
    OPTIMIZERS,
    SCHEDULES,
    Choice,
    Finished,
    Logged,
    Validated,
    make_state,
)

FULL = {
    "optimizer": Choice("Adam"),
    "scheduler": Choice("WarmupCosine", {"warmup_images": 100}),
    "ema_decay": 0.9,
    "gradient_accumulation": 3,
    "training_noise": 0.1,
    "gradient_clipping": {"norm": 0.5},
    "validate_every_epochs": 1,
    "checkpoint_every_images": 150,
}

CASES: dict[str, dict[str, Any]] = {
    "everything": FULL,
    "plain": {},
    "momentum": {"optimizer": Choice("SGD", {"momentum": 0.9, "nesterov": True})},
    "muon": {"optimizer": Choice("Muon", {"weight_decay": 0.01}), "scheduler": Choice("cosine")},
    "muon of convolutions": {
        "optimizer": Choice("Muon", {"convolutions": True, "adamw_factor": 0.5}),
        "scheduler": Choice("WarmupCosine", {"warmup_images": 50}),
    },
    "nadam": {"optimizer": Choice("NAdam")},
    "asgd": {"optimizer": Choice("ASGD")},
    "adafactor": {"optimizer": Choice("Adafactor")},
    "rprop": {"optimizer": Choice("Rprop")},
    "onecycle": {"scheduler": Choice("OneCycleLR", {"max_lr": 1e-2})},
    "exponential": {"scheduler": Choice("ExponentialLR", {"gamma": 0.9})},
    "multistep": {"scheduler": Choice("MultiStepLR", {"milestones": [3, 9], "gamma": 0.5})},
    "cyclic": {
        "optimizer": Choice("SGD", {"momentum": 0.9}),
        "scheduler": Choice("CyclicLR", {"base_lr": 1e-4, "max_lr": 1e-2, "step_size_up": 4}),
    },
    "restarts": {"scheduler": Choice("CosineAnnealingWarmRestarts", {"T_0": 5})},
    "plateau": {
        "scheduler": Choice("ReduceLROnPlateau", {"patience": 0, "factor": 0.5}),
        "validate_every_images": 50,
    },
    "sequence": {
        "scheduler": Choice(
            "SequentialLR",
            {
                "schedulers": [
                    {"LinearLR": {"start_factor": 0.1, "total_iters": 5}},
                    {"CosineAnnealingLR": {"T_max": 20}},
                ],
                "milestones": [5],
            },
        )
    },
}


def without_seconds(events: list[Any]) -> list[Any]:
    """Events as comparable tuples; time is the one thing that differs."""
    rows = []
    for event in events:
        if isinstance(event, Logged | Validated):
            rate = getattr(event, "learnrate", None)
            rows.append((type(event).__name__, event.images, event.epoch, event.terms, rate))
        elif not (isinstance(event, Finished) and event.reason == "stopped"):
            rows.append(event)
    return rows


def assert_equal_states(one: Any, other: Any) -> None:
    tensors, numbers = one.stored()
    other_tensors, other_numbers = other.stored()
    for time in ("seconds", "cpu_seconds"):
        numbers.pop(time), other_numbers.pop(time)
    assert numbers == other_numbers
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name


def stop_after(batches: int) -> Any:
    remaining = iter(range(batches))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batches", [1, 9, 17])
def test_a_stopped_run_continues_bit_for_bit(
    tiny: SimpleNamespace, case: str, batches: int
) -> None:
    assert_continues(tiny, tiny.settings(**CASES[case]), batches)


#: Schedules that need an argument.
ARGUMENTS = {"step": {"every_images": 100}}


@pytest.mark.parametrize("name", OPTIMIZERS.ours)
def test_every_optimizer_continues_bit_for_bit(tiny: SimpleNamespace, name: str) -> None:
    assert_continues(tiny, tiny.settings(optimizer=Choice(name)), 9)


@pytest.mark.parametrize("name", SCHEDULES.ours)
def test_every_schedule_continues_bit_for_bit(tiny: SimpleNamespace, name: str) -> None:
    assert_continues(tiny, tiny.settings(scheduler=Choice(name, ARGUMENTS.get(name, {}))), 9)


def assert_continues(tiny: SimpleNamespace, settings: Any, batches: int) -> None:
    """A run that is stopped after some batches, stored and loaded equals an uninterrupted one."""
    train, held_out = tiny.images(100, augment=True), tiny.images(30, 1, augment=True)
    whole = tiny.start(settings)
    expected = tiny.fit_all(whole, settings, train, held_out)

    first = tiny.start(settings)
    seen = tiny.fit_all(first, settings, train, held_out, stop_after(batches))
    tensors, numbers = first.stored()
    stored, text = save(tensors), json.dumps(numbers, allow_nan=False)

    torch.manual_seed(99)  # other first weights, other state of the default generator
    torch.rand(7)
    second = make_state(tiny.Model(), settings)
    second.load(load(stored), json.loads(text))
    assert second.clock.batches == batches
    seen += tiny.fit_all(second, settings, train, held_out)

    assert without_seconds(seen) == without_seconds(expected)
    assert_equal_states(second, whole)


def test_the_same_seed_gives_the_same_bytes(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(**FULL)
    train = tiny.images(100, augment=True)
    stored = []
    for _ in range(2):
        state = tiny.start(settings)
        tiny.fit_all(state, settings, train)
        stored.append(save(state.stored()[0]))
        torch.rand(3)
    assert stored[0] == stored[1]


def test_another_seed_gives_other_weights(tiny: SimpleNamespace) -> None:
    train, states = tiny.images(100), []
    for seed in (0, 1):
        settings = tiny.settings(seed=seed)
        torch.manual_seed(0)  # equal first weights: only order, noise and dropout differ
        states.append(make_state(tiny.Model(), settings))
        tiny.fit_all(states[-1], settings, train)
    assert not torch.equal(states[0].learner.model.out.weight, states[1].learner.model.out.weight)


def test_a_generator_closed_at_any_event_loses_nothing(tiny: SimpleNamespace) -> None:
    from aelab.train import fit

    settings = tiny.settings(**FULL)
    train, held_out = tiny.images(100), tiny.images(30, 1)
    whole = tiny.start(settings)
    expected = tiny.fit_all(whole, settings, train, held_out)
    state, seen = tiny.start(settings), []
    while not seen or not isinstance(seen[-1], Finished):
        generator = fit(state, tiny.objective, train, held_out, settings)
        seen.append(next(generator))
        generator.close()
    assert without_seconds(seen) == without_seconds(expected)
    assert_equal_states(state, whole)


def test_a_finished_run_started_again_only_says_so(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    state = tiny.start(settings)
    tiny.fit_all(state, settings, tiny.images(100), tiny.images(30, 1))
    again = tiny.fit_all(state, settings, tiny.images(100), tiny.images(30, 1))
    assert again == [Finished(400, "max_images")]


def test_the_stored_state_is_a_copy(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    state = tiny.start(settings)
    tensors, _ = state.stored()
    before = tensors["model.out.weight"].clone()
    tiny.fit_all(state, settings, tiny.images(100))
    assert torch.equal(tensors["model.out.weight"], before)


def test_a_training_that_goes_on_leaves_what_it_was_loaded_from(tiny: SimpleNamespace) -> None:
    settings, images = tiny.settings(**{**FULL, "log_every_images": 10_000}), tiny.images(100)
    stopped = tiny.start(settings)
    tiny.fit_all(stopped, settings, images, stop=stop_after(9))
    tensors, numbers = stopped.stored()
    assert "window" in tensors
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    for _ in range(2):
        state = tiny.start(settings)
        state.load(tensors, numbers)
        tiny.fit_all(state, settings, images)
        assert [name for name, tensor in tensors.items() if not tensor.equal(before[name])] == []


def test_a_checkpoint_of_another_model_is_refused(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    tensors, numbers = tiny.start(settings).stored()
    other = tiny.start(settings)
    wrong = dict(tensors) | {"model.out.weight": torch.zeros(3, 3)}
    with pytest.raises(StoreError, match=r"'out.weight' is \(3, 3\) in the checkpoint"):
        other.load(wrong, numbers)
    missing = {name: t for name, t in tensors.items() if name != "model.out.bias"}
    with pytest.raises(StoreError, match=r"has no tensor 'out.bias'"):
        other.load(missing, numbers)
    with pytest.raises(StoreError, match="format 99"):
        other.load(tensors, numbers | {"format": 99})


def test_threads_layout_and_precision_are_those_the_run_began_with(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(channels_last=False, precision="bfloat16", threads=3)
    train = tiny.images(100)
    whole = tiny.start(settings)
    first = tiny.start(settings)
    tiny.fit_all(whole, settings, train)
    tiny.fit_all(first, settings, train, None, stop_after(5))
    tensors, numbers = first.stored()

    other = tiny.settings(precision="bfloat16", threads=1)  # layout: chosen, channels-last
    second = make_state(tiny.Model(), other)
    assert second.learner.channels_last
    second.load(tensors, numbers)
    assert (second.learner.threads, second.learner.channels_last, second.learner.bfloat16) == (
        3,
        False,
        True,
    )
    assert second.learner.model.wide.weight.is_contiguous()
    tiny.fit_all(second, other, train)
    assert_equal_states(second, whole)

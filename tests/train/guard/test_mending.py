"""A run whose numbers end goes on as `on_nan` says; the cause is named; nothing good is lost."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from aelab.errors import ConfigError, DivergedError
from aelab.posteriors import Deterministic
from aelab.train import (
    Choice,
    Finished,
    FitSettings,
    Mended,
    StackedLearner,
    State,
    Validated,
    fit,
    make_state,
)
from aelab.train.guard.mending import Intervention, StateChange, change_at, in_force, is_skipped
from aelab.train.guard.nonfinite import find_in_step
from aelab.train.guard.ring import APART, Kept, Ring
from aelab.types import Output

ROLLBACK = {"rollback": {"lower_lr": 0.5, "clip": 1.0}}


def settings_of(tiny: SimpleNamespace, on_nan: Any, **changes: Any) -> FitSettings:
    return tiny.settings(on_nan=on_nan, max_images=480, validate_every_images=160, **changes)


def run(
    tiny: SimpleNamespace,
    settings: FitSettings,
    layer: str,
    factor: float,
    at: int = 320,
    state: State | None = None,
    stop: Any = lambda: False,
    once: bool = True,
    **options: Any,
) -> tuple[State, list[Any]]:
    """A training with a fault in one layer for the batch at an image count.

    Args:
        once: the fault is gone once something was changed; else it stays.
    """
    state = tiny.start(settings) if state is None else state
    member = state.learner.members[0]

    def is_on() -> bool:
        """At its image count, and in training as long as nothing was changed."""
        return state.clock.images == at and not (once and member.change.factor < 1)

    fault = tiny.Fault(member.model.get_submodule(layer), factor, is_on, **options)
    try:
        return state, tiny.fit_all(state, settings, tiny.images(96), tiny.images(30, 1), stop)
    finally:
        fault.hook.remove()


def mended(events: list[Any]) -> list[Mended]:
    return [event for event in events if isinstance(event, Mended)]


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("backward", [False, True])
def test_a_rollback_names_layer_and_batch_and_finishes(
    tiny: SimpleNamespace, factor: float, backward: bool
) -> None:
    settings = settings_of(tiny, ROLLBACK)
    state, events = run(tiny, settings, "wide", factor, backward=backward)
    (event,) = mended(events)
    assert event.report["first_bad_batch_at"] == 320
    assert event.done.cause.startswith("the gradient of 'wide'" if backward else "'wide'")
    assert (event.done.images, event.done.found_at) == (320, 384)
    assert event.done.change == StateChange(0.5, 1.0, False)
    assert isinstance(events[-1], Finished) and events[-1].images == 480
    assert bool(state.learner.finite().all())
    assert state.learner.members[0].learnrate == pytest.approx(0.5e-3)
    rows = event.report["moved"]
    assert [row["images"] for row in rows] == sorted(row["images"] for row in rows)
    assert rows[-1]["images"] == 320 and rows[-1]["learnrate"] == 1e-3


def test_a_skipped_batch_changes_nothing_and_the_rest_is_trained(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, "skip")
    state, events = run(tiny, settings, "conv", math.nan, at=208, once=False)
    (event,) = mended(events)
    assert event.done == Intervention("skip", 208, 256, "'conv' became NaN", StateChange())
    assert event.images == 160 and events[-1].images == 480
    assert state.clock.batches == 30 and state.clock.steps == 29
    assert state.learner.members[0].learnrate == 1e-3


def test_without_a_policy_the_run_fails_as_before(tiny: SimpleNamespace) -> None:
    with pytest.raises(DivergedError, match="training diverged between"):
        run(tiny, settings_of(tiny, "stop"), "conv", math.nan)


def test_a_failure_that_nothing_changes_ends_after_the_stated_number_of_times(
    tiny: SimpleNamespace,
) -> None:
    settings = settings_of(tiny, {"rollback": {"times": 3}})
    with pytest.raises(DivergedError) as caught:
        run(tiny, settings, "conv", math.nan, once=False)
    assert "on_nan: rollback acted 3 times already" in caught.value.message
    assert caught.value.incident is not None
    assert caught.value.incident["done_in_words"] == "the run ended as failed"


def test_each_further_failure_goes_back_further_and_lowers_the_rate_again(
    tiny: SimpleNamespace,
) -> None:
    settings = settings_of(tiny, {"rollback": {"times": 4, "lower_lr": 0.5}})
    state = tiny.start(settings)
    fault = tiny.Fault(
        state.learner.model.conv,
        math.nan,
        lambda: state.clock.images == 400 and state.learner.members[0].change.factor > 0.2,
    )
    events = tiny.fit_all(state, settings, tiny.images(96), tiny.images(30, 1))
    fault.hook.remove()
    found = mended(events)
    assert [event.done.images for event in found] == [320, 0, 320]
    assert [event.done.change.factor for event in found] == [0.5, 0.25, 0.125]
    assert in_force(state.interventions) == [found[1].done, found[2].done]
    assert events[-1] == Finished(480, "max_images")


def test_broken_evaluation_is_found_and_survived(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, ROLLBACK)
    _, events = run(tiny, settings, "norm", math.inf, training=False)
    (event,) = mended(events)
    assert event.done.cause.startswith("'norm'") and "evaluation mode" in event.done.cause
    assert event.report["first_bad_batch_at"] is None
    assert isinstance(events[-1], Finished)


def test_weights_that_grow_without_a_nan_are_noticed(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, ROLLBACK)
    state = tiny.start(settings)
    events = []
    for event in fit(state, tiny.objective, tiny.images(96), tiny.images(30, 1), settings):
        events.append(event)
        if not mended(events) and state.clock.images > 200:
            with torch.no_grad():  # what normalisation follows does not change the loss
                state.learner.model.wide.weight.mul_(1e6)
    (first,) = mended(events)
    assert "'wide.weight' grew from a norm of" in first.done.cause
    assert isinstance(events[-1], Finished)


def test_the_best_state_is_never_replaced_by_a_worse_one(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, {"rollback": {"lower_lr": 1e-6}})
    state = tiny.start(settings)
    fault = tiny.Fault(
        state.learner.model.conv,
        math.nan,
        lambda: state.clock.images == 400 and state.learner.members[0].change.factor > 0.9e-12,
    )
    events = tiny.fit_all(state, settings, tiny.images(96), tiny.images(30, 1))
    fault.hook.remove()
    losses = [e.terms["loss"] for e in events if isinstance(e, Validated) and e.is_best]
    assert losses == sorted(losses, reverse=True) and len(mended(events)) >= 2
    assert state.progress[0].best_loss == losses[-1]


@pytest.mark.parametrize("batches", [3, 12, 22, 27])
def test_stopped_and_continued_a_mended_run_is_the_same_bit_for_bit(
    tiny: SimpleNamespace, batches: int
) -> None:
    """Before and after the failure; states to go back to are stored with the run."""
    options = {"ema_decay": 0.9, "scheduler": Choice("OneCycleLR")}
    settings = settings_of(tiny, ROLLBACK, **options)
    whole, _ = run(tiny, settings, "wide", math.nan, at=352)
    left = iter(range(batches))
    first, _ = run(tiny, settings, "wide", math.nan, at=352, stop=lambda: next(left, None) is None)
    assert first.clock.images < 480
    tensors, numbers = first.stored()
    stored, text = save(tensors), json.dumps(numbers, allow_nan=False)
    second = make_state(tiny.Model(), settings)
    second.load(load(stored), json.loads(text))
    run(tiny, settings, "wide", math.nan, at=352, state=second)
    (mine, ours), (its, others) = second.stored(), whole.stored()
    assert mine.keys() == its.keys()
    assert all(torch.equal(tensor, its[name]) for name, tensor in mine.items())
    for each in (ours, others):
        for numbers in (each, *(kept["snapshot"] for kept in each["ring"])):
            numbers["seconds"] = numbers["cpu_seconds"] = 0
    assert ours == others


def test_runs_that_train_together_refuse_to_go_back(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(on_nan="rollback", max_images=32)
    first = tiny.start(settings)
    state = State(first.learner)
    state.learner = SimpleNamespace(members=[first.learner, first.learner])  # type: ignore
    with pytest.raises(ConfigError, match="rollback goes back in time"):
        next(fit(state, tiny.objective, tiny.images(20), None, settings))
    assert StackedLearner


def test_what_is_in_force_is_what_the_present_course_has() -> None:
    early = Intervention("rollback", 100, 150, "a", StateChange(0.5))
    late = Intervention("rollback", 300, 350, "b", StateChange(0.25))
    deeper = Intervention("rollback", 200, 360, "c", StateChange(0.125))
    assert in_force([early, late, deeper]) == [early, deeper]
    assert [change_at([early, late, deeper], n).factor for n in (99, 100, 250, 300)] == [
        1.0, 0.5, 0.125, 0.125,
    ]  # fmt: skip
    skip = Intervention("skip", 64, 128, "d")
    assert is_skipped([skip], 64) and not is_skipped([skip], 80)


def test_the_ring_keeps_states_apart_and_gives_up_one_that_failed() -> None:
    ring = Ring()
    for batches in (0, APART, APART + 20, APART + 40, 2 * APART, 3 * APART):
        ring.add(Kept(batches * 16, batches, {}, None))
    assert [kept.batches for kept in ring.states] == [APART, 2 * APART, 3 * APART]
    assert ring.go_back(None).batches == 3 * APART
    assert ring.go_back(3 * APART * 16).batches == 2 * APART
    assert ring.go_back(2 * APART * 16).batches == APART
    assert ring.go_back(APART * 16).batches == APART


class HalfPrecision(torch.nn.Module):
    """A linear autoencoder that computes in float16, as document 002 trained: largest 65,504."""

    noise_shape, terms = None, ()

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(64, 32)
        self.decoder = torch.nn.Linear(32, 64)

    def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Output:
        code = torch.nn.functional.linear(
            images.flatten(1).half(), self.encoder.weight.half(), self.encoder.bias.half()
        )
        picture = self.decoder(code.float())
        return Output(picture.reshape(-1, 1, 8, 8), code.float(), Deterministic())


class Summed:
    """Squared error times 50, as document 002 weighed its drawn loss."""

    def __call__(self, output: Output, target: torch.Tensor, images_seen: int) -> Any:
        return {"l2": (output.reconstruction - target).square().flatten(1).sum(1)}

    def total(self, values: Any, images_seen: int) -> torch.Tensor:
        return 50.0 * values["l2"]


def test_the_night_of_document_002_ends_with_a_finished_run(tiny: SimpleNamespace) -> None:
    """Half precision, no clipping, and a learning rate that rises 250-fold at 80 % of the run."""
    settings = tiny.settings(
        on_nan={"rollback": {}},
        optimizer=Choice("SGD", {"momentum": 0.9}),
        learnrate=4e-5,
        scheduler=Choice("MultiStepLR", {"milestones": [160], "gamma": 250.0}),
        max_images=3200,
        validate_every_images=800,
    )
    torch.manual_seed(0)
    with pytest.raises(DivergedError, match="250-fold"):
        plain = dataclasses.replace(settings, on_nan="stop")  # type: ignore[arg-type]
        list(fit(make_state(HalfPrecision(), plain), Summed(), tiny.images(96), None, plain))
    torch.manual_seed(0)
    state = make_state(HalfPrecision(), settings)
    events = list(fit(state, Summed(), tiny.images(96), tiny.images(30, 1), settings))
    found = mended(events)
    assert 1 <= len(found) <= settings.on_nan.times
    assert events[-1] == Finished(3200, "max_images")
    assert all(2560 <= (event.report["first_bad_batch_at"] or 2560) for event in found)
    assert "250-fold, from 4e-05 to 0.01" in found[0].report["learnrate_raised"]
    validated = [event for event in events if isinstance(event, Validated)]
    assert validated[-1].terms["loss"] < 1.2 * validated[0].terms["loss"]


class Aside(nn.Module):
    """A layer whose output is used, after layers whose outputs are dropped at once."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(20)))
        self.used = nn.Conv2d(1, 1, 1)

    def forward(self, images: Tensor, noise: Tensor | None) -> Output:
        self.aside(images)  # the memory of these outputs is used again
        reconstruction = self.used(images)
        return Output(reconstruction, images.flatten(1))


def test_a_layer_is_named_after_others_whose_outputs_are_gone(tiny: SimpleNamespace) -> None:
    model, images = Aside(), torch.rand(4, 1, 8, 8)
    fault = tiny.Fault(model.used, math.inf, lambda: True, backward=True)
    # Python gives the id of a tensor that is gone to another, but not each time.
    found = [find_in_step(model, tiny.objective, (images, images, None), 0) for _ in range(40)]
    fault.hook.remove()
    assert {origin.short() for origin in found if origin} == {"the gradient of 'used' overflowed"}
    assert all(found)

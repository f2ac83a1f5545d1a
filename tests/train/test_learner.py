"""A learner is kept in memory and put back: training goes on as if nothing had happened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aelab.train import Choice, Logged, State, fit

CASES: dict[str, dict[str, Any]] = {
    "averaged": {"ema_decay": 0.9, "scheduler": Choice("cosine")},
    "momentum": {"optimizer": Choice("SGD", {"momentum": 0.9}), "scheduler": Choice("OneCycleLR")},
    "accumulated": {"gradient_accumulation": 3, "micro_batch_size": 5},
    "plateau": {"scheduler": Choice("ReduceLROnPlateau", {"patience": 0})},
}


def same(ours: State, its: State) -> None:
    """Everything that is stored of two states, but their seconds, is equal."""
    (mine, numbers), (other, others) = ours.stored(), its.stored()
    assert mine.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items())
    unlike = {"seconds": 0, "cpu_seconds": 0}
    assert {**numbers, **unlike} == {**others, **unlike}


@pytest.mark.parametrize("case", CASES)
def test_a_state_that_is_put_back_goes_on_bit_for_bit(tiny: SimpleNamespace, case: str) -> None:
    """Kept between two batches, put back twice: from outside of the loop, and inside of it."""
    settings = tiny.settings(validate_every_images=80, **CASES[case])
    images, held_out = tiny.images(150, augment=True), tiny.images(30, 1)
    whole = tiny.start(settings)
    tiny.fit_all(whole, settings, images, held_out)

    state = tiny.start(settings)
    tiny.fit_all(state, settings, images, held_out, stop=lambda: state.clock.batches >= 7)
    kept = state.snapshot()
    early = state.stored()
    for _ in range(2):
        tiny.fit_all(state, settings, images, held_out)
        same(state, whole)
        state.restore(kept)
        assert state.clock.batches == 7
        assert all(torch.equal(t, early[0][name]) for name, t in state.stored()[0].items())
        assert state.stored()[1] == early[1]


def test_the_loop_goes_on_from_a_state_that_is_put_back_meanwhile(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(ema_decay=0.9, scheduler=Choice("cosine"))
    images = tiny.images(150, augment=True)
    whole = tiny.start(settings)
    tiny.fit_all(whole, settings, images)
    state, kept = tiny.start(settings), []
    for event in fit(state, tiny.objective, images, None, settings):
        if isinstance(event, Logged) and event.images >= 64 and not kept:
            kept.append(state.snapshot())
        elif isinstance(event, Logged) and event.images >= 250 and len(kept) == 1:
            state.restore(kept[0])
            kept.append(None)
    assert len(kept) == 2
    same(state, whole)


def test_a_snapshot_is_not_changed_by_what_is_trained_after_it(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    state = tiny.start(settings)
    tiny.fit_all(state, settings, tiny.images(100), stop=lambda: state.clock.batches >= 3)
    kept = state.learner.snapshot()
    before = [tensor.clone() for tensor in kept.players[0].tensors]
    tiny.fit_all(state, settings, tiny.images(100))
    assert all(torch.equal(*pair) for pair in zip(kept.players[0].tensors, before, strict=True))
    assert not torch.equal(kept.players[0].tensors[0], next(iter(state.learner.model.parameters())))


def test_a_learner_says_whether_its_weights_are_numbers(tiny: SimpleNamespace) -> None:
    state = tiny.start(tiny.settings())
    assert state.learner.finite().tolist() == [True]
    state.learner.model.norm.running_var[0] = float("nan")
    assert state.learner.finite().tolist() == [False]

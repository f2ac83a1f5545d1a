"""Optimisers by name: all train, fused where torch can, Muon split."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aelab.errors import ConfigError
from aelab.train import OPTIMIZERS, Choice, Logged, make_optimizer


@pytest.mark.parametrize("name", OPTIMIZERS.ours)
def test_every_optimizer_lowers_the_loss(tiny: SimpleNamespace, name: str) -> None:
    rate = {"SGD": 1.0, "ASGD": 1.0, "Adadelta": 1.0, "Adafactor": 0.02}.get(name, 3e-3)
    settings = tiny.settings(
        optimizer=Choice(name), learnrate=rate, batch_size=8, max_images=800, log_every_images=80
    )
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(8))
    losses = [event.terms["l1"] for event in events if isinstance(event, Logged)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_optimizers_are_fused_where_torch_can(tiny: SimpleNamespace, name: str) -> None:
    assert make_optimizer(tiny.Model(), Choice(name), 1e-3).defaults["fused"] is True


def test_a_wish_against_fusing_is_respected(tiny: SimpleNamespace) -> None:
    optimizer = make_optimizer(tiny.Model(), Choice("Adam", {"fused": False}), 1e-3)
    assert optimizer.defaults["fused"] is False


def test_fused_adam_equals_the_plain_loop_closely(tiny: SimpleNamespace) -> None:
    weights = []
    for fused in (True, False):
        settings = tiny.settings(optimizer=Choice("Adam", {"fused": fused}))
        state = tiny.start(settings)
        tiny.fit_all(state, settings, tiny.images(100))
        weights.append(state.learner.model.out.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


def test_muon_takes_matrices_and_adamw_the_rest(tiny: SimpleNamespace) -> None:
    model = tiny.Model()
    optimizer = make_optimizer(model, Choice("Muon", {"betas": [0.8, 0.9], "momentum": 0.9}), 1e-3)
    matrices, rest = optimizer.param_groups
    assert all(p.ndim == 2 for p in matrices["params"])
    assert all(p.ndim != 2 for p in rest["params"])
    assert matrices["momentum"] == 0.9
    assert rest["betas"] == (0.8, 0.9)
    counted = len(matrices["params"]) + len(rest["params"])
    assert counted == len(list(model.parameters()))


def test_a_schedule_reaches_both_parts_of_muon(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(
        optimizer=Choice("Muon"), scheduler=Choice("step", {"every_images": 100, "factor": 0.5})
    )
    state = tiny.start(settings)
    tiny.fit_all(state, settings, tiny.images(100))
    assert {group["lr"] for group in state.learner.optimizer.param_groups} == {1e-3 * 0.5**3}


def test_frozen_parameters_stay(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    model = tiny.Model()
    model.conv.requires_grad_(False)
    before = model.conv.weight.clone()
    from aelab.train import make_state

    tiny.fit_all(make_state(model, settings), settings, tiny.images(50))
    assert torch.equal(model.conv.weight, before)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("Adamm"), "did you mean 'Adam"),
        (Choice("LBFGS"), "unknown optimizer 'LBFGS'"),
        (Choice("AdamW", {"weight_decy": 0.1}), "did you mean 'weight_decay'"),
        (Choice("Adam", {"lr": 1}), "key learnrate"),
        (Choice("Adam", {"betas": [2, 3]}), "Invalid beta"),
    ],
)
def test_wrong_optimizers_are_refused(tiny: SimpleNamespace, choice: Choice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer(tiny.Model(), choice, 1e-3)

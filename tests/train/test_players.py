"""Players beside the model: trained, logged, stored, continued and rolled back with it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from aelab.errors import ConfigError, DivergedError, StoreError
from aelab.losses import Objective, make_objective
from aelab.train import (
    Choice,
    Logged,
    Mended,
    StackedLearner,
    State,
    Validated,
    fit,
    make_learner,
    make_state,
)
from aelab.types import Images
from tests.train.test_resume import FULL, assert_equal_states, stop_after, without_seconds

TERMS: dict[str, Any] = {
    "l1": 1,
    "latent_critic": {"weight": 0.1, "r1": 1, "hidden": [8]},
    "correlation_critic": {"weight": 0.5, "hidden": [8], "learnrate": 0.01, "scheduler": "cosine"},
    "image_critic": {
        "adaptive": True,
        "channels": [4],
        "start_images": 150,
        "optimizer": {"SGD": {"momentum": 0.9}},
    },
}


def game(tiny: SimpleNamespace, settings: Any, seed: int = 0) -> tuple[State, Objective]:
    """A training with three critics, and its objective."""
    objective = make_objective(objective=TERMS)
    objective.prepare(tiny.images(4))
    torch.manual_seed(seed)
    return make_state(tiny.Model(), settings, objective=objective), objective


def trained(state: State, objective: Objective, tiny: SimpleNamespace, settings: Any, **more: Any):  # type: ignore[no-untyped-def]
    train, held_out = tiny.images(100, augment=True), tiny.images(30, 1, augment=True)
    return list(fit(state, objective, train, held_out, settings, **more))


@pytest.mark.parametrize("batches", [3, 9, 17])
def test_a_stopped_game_continues_bit_for_bit(tiny: SimpleNamespace, batches: int) -> None:
    settings = tiny.settings(**FULL)
    whole, objective = game(tiny, settings)
    expected = trained(whole, objective, tiny, settings)

    first, objective = game(tiny, settings)
    seen = trained(first, objective, tiny, settings, should_stop=stop_after(batches))
    tensors, numbers = first.stored()
    stored, text = save(tensors), json.dumps(numbers, allow_nan=False)

    second, objective = game(tiny, settings, seed=99)
    torch.rand(7)
    second.load(load(stored), json.loads(text))
    seen += trained(second, objective, tiny, settings)
    assert without_seconds(seen) == without_seconds(expected)
    assert_equal_states(second, whole)


def test_a_snapshot_brings_every_player_back(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(**FULL)
    state, objective = game(tiny, settings)
    trained(state, objective, tiny, settings, should_stop=stop_after(11))
    snapshot = state.snapshot()
    trained(state, objective, tiny, settings, should_stop=stop_after(4))
    once = save(state.stored()[0])
    state.restore(snapshot)
    trained(state, objective, tiny, settings, should_stop=stop_after(4))
    assert save(state.stored()[0]) == once


def test_losses_learning_rates_and_weights_are_logged(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(scheduler=Choice("cosine"), max_images=320, log_every_images=32)
    state, objective = game(tiny, settings)
    events = trained(state, objective, tiny, settings)
    logs = [event for event in events if isinstance(event, Logged)]
    held_out = [event for event in events if isinstance(event, Validated)]
    for name in objective.players:
        assert all({name, f"{name}_loss"} <= event.terms.keys() for event in (*logs, *held_out))
        assert all(f"{name}_learnrate" in event.terms for event in logs)
    for event in logs:
        own = event.terms
        assert own["loss_final"] == pytest.approx(own["l1"])  # what states are judged by
        begun = event.images > 200  # the window of the start has batches of both
        assert not begun or own["image_critic_loss"] > 0
        assert own["correlation_critic_learnrate"] == pytest.approx(10 * event.learnrate)
        assert own["latent_critic_learnrate"] == pytest.approx(event.learnrate)
    assert logs[0].terms["image_critic_loss"] == 0 and logs[-1].learnrate < 1e-4
    best = min(event.terms["l1"] for event in held_out)
    assert state.progress[0].best_loss == pytest.approx(best)


def test_every_player_learns_and_a_waiting_one_does_not(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=144)
    state, objective = game(tiny, settings)
    before = {
        name: [p.detach().clone() for p in critic.parameters()]
        for name, critic in objective.players.items()
    }
    trained(state, objective, tiny, settings)
    moved = {
        name: any(not torch.equal(*pair) for pair in zip(before[name], c.parameters(), strict=True))
        for name, c in objective.players.items()
    }
    assert moved == {"latent_critic": True, "correlation_critic": True, "image_critic": False}


def test_one_step_is_that_of_two_optimisers_by_hand(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=16, learnrate=0.1, optimizer=Choice("SGD"))
    terms = {"l1": 1, "latent_critic": {"hidden": [8], "learnrate": 0.2, "optimizer": "SGD"}}
    objective = make_objective(objective=terms)
    images = tiny.images(16)
    objective.prepare(images)
    torch.manual_seed(0)
    state = make_state(tiny.Model(dropout=0.0, noise=False), settings, objective=objective)
    critic = objective.players["latent_critic"]
    model = state.learner.members[0].model
    first = [p.detach().clone() for p in (*model.parameters(), *critic.parameters())]
    list(fit(state, objective, images, None, settings))
    after = [p.detach().clone() for p in (*model.parameters(), *critic.parameters())]

    for parameter, value in zip((*model.parameters(), *critic.parameters()), first, strict=True):
        parameter.data.copy_(value)
    from aelab.train.batches import Batches, Draws

    order = Batches(images, torch.device("cpu"), False).order(0, 0)
    target = (images.pixels[order].float() / 255).contiguous(memory_format=torch.channels_last)
    Draws(0, torch.device("cpu")).reseed_default(0)
    output = model.train()(target)
    latents = output.latent.flatten(1)
    own = nn.functional.softplus(-critic.network(torch.randn(latents.shape)))
    own = (own + nn.functional.softplus(critic.network(latents.detach()))).mean()
    loss = (output.reconstruction - target).abs().mean()
    loss = loss + nn.functional.softplus(-critic.network(latents)).mean()
    expected: list[Tensor] = []
    for rate, value, network in ((0.1, loss, model), (0.2, own, critic)):
        weights = [p for p in network.parameters()]
        found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        expected += [
            p - rate * (0 if g is None else g) for p, g in zip(weights, found, strict=True)
        ]
    for mine, theirs in zip(after, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_critic_that_breaks_is_named(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=160)
    state, objective = game(tiny, settings)
    with torch.no_grad():
        objective.players["latent_critic"].network[0].weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="latent_critic"):
        trained(state, objective, tiny, settings)


def test_a_rollback_brings_the_critics_back(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=800, on_nan={"rollback": {"times": 2}})
    state, objective = game(tiny, settings)
    critic = objective.players["latent_critic"]
    plain, broken = critic.own_loss, []

    def breaks(output: Any, target: Tensor) -> Tensor:
        """NaN once, in the tenth batch; afterwards the learning rate is lower."""
        value = plain(output, target)
        if state.clock.images >= 160 and not state.interventions and torch.is_grad_enabled():
            broken.append(True)
            return value * float("nan")
        return value

    critic.own_loss = breaks  # type: ignore[method-assign]
    events = trained(state, objective, tiny, settings)
    (mended,) = [event for event in events if isinstance(event, Mended)]
    assert broken and mended.images <= 160 < state.clock.images
    assert all(p.isfinite().all() for p in critic.parameters())
    rates = [e.terms["latent_critic_learnrate"] for e in events if isinstance(e, Logged)]
    assert rates[-1] < rates[0] == 1e-3  # lowered for every player


def test_a_state_made_without_its_objective_is_refused(tiny: SimpleNamespace) -> None:
    objective, settings = make_objective(objective=TERMS), tiny.settings()
    state = make_state(tiny.Model(), settings)
    with pytest.raises(ConfigError, match=r"latent_critic.*brings a network that learns") as told:
        list(fit(state, objective, tiny.images(20), None, settings))
    assert "make_state(model, settings, objective=objective)" in str(told.value.hint)
    with pytest.raises(ConfigError, match="before the images are known"):
        make_state(tiny.Model(), settings, objective=objective)


def test_a_checkpoint_without_the_critic_is_told(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    stored = tiny.start(settings).stored()
    state, _ = game(tiny, settings)
    with pytest.raises(StoreError, match="has no player 'latent_critic'"):
        state.load(*stored)


def test_games_are_not_stacked(tiny: SimpleNamespace) -> None:
    objective, settings = make_objective(objective={"l1": 1, "latent_critic": 1}), tiny.settings()
    objective.prepare(Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))
    learners = [make_learner(tiny.Model(0.0), settings, objective=objective) for _ in range(2)]
    with pytest.raises(ConfigError, match="latent_critic is a network that learns"):
        StackedLearner(learners)

"""The penalty of the encoder's slope in training, for encoders of every kind."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.models import (
    Autoencoder,
    ConditionalAutoencoder,
    DecoderMLP,
    EncoderMLP,
    Identity,
    VariationalEncoder,
)
from aelab.train import StackedLearner, State, evaluate, fit, make_learner, make_state
from aelab.train.forward import forward

SHAPE = (1, 8, 8)


def model_with_norms() -> Autoencoder:
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 4)
    )
    return Autoencoder(encoder, Identity(), DecoderMLP(SHAPE, 4, hidden=(16,)))


def objective_with(**options: Any) -> Any:
    return make_objective(objective={"l2": 1, "contractive": {"weight": 1e-3, **options}})


@pytest.mark.parametrize("estimate", ["projection", "difference", "exact"])
def test_an_encoder_with_batch_norm_and_dropout_becomes_flatter_and_keeps_its_statistics(
    tiny: SimpleNamespace, estimate: str
) -> None:
    settings = tiny.settings(batch_size=16, max_images=480, learnrate=0.02)
    exact, found = objective_with(estimate="exact"), {}
    for name, objective in {
        "with": objective_with(estimate=estimate, weight=0.1),
        "without": make_objective(objective={"l2": 1}),
    }.items():
        state = make_state(model_with_norms(), settings)
        list(fit(state, objective, tiny.images(100), tiny.images(30, 1), settings))
        model = state.learner.members[0].model
        values = evaluate(model, exact, tiny.images(30, 1), settings)
        found[name] = values["contractive"]
        assert int(model.encoder[2].num_batches_tracked) == state.clock.batches  # not counted twice
    assert 0 < found["with"] < 0.7 * found["without"], found


def test_the_slope_of_an_encoder_with_batch_norm_is_that_of_evaluation() -> None:
    model, images = model_with_norms().train(), torch.rand(6, *SHAPE)
    _, values, _ = forward(
        model, objective_with(estimate="exact"), images, images, None, images_seen=0
    )
    _, first, norm, _, last = model.encoder
    # The pass of training has moved the running variance before.
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    slope = last.weight @ (scale[:, None] * first.weight)
    wanted = slope.square().sum().expand(6)
    torch.testing.assert_close(values["contractive"], wanted)
    assert model.training and norm.training


def test_a_model_of_classes_is_flattened_for_the_class_of_each_image() -> None:
    torch.manual_seed(0)
    model = ConditionalAutoencoder(
        VariationalEncoder(EncoderMLP(SHAPE, 8, hidden=(8,)), 8, 3),
        DecoderMLP(SHAPE, 5, hidden=(8,)),
        SHAPE,
        2,
    )
    images, labels = torch.rand(4, *SHAPE), torch.tensor([0, 1, 0, 1])
    noise = torch.zeros(4, 3)
    _, values, _ = forward(
        model, objective_with(estimate="exact"), images, images, noise, labels, images_seen=0
    )
    jacobian = torch.autograd.functional.jacobian(lambda x: model.encode(x, labels), images)
    for row in range(4):
        wanted = jacobian[row, :, row].square().sum()
        torch.testing.assert_close(values["contractive"][row], wanted)


def test_a_run_with_the_penalty_continues_bit_for_bit(tiny: SimpleNamespace) -> None:
    settings, objective = tiny.settings(), objective_with()
    images = tiny.images(100), tiny.images(30, 1)
    whole = make_state(model_with_norms(), settings)
    list(fit(whole, objective, *images, settings))

    first, remaining = make_state(model_with_norms(), settings), iter(range(5))
    list(
        fit(first, objective, *images, settings,
            should_stop=lambda: next(remaining, None) is None)
    )  # fmt: skip
    tensors, numbers = first.stored()
    second = make_state(model_with_norms(), settings)
    second.load(tensors, json.loads(json.dumps(numbers)))
    assert second.clock.batches == 5
    list(fit(second, objective, *images, settings))
    expected, found = whole.stored()[0], second.stored()[0]
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_stacked_runs_are_told_to_train_alone(tiny: SimpleNamespace) -> None:
    settings = [tiny.settings(seed=seed) for seed in (1, 2)]
    members = [
        make_learner(Autoencoder(EncoderMLP(SHAPE, 4), Identity(), DecoderMLP(SHAPE, 4)), each)
        for each in settings
    ]
    state = State(StackedLearner(members))
    with pytest.raises(ConfigError, match="stacked runs") as told:
        list(fit(state, objective_with(), tiny.images(100), tiny.images(30, 1), settings))
    assert told.value.hint == "train these runs one by one"

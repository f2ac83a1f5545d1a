"""The clock hook, and what happens to weights and optimiser when a layer joins."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from aelab.founding.stacked import StackedSymmetricAutoencoderConv2d
from aelab.losses import make_objective
from aelab.models import Autoencoder, EncoderDecoder, Identity
from aelab.train import (
    Choice,
    FitSettings,
    State,
    Task,
    Validated,
    fit,
    make_state,
    set_clock,
)
from aelab.train.batches import Draws, ScheduledSets
from aelab.train.loop import train_batch
from aelab.types import Images

SHAPE = (1, 10, 10)
EVERY = 64


def stacked(**changes: Any) -> StackedSymmetricAutoencoderConv2d:
    options: dict[str, Any] = {"channels": (4, 4, 4), "new_layer_every_images": EVERY, **changes}
    return StackedSymmetricAutoencoderConv2d(SHAPE, 5, **options)


def pictures(count: int = 96, seed: int = 0) -> Images:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 3, 3, generator=generator)
    smooth = nn.functional.interpolate(coarse, (10, 10), mode="bilinear")
    return Images((smooth * 255).to(torch.uint8))


def settings(**changes: Any) -> FitSettings:
    plain: dict[str, Any] = {
        "batch_size": 16,
        "learnrate": 1e-2,
        "max_images": 5 * EVERY,
        "log_every_images": 32,
        "threads": 1,
        "optimizer": Choice("AdamW", {"weight_decay": 0.1}),
    }
    return FitSettings(**{**plain, **changes})


def start(config: FitSettings, **changes: Any) -> State:
    torch.manual_seed(0)
    return make_state(stacked(**changes), config)


def train(state: State, config: FitSettings, batches: int | None = None) -> list[Any]:
    """Trains to the end, or stops after so many batches."""
    objective = make_objective(state.learner.model.terms, loss_function="l2")
    remaining = iter(range(batches if batches is not None else 1 << 30))
    stop = lambda: next(remaining, None) is None  # noqa: E731
    held_out = pictures(20, 1)
    return list(fit(state, objective, pictures(), held_out, config, should_stop=stop))


class Clocked(nn.Module):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int]] = []

    def at(self, images: int, epoch: int) -> None:
        self.told.append((images, epoch))

    def forward(self, images: Tensor) -> Tensor:
        return images


class Told(nn.Module):
    """A model that trains one number and is told the time by one of its parts."""

    noise_shape, terms = None, ()

    def __init__(self) -> None:
        super().__init__()
        self.inner = EncoderDecoder(nn.Sequential(Clocked()), nn.Conv2d(1, 1, 1))

    @property
    def told(self) -> list[tuple[int, int]]:
        return self.inner.encoder[0].told

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Any:
        return self.inner(images)


def test_the_clock_is_told_before_every_batch_and_every_validation() -> None:
    config = settings(batch_size=40, max_images=200, validate_every_images=80)
    state = make_state(Told(), config)
    train(state, config)
    # 96 images are batches of 40, 40 and 16; validations at 80, 192 and at the end
    # the first 0 is the probe for the size of validation batches
    expected = [0, 0, 40, 80, 80, 96, 136, 176, 176, 192, 232]
    assert [images for images, _ in state.learner.model.told] == expected
    assert state.learner.model.told[-2:] == [(192, 2), (232, 2)]


def test_composed_models_hand_the_clock_to_the_parts_that_want_it() -> None:
    parts = [Clocked() for _ in range(3)]
    model = Autoencoder(nn.Sequential(nn.Identity(), parts[0]), Identity(), parts[1])
    set_clock(nn.ModuleList([model, parts[2]]), 7, 2)
    assert [part.told for part in parts] == [[(7, 2)]] * 3


CASES: dict[str, dict[str, Any]] = {
    "fade": {"fade_in_images": 48},
    "at once": {},
    "by epochs": {"new_layer_every_images": None, "layers_per_epochs": (2, 1)},
    "two weights": {"fade_in_images": 48, "symmetric": False},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "fused": {},
    "foreach": {"optimizer": Choice("AdamW", {"foreach": True}), "ema_decay": 0.9},
    "loop": {"optimizer": Choice("Adam", {"foreach": False, "fused": False})},
    "muon": {"optimizer": Choice("Muon", {"weight_decay": 0.1}), "gradient_accumulation": 2},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_in_a_fade_continues_bit_for_bit(case: str, optimizer: str) -> None:
    config = settings(**OPTIMIZERS[optimizer], validate_every_images=EVERY)
    whole = start(config, **CASES[case])
    seen = train(whole, config)
    for batches in (6, 8):  # 96 images: in the middle of a fade; 128: where a layer joins
        first = start(config, **CASES[case])
        train(first, config, batches)
        tensors, numbers = first.stored()
        stored, text = save(tensors), json.dumps(numbers)
        second = make_state(stacked(**CASES[case]), config)  # other weights, clock at the end
        second.load(load(stored), json.loads(text))
        rest = train(second, config)
        last, same = (
            [event.terms for event in events if isinstance(event, Validated)][-1]
            for events in (seen, rest)
        )
        assert last == same
        one, other = whole.stored()[0], second.stored()[0]
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layers_not_in_use_are_neither_decayed_nor_given_moments(optimizer: str) -> None:
    config = settings(**OPTIMIZERS[optimizer])
    state = start(config)
    waiting = [p for layer in state.learner.model.layers[2:] for p in layer.parameters()]
    before = [p.detach().clone() for p in waiting]
    averaged = [
        p
        for layer in (state.learner.ema or state.learner.model).layers[2:]
        for p in layer.parameters()
    ]
    train(state, config, batches=2 * EVERY // 16)  # layers 0 and 1
    for parameters in (waiting, averaged):
        assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert not any(state.learner.optimizer.state.get(p) for p in waiting)
    used = [p for layer in state.learner.model.layers[:2] for p in layer.parameters()]
    assert all(state.learner.optimizer.state.get(p) for p in used)


@pytest.mark.parametrize("optimizer", ["fused", "foreach", "loop"])
def test_a_newcomer_starts_with_fresh_moments_and_its_own_count(optimizer: str) -> None:
    """So Adam's bias correction makes its first step as large as any layer's first step was."""
    config = settings(**{**OPTIMIZERS[optimizer], "scheduler": None})
    state = start(config)
    train(state, config, batches=EVERY // 16)
    newcomer = state.learner.model.layers[1].convolution.weight
    before = newcomer.detach().clone()
    train(state, config, batches=1)
    counts = [
        int(state.learner.optimizer.state[layer.convolution.weight]["step"])
        for layer in state.learner.model.layers[:2]
    ]
    assert counts == [5, 1]
    moved = (newcomer - before).abs() / config.learnrate
    assert 0.9 < moved.median().item() < 1.2


def first_step_change(fade_in_images: int) -> tuple[float, float]:
    """Of the step after a layer joins: the change of the image, and the largest of old weights."""
    config = settings(optimizer=Choice("AdamW"))
    state = start(config, fade_in_images=fade_in_images)
    train(state, config, batches=EVERY // 16)
    objective = make_objective((), loss_function="l2")
    images = pictures()
    shown = images.pixels.float() / 255
    old = [p.detach().clone() for p in state.learner.model.layers[0].parameters()]
    with torch.no_grad():
        before = state.learner.model(shown).reconstruction
    batches = ScheduledSets(images, state.learner.device, state.learner.channels_last)
    for _ in range(3):
        train_batch(
            state,
            [Task(objective, config)],
            batches.at(0),
            [Draws(0, state.learner.device)],
        )
    with torch.no_grad():
        change = (state.learner.model(shown).reconstruction - before).abs().mean().item()
    new = list(state.learner.model.layers[0].parameters())
    return change, max((p - b).abs().max().item() for p, b in zip(new, old, strict=True))


def test_a_fade_is_the_newcomers_warm_up() -> None:
    """Its weights move by a full step, its influence grows from nothing: images stay near.

    And the old layers are not thrown about by the jump of the loss.
    """
    jump, thrown = first_step_change(0)
    faded, kept = first_step_change(EVERY)
    assert faded < 0.5 * jump
    assert kept < thrown


def test_a_scheduled_model_learns_through_all_its_layers() -> None:
    config = settings(max_images=40 * 96, learnrate=5e-3, validate_every_images=960)
    state = start(config, fade_in_images=320, new_layer_every_images=640)
    losses = [e.terms["loss"] for e in train(state, config) if isinstance(e, Validated)]
    assert state.learner.model.layer_index == 3 and state.learner.model.latent_sizes == [5]
    pixels = pictures(20, 1).pixels.float() / 255
    assert losses[-1] < 0.8 * (pixels - pictures().pixels.float().div(255).mean(0)).square().mean()

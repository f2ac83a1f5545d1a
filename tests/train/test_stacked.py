"""Several runs in one pass: each is its single run, and one that fails disturbs no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DivergedError
from aelab.posteriors import GaussianPosterior
from aelab.train import (
    CheckpointDue,
    Choice,
    Clipping,
    Failed,
    Finished,
    FitSettings,
    Logged,
    StackedLearner,
    State,
    Validated,
    fit,
    make_learner,
    make_state,
)
from aelab.types import Output


class Double(nn.Module):
    """A variational autoencoder of 8x8 images in float64; a buffer of random features."""

    terms = ()
    noise_shape = (6,)

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.mean, self.log_std = nn.Linear(256, 6), nn.Linear(256, 6)
        self.out = nn.Linear(6, 64)
        self.register_buffer("offset", torch.randn(6))
        self.double()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        hidden = self.conv(images.double()).tanh().flatten(1)
        mean, log_std = self.mean(hidden), self.log_std(hidden)
        latent = mean if noise is None else mean + log_std.exp() * noise
        picture = self.out(latent + self.offset).sigmoid().reshape(-1, 1, 8, 8)
        return Output(picture, latent, GaussianPosterior(mean, log_std))


def settings_of(tiny: SimpleNamespace, rates: list[float], **changes: Any) -> list[FitSettings]:
    """One a run: another seed and learning rate."""
    plain: dict[str, Any] = {
        "max_images": 220,
        "log_every_images": 48,
        "validate_every_images": 64,
        "checkpoint_every_images": 100,
        "channels_last": False,
    }
    return [
        tiny.settings(**{**plain, "seed": seed, "learnrate": rate, **changes})
        for seed, rate in enumerate(rates)
    ]


def trained(tiny: SimpleNamespace, settings: list[FitSettings]) -> tuple[State, list[Any]]:
    """The runs together, and all their events."""
    members = [make_learner(Double(each.seed), each) for each in settings]
    state = State(StackedLearner(members))
    held_out = tiny.images(30, 1)
    events = fit(state, tiny.objective, tiny.images(100, augment=True), held_out, settings)
    return state, list(events)


def weights(state: State, run: int = 0) -> list[Tensor]:
    member = state.learner.members[run]
    return [t.detach() for t in (member.ema or member.model).state_dict().values()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": Choice("SGD", {"momentum": 0.9}), "scheduler": Choice("cosine")},
        {"gradient_accumulation": 3, "ema_decay": 0.9, "gradient_clipping": Clipping(norm=0.05)},
        {"micro_batch_size": 5, "training_noise": 0.1, "scheduler": Choice("OneCycleLR")},
    ],
    ids=["plain", "momentum", "accumulated", "pieces"],
)
def test_each_run_of_a_stack_is_its_single_run(
    tiny: SimpleNamespace, changes: dict[str, Any]
) -> None:
    settings = settings_of(tiny, [1e-3, 3e-3, 2e-2], **changes)
    state, events = trained(tiny, settings)
    assert sum(isinstance(event, CheckpointDue) for event in events) == 6
    for run, own in enumerate(settings):
        single = make_state(Double(own.seed), own)
        images, held_out = tiny.images(100, augment=True), tiny.images(30, 1)
        alone = list(fit(single, tiny.objective, images, held_out, own))
        mine = [event for event in events if event.run == run]
        assert [type(event) for event in mine] == [type(event) for event in alone]
        for ours, its in zip(mine, alone, strict=True):
            assert ours.images == its.images
            if isinstance(its, Logged | Validated):
                assert ours.terms == pytest.approx(its.terms, rel=1e-9)
            if isinstance(its, Logged):
                assert ours.learnrate == its.learnrate
            if isinstance(its, Validated):
                assert (ours.is_best, ours.is_judged) == (its.is_best, its.is_judged)
        for ours, its in zip(weights(state, run), weights(single), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-9, atol=1e-11)
        assert state.progress[run].best_images == single.progress[0].best_images
        assert state.progress[run].start == pytest.approx(single.start(), rel=1e-9)
        assert state.clock.steps == single.clock.steps
        names, numbers = single.stored()
        assert {n: t.shape for n, t in state.stored(run)[0].items()} == {
            n: t.shape for n, t in names.items()
        }
        assert state.stored(run)[1].keys() == numbers.keys()
    others = [weights(state, run)[0] for run in range(3)]
    assert not torch.equal(others[0], others[1]) and not torch.equal(others[1], others[2])


def test_a_run_that_fails_is_left_out_and_the_others_go_on_bit_for_bit(
    tiny: SimpleNamespace,
) -> None:
    sgd: dict[str, Any] = {"optimizer": Choice("SGD")}
    sound, every = trained(tiny, settings_of(tiny, [0.1, 0.1, 0.2], **sgd))
    broken, events = trained(tiny, settings_of(tiny, [0.1, 1e300, 0.2], **sgd))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.run == 1 and isinstance(failed.error, DivergedError)
    assert "training diverged between 0 and" in failed.error.message
    assert not any(event.run == 1 for event in events[events.index(failed) + 1 :])
    ends = [(event.run, event.reason) for event in events if isinstance(event, Finished)]
    assert ends == [(0, "max_images"), (2, "max_images")]
    for run in (0, 2):
        for ours, its in zip(weights(broken, run), weights(sound, run), strict=True):
            assert torch.equal(ours, its)
        both = [[e for e in found if e.run == run] for found in (events, every)]
        for ours, its in zip(*both, strict=True):
            assert type(ours) is type(its) and ours.images == its.images
            if isinstance(its, Logged | Validated):
                assert ours.terms == its.terms


def test_the_error_of_the_last_run_is_raised(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, [1e300, 1e300], optimizer=Choice("SGD"))
    with pytest.raises(DivergedError, match="training diverged"):
        trained(tiny, settings)


def test_a_run_that_reaches_its_loss_ends_before_the_others(tiny: SimpleNamespace) -> None:
    first, second = settings_of(tiny, [1e-3, 1e-3])
    easy = settings_of(tiny, [1e-3], min_loss=1.0)[0]
    state, events = trained(tiny, [easy, second])
    ends = {event.run: (event.images, event.reason) for event in events if type(event) is Finished}
    assert ends == {0: (64, "min_loss"), 1: (232, "max_images")}
    whole, _ = trained(tiny, [first, second])
    for ours, its in zip(weights(state, 1), weights(whole, 1), strict=True):
        assert torch.equal(ours, its)


class Writing(Double):
    """Counts in a buffer how often it was called."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        self.calls += 1
        return super().forward(images, noise)


def test_models_that_one_pass_cannot_compute_are_refused(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, [1e-3, 1e-3])
    dropping = [make_learner(tiny.Model(), each) for each in settings]
    with pytest.raises(ConfigError, match=r"'norm' .BatchNorm2d. writes running statistics"):
        StackedLearner(dropping)
    for member in dropping:
        member.model.norm = nn.GroupNorm(2, 4)
    with pytest.raises(ConfigError, match=r"'dropout' .Dropout. draws random numbers"):
        StackedLearner(dropping)
    other = make_learner(tiny.Model(dropout=0.0), settings[0])
    with pytest.raises(ConfigError, match="only models of one architecture"):
        StackedLearner([make_learner(Double(0), settings[0]), other])
    writing = State(StackedLearner([make_learner(Writing(0), each) for each in settings]))
    with pytest.raises(ConfigError, match="Writing writes buffers in its forward pass"):
        list(fit(writing, tiny.objective, tiny.images(40), None, settings))


def test_runs_that_cannot_share_a_clock_are_refused(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, [1e-3, 1e-3])
    state = State(StackedLearner([make_learner(Double(0), each) for each in settings]))
    other = settings_of(tiny, [1e-3], batch_size=8)
    with pytest.raises(ConfigError, match="must agree in all settings but seed, learnrate"):
        list(fit(state, tiny.objective, tiny.images(40), None, [settings[0], *other]))
    with pytest.raises(ConfigError, match="2 runs train together, given are 2 objectives and 1"):
        list(fit(state, tiny.objective, tiny.images(40), None, other))


def test_a_stack_goes_on_from_its_snapshot_bit_for_bit(tiny: SimpleNamespace) -> None:
    settings = settings_of(tiny, [1e-3, 1e-2])
    whole, _ = trained(tiny, settings)
    state = State(StackedLearner([make_learner(Double(s.seed), s) for s in settings]))
    images, held_out = tiny.images(100, augment=True), tiny.images(30, 1)
    kept: Any = None
    for event in fit(state, tiny.objective, images, held_out, settings):
        if isinstance(event, Validated) and event.run == 1 and event.images == 64:
            kept = kept or state.snapshot()
        if isinstance(event, Logged) and event.run == 1 and event.images == 208 and kept:
            state.restore(kept)
            kept = None
            assert state.clock.images == 64
    for run in (0, 1):
        for ours, its in zip(weights(state, run), weights(whole, run), strict=True):
            assert torch.equal(ours, its)

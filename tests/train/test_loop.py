"""The loop: clock, what is due when, schedules of sets, stopping, divergence, no waiting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from aelab.errors import ConfigError, DataError, DivergedError
from aelab.train import CheckpointDue, Choice, Finished, FitSettings, Logged, Validated, fit
from aelab.types import Images


def images_of(events: list[Any], kind: type) -> list[int]:
    return [event.images for event in events if isinstance(event, kind)]


def test_images_are_the_clock_and_the_last_batch_of_an_epoch_is_the_remainder(
    tiny: SimpleNamespace,
) -> None:
    settings = tiny.settings(max_images=150)
    state = tiny.start(settings)
    events = tiny.fit_all(state, settings, tiny.images(50))
    # 16 + 16 + 16 + 2 an epoch; 150 is reached at the end of the third.
    assert events[-1] == Finished(150, "max_images")
    assert (state.clock.images, state.clock.epoch, state.clock.batches) == (150, 3, 12)


def test_max_images_is_checked_after_a_batch(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=100)
    assert tiny.fit_all(tiny.start(settings), settings, tiny.images(500))[-1].images == 112


def test_a_million_images_of_the_documents_end_where_they_ended() -> None:
    # RPG: 47,579 images are 743 full batches and 27; the run ended at 1,000,055.
    images = epoch_images = 0
    while images < 1_000_000:
        size = min(64, 47_579 - epoch_images)
        images, epoch_images = images + size, (epoch_images + size) % 47_579
    assert images == 1_000_055


def test_every_image_is_seen_once_an_epoch(tiny: SimpleNamespace) -> None:
    pixels = torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1).expand(50, 1, 8, 8)
    seen: list[int] = []

    class Watching(tiny.Model):  # type: ignore[name-defined, misc]
        def forward(self, images: torch.Tensor, noise: Any = None) -> Any:
            seen.extend((images[:, 0, 0, 0] * 255).round().int().tolist())
            return super().forward(images, noise)

    from aelab.train import make_state

    settings = tiny.settings(max_epochs=2, max_images=None)
    list(fit(make_state(Watching(), settings), tiny.objective, Images(pixels), None, settings))
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert seen[:50] != seen[50:]


def test_without_shuffling_the_order_is_the_sets(tiny: SimpleNamespace) -> None:
    train = tiny.images(40)
    settings = tiny.settings(shuffle=False, max_images=40)
    other = tiny.settings(shuffle=True, max_images=40)
    a, b = tiny.start(settings), tiny.start(other)
    tiny.fit_all(a, settings, train)
    tiny.fit_all(b, other, train)
    assert not torch.equal(a.learner.model.out.weight, b.learner.model.out.weight)


def test_logs_validations_and_checkpoints_come_where_multiples_are_passed(
    tiny: SimpleNamespace,
) -> None:
    settings = tiny.settings(max_images=320, validate_every_images=100, checkpoint_every_images=160)
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(1000), tiny.images(20, 1))
    assert images_of(events, Logged) == [64, 128, 192, 256, 320]
    assert images_of(events, Validated) == [112, 208, 304, 320]
    assert images_of(events, CheckpointDue) == [160, 320]


def test_validation_by_epochs_and_not_twice_at_the_end(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=200, validate_every_epochs=2)
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(50), tiny.images(20, 1))
    assert images_of(events, Validated) == [100, 200]
    settings = tiny.settings(max_images=150, validate_every_epochs=2)
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(50), tiny.images(20, 1))
    assert images_of(events, Validated) == [100, 150]


def test_the_logged_loss_is_the_mean_over_the_window(tiny: SimpleNamespace) -> None:
    every = tiny.settings(max_images=128, log_every_images=16)
    window = tiny.settings(max_images=128, log_every_images=64)
    fine = tiny.fit_all(tiny.start(every), every, tiny.images(500))
    coarse = tiny.fit_all(tiny.start(window), window, tiny.images(500))
    losses = [event.terms["loss"] for event in fine if isinstance(event, Logged)]
    assert coarse[0].terms["loss"] == pytest.approx(sum(losses[:4]) / 4, rel=1e-12)
    assert coarse[0].terms["loss"] == pytest.approx(
        coarse[0].terms["l1"] + 0.01 * coarse[0].terms["size"], rel=1e-5
    )


def test_the_best_is_the_lowest_validation(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=800, validate_every_images=16, learnrate=0.03)
    state = tiny.start(settings)
    events = tiny.fit_all(state, settings, tiny.images(100), tiny.images(20, 1))
    validated = [event for event in events if isinstance(event, Validated)]
    lowest = min(validated, key=lambda event: event.terms["loss"])
    assert state.progress[0].best_loss == lowest.terms["loss"]
    assert state.progress[0].best_images == lowest.images
    assert [e.images for e in validated if e.is_best][-1] == lowest.images
    assert not all(event.is_best for event in validated)


def test_min_loss_stops(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=10_000, validate_every_images=64, min_loss=10.0)
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(500), tiny.images(20, 1))
    assert events[-1] == Finished(64, "min_loss")


def test_training_sets_take_turns_by_epoch(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_epochs=4, max_images=None)
    state = tiny.start(settings)
    tiny.fit_all(state, settings, [(2, tiny.images(20)), (0, tiny.images(50, 1))])
    assert state.clock.images == 50 + 50 + 20 + 20
    with pytest.raises(ConfigError, match="no images for epoch 0"):
        tiny.fit_all(tiny.start(settings), settings, [(1, tiny.images(20))])


def test_an_empty_set_is_refused(tiny: SimpleNamespace) -> None:
    settings = tiny.settings()
    with pytest.raises(DataError, match="empty"):
        tiny.fit_all(tiny.start(settings), settings, tiny.images(0))


def test_training_is_resumed_in_training_mode_after_the_caller_evaluated(
    tiny: SimpleNamespace,
) -> None:
    settings = tiny.settings(max_images=160)
    undisturbed = tiny.start(settings)
    tiny.fit_all(undisturbed, settings, tiny.images(100))
    state = tiny.start(settings)
    for _ in fit(state, tiny.objective, tiny.images(100), None, settings):
        state.learner.model.eval()
    assert torch.equal(state.learner.model.out.weight, undisturbed.learner.model.out.weight)


class Exploding(nn.Module):
    """Loses its mind at the fifth batch."""

    noise_shape = None
    terms = ()

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = model, 0

    def forward(self, images: torch.Tensor, noise: Any = None) -> Any:
        self.calls += 1
        output = self.inner(images, None)
        bad = output.reconstruction * (float("nan") if self.calls == 5 else 1.0)
        return output._replace(reconstruction=bad)


@pytest.mark.parametrize("due", [{}, {"log_every_images": 10_000, "checkpoint_every_images": 80}])
def test_a_diverging_run_fails_with_the_way_out_and_stores_nothing_broken(
    tiny: SimpleNamespace, due: dict[str, int]
) -> None:
    from aelab.train import make_state

    settings = tiny.settings(**due)
    state = make_state(Exploding(tiny.Model()), settings)
    events = []
    with pytest.raises(DivergedError) as caught:
        for event in fit(state, tiny.objective, tiny.images(500), None, settings):
            events.append(event)
    text = str(caught.value)
    assert ("loss = nan" in text and "l1 = nan" in text and "80 images" in text) or "128 im" in text
    assert "learnrate: 0.00033 (was 0.001)" in text and "gradient_clipping" in text
    assert images_of(events, CheckpointDue) == []
    if not due:
        assert "last finite loss" in text and "at 64 images" in text


def test_a_weight_that_is_not_finite_is_noticed_before_it_is_stored(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(checkpoint_every_images=64)
    state = tiny.start(settings)
    loop = fit(state, tiny.objective, tiny.images(500), None, settings)
    assert isinstance(next(loop), Logged)
    with torch.no_grad():
        state.learner.model.log_std.weight[0, 0] = float("inf")
    with pytest.raises(DivergedError, match="a weight is not finite"):
        next(loop)


class CountingReads(TorchDispatchMode):
    """Counts `item()`, `float(tensor)`, `if tensor`: what makes the host wait for the device.

    `tolist`, which the loop reads its window with, is no operation of the dispatcher.
    """

    waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.waits += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_clipping": {"norm": 1.0}, "gradient_accumulation": 2, "training_noise": 0.1}],
)
def test_nothing_waits_for_the_device_between_logs(
    tiny: SimpleNamespace, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one look at the images comes before the first batch, and reads numbers.
    monkeypatch.setattr("aelab.train.loop.refuse_wrong", lambda *given: None)
    settings = tiny.settings(
        max_images=960, log_every_images=320, ema_decay=0.9, scheduler=Choice("cosine"), **changes
    )
    state = tiny.start(settings)
    waits = []
    with CountingReads() as counting:
        float(torch.ones(1))
        assert counting.waits == 1  # the count can fail
        counting.waits = 0
        for event in fit(state, tiny.objective, tiny.images(500, augment=True), None, settings):
            waits.append((type(event).__name__, counting.waits))
    assert [name for name, _ in waits] == ["Logged", "Logged", "Logged", "Finished"]
    assert [count for _, count in waits] == [0, 0, 0, 0]


def test_settings_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="batch_size: given 0; possible: a whole number above 0"):
        FitSettings(batch_size=0, max_images=1)
    with pytest.raises(
        ConfigError, match="training would never end; possible: max_images, max_epochs, min_loss"
    ):
        FitSettings()
    with pytest.raises(ConfigError, match="precision: given 'half'; possible: float32"):
        FitSettings(max_images=1, precision="half")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ema_decay"):
        FitSettings(max_images=1, ema_decay=1.5)
    with pytest.raises(ConfigError, match="training_noise"):
        FitSettings(max_images=1, training_noise=-1)
    with pytest.raises(ConfigError, match="no validation would measure the loss"):
        FitSettings(min_loss=0.1)
    assert FitSettings(max_images=1, optimizer="SGD").optimizer == Choice("SGD")  # type: ignore[arg-type]

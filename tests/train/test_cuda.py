"""On a GPU: no waiting in a batch, the same learning, continuing a run that began elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aelab.train import Choice, Clipping, Logged, Task, fit, make_state
from aelab.train.batches import Batches, Draws
from aelab.train.loop import train_batch

pytestmark = pytest.mark.gpu

FULL: dict[str, Any] = {
    "ema_decay": 0.9,
    "gradient_accumulation": 2,
    "gradient_clipping": Clipping(norm=1.0),
    "training_noise": 0.1,
    "scheduler": Choice("cosine"),
    "max_images": 3200,
}


def test_a_batch_never_waits_for_the_gpu(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(**FULL)
    state = make_state(tiny.Model(), settings, "cuda")
    batches = Batches(
        tiny.images(320, augment=True), state.learner.device, state.learner.channels_last
    )
    draws = Draws(0, state.learner.device)
    for _ in range(3):
        train_batch(state, [Task(tiny.objective, settings)], batches, [draws])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            train_batch(state, [Task(tiny.objective, settings)], batches, [draws])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert batches.pixels.is_cuda


def test_a_gpu_learns_what_a_cpu_learns(tiny: SimpleNamespace) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        settings = tiny.settings(**FULL, log_every_images=1600)
        state = make_state(tiny.Model(), settings, device)
        events = list(fit(state, tiny.objective, tiny.images(320), None, settings))
        losses.append([event.terms["l1"] for event in events if isinstance(event, Logged)][-1])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_run_begun_on_a_cpu_goes_on_on_a_gpu(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(**FULL)
    first = tiny.start(settings)
    count = iter(range(20))
    stop = lambda: next(count, None) is None  # noqa: E731
    tiny.fit_all(first, settings, tiny.images(320), None, stop)
    second = make_state(tiny.Model(), settings, "cuda")
    second.load(*first.stored())
    assert second.clock.images == 20 * 16
    list(fit(second, tiny.objective, tiny.images(320), None, settings))
    assert second.clock.images >= 3200

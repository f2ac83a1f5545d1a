"""A model that grows with the clock, through files: checked, stopped, continued, opened, shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aelab import lab
from aelab.execute import events as ev
from aelab.execute.stop import StopRequest

TEXT = """
experiment_name: grows
globals:
  SHAPE: (1, 10, 10)
train_set: noise_dataset((1, 5, 5), size=200, seed=1).collage(SHAPE)
validation_set: noise_dataset((1, 5, 5), size=40, seed=2).collage(SHAPE)
freeze_validation_set: true
model: |
  StackedSymmetricAutoencoderConv2d(
      SHAPE, 5, channels=[4] * 3, new_layer_every_images=100, fade_in_images=80,
  )
batch_size: 20
learnrate: 0.001
optimizer: AdamW
feature_loss_weight: 0.0001
max_inputs: 260
num_inputs_between_validations: 100
num_train_loss_steps: 20
ema: 0.9
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "grows.yml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(file: Path, runs: Path, stop_at: int | None = None, **changes: object) -> list[ev.Event]:
    stop, seen = StopRequest(), []
    for event in lab.run(file, runs=runs, device="cpu", stop=stop, changes=changes):
        seen.append(event)
        if isinstance(event, ev.RunProgress) and event.images == stop_at:
            stop.ask()
    return seen


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "grows").rglob("*.png"))}


def test_check_tells_the_state_at_the_end_and_the_cost_on_the_way(file: Path) -> None:
    shapes, flops = {}, {}
    for images in (99, 260, 900):
        (plan,) = lab.check(file, changes={"max_inputs": images}).runs
        assert plan.problems == []
        shapes[images] = plan.latent_shape
        assert plan.flops_per_image and plan.estimated_seconds
        flops[images] = plan.flops_per_image
    assert shapes == {99: (4 * 8 * 8,), 260: (4 * 4 * 4 + 4 * 6 * 6,), 900: (5,)}
    assert flops[99] < flops[260] < flops[900]


def test_a_run_stopped_in_a_fade_gives_the_same_run(file: Path, tmp_path: Path) -> None:
    run(file, tmp_path / "whole")
    for stop_at in (140, 200):
        runs = tmp_path / f"stopped-{stop_at}"
        assert isinstance(run(file, runs, stop_at)[-2], ev.RunInterrupted)
        assert isinstance(run(file, runs)[-2], ev.RunFinished)
        assert files(runs) == files(tmp_path / "whole")
        models = [lab.open_model("grows@latest", runs=r) for r in (tmp_path / "whole", runs)]
        first, second = (model.state_dict() for model in models)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_opened_model_is_that_of_its_moment(file: Path, tmp_path: Path) -> None:
    run(file, tmp_path / "runs", keep_checkpoints="all", num_inputs_between_checkpoints=60)
    images = torch.rand(2, 1, 10, 10)
    for moment, index, size in ((60, 0, 256), (120, 1, 144 + 256), (180, 1, 144), (260, 2, 208)):
        model = lab.open_model(f"grows@{moment}", runs=tmp_path / "runs")
        assert (model.layer_index, model.encode(images).shape[1]) == (index, size)
        output = model(images)
        assert torch.equal(model.decode(output.latent), output.reconstruction)

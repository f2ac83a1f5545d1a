"""`aelab check` and the training of files with critics: mistakes, notes, and a continued run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aelab.lab import Lab

FILE = """
experiment_name: game
train_set: noise_dataset((1, 16, 16), 64, seed=1)
validation_set: noise_dataset((1, 16, 16), 32, seed=2)
model: |
  EncoderDecoder(
      EncoderMLP((1, 16, 16), 8, hidden=(16,)), DecoderMLP((1, 16, 16), 8, hidden=(16,)),
  )
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_images: 320
checkpoint_every_images: 64
log_every_images: 32
objective:
  l2: 1
"""
GAME = """
  latent_critic: {weight: 0.1, hidden: [8], learnrate: 0.01}
  image_critic: {channels: [4], adaptive: true, start_images: 100}
"""


def written(folder: Path, terms: str) -> Path:
    path = folder / "game.yml"
    path.write_text(FILE + terms, encoding="utf-8")
    return path


def checked(folder: Path, terms: str) -> Any:
    plan: Any = Lab(folder / "runs").check(written(folder, terms))
    return plan


def test_check_tells_each_critic_and_counts_its_time(tmp_path: Path) -> None:
    plain, game = (checked(tmp_path, terms).runs[0] for terms in ("", GAME))
    notes = [found.message for found in game.findings if found.code == "critic"]
    assert notes == [
        "latent_critic: a critic of 81 parameters learns beside the model, with Adam at 0.01",
        "image_critic: a critic of 105 parameters learns beside the model, with Adam at 0.001",
    ]
    assert game.parameters == plain.parameters
    assert game.estimated_seconds > plain.estimated_seconds


WRONG = {
    "  latent_critic: {optimizer: Adm}": ("objective.latent_critic", "did you mean 'Adam'"),
    "  latent_critic: {scheduler: {step: {}}}": ("objective.latent_critic", "scheduler step"),
    "  image_critic: {start_images: 300, channels: [a]}": ("objective", "whole numbers above 0"),
    "  critic_features: 1": ("objective", "image_critic: 0.1"),
}


@pytest.mark.parametrize("terms", WRONG)
def test_a_mistake_in_a_critic_is_found_before_training(tmp_path: Path, terms: str) -> None:
    place, words = WRONG[terms]
    (problem,) = checked(tmp_path, terms).runs[0].problems
    assert f"{place}:" in problem and words in problem


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "runs/game/metrics.jsonl").read_text("utf-8").splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_a_run_whose_latest_states_are_gone_repeats_the_same_numbers(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        list(Lab(folder / "runs").run(written(folder, GAME + "keep_checkpoints: all\n")))
    states = broken / "runs/game/checkpoints"
    for state in states.glob("*"):  # as if the process had been killed after 128 images
        if "128" not in state.name:
            state.unlink()
    status = json.loads((broken / "runs/game/status.json").read_text("utf-8"))
    status |= {"state": "running", "pid": 2**22 + 1}
    (broken / "runs/game/status.json").write_text(json.dumps(status), encoding="utf-8")
    list(Lab(broken / "runs").run(broken / "game.yml"))
    assert rows(broken) == rows(whole)
    ends = [folder / "runs/game/checkpoints/latest.safetensors" for folder in (whole, broken)]
    assert ends[0].read_bytes() == ends[1].read_bytes()

"""The key `perceptual_model` of old files, from the file to the metrics of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab import lab

TEXT = """
matrix:
  percept: [none, conv, fft]
experiment_name: percept/${matrix_slug}
train_set: noise_dataset((1, 8, 8), size=32, seed=1)
validation_set: noise_dataset((1, 8, 8), size=16, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
perceptual_model: |
  if "${percept}" == "none":
      model = None
  elif "${percept}" == "fft":
      model = torch.fft.fft2
  else:
      model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU())
  model
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 32
"""


def test_the_loss_is_the_perceptual_one_and_the_plain_one_is_logged(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(TEXT)
    list(lab.run(tmp_path / "f.yml", runs=tmp_path / "runs"))
    for name in ("none", "conv", "fft"):
        lines = (tmp_path / f"runs/percept/percept-{name}/metrics.jsonl").read_text().splitlines()
        last = [row for row in map(json.loads, lines) if row.get("split") == "validation"][-1]
        assert ("perceptual" in last) == (name != "none")
        assert last["loss"] == pytest.approx(last["l1" if name == "none" else "perceptual"])
        assert last["l1"] != last.get("perceptual")


def test_a_mistake_in_it_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(TEXT.replace("nn.GELU()", "nn.GELLU()"))
    plan = lab.check(tmp_path / "f.yml")
    (problem,) = plan.problems
    assert "f.yml:14:" in problem and "perceptual_model" in problem and "GELLU" in problem

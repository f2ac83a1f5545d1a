"""Runs that diverge: told as that with any loss, and out of every ranking."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aelab import lab
from aelab.report.tables import make_table
from aelab.runs.store import Store

FILE = """
matrix:
  lr: [0.001, {bad}]
experiment_name: a/${{matrix_slug}}
train_set: noise_dataset((1, 8, 8), size=200, seed=1)
validation_set: noise_dataset((1, 8, 8), size=50, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=8), DecoderMLP((1, 8, 8), code_size=8))
learnrate: ${{lr}}
batch_size: 16
optimizer: Adam
max_inputs: 640
num_inputs_between_validations: 160
num_train_loss_steps: 80
loss_function: {loss}
"""


def _trained(folder: Path, bad: float, loss: str) -> list:
    (folder / "f.yml").write_text(FILE.format(bad=bad, loss=loss))
    list(lab.run(folder / "f.yml", runs=folder / "runs", device="cpu"))
    return Store(folder / "runs").list()


def test_ones_own_loss_in_a_run_that_diverges_is_told_as_diverging(tmp_path: Path) -> None:
    """The search watches the operations of a block, whose Python has no imports."""
    runs = _trained(tmp_path, 1e30, "|\n  lambda a, b: (a - b).abs().mean()")
    (failed,) = [run for run in runs if run.state == "failed"]
    error = failed.status["error"]
    assert error["type"] == "DivergedError"
    assert re.search(r"in training and in evaluation mode '[\w.]+' \(Linear\)", error["message"])
    assert "learnrate: 0.001 (was 1e+30)" in error["hint"]
    assert "@best" not in error["hint"] and "best" not in failed.status


@pytest.mark.parametrize("bad", [1e3, 1e6])
def test_divergence_without_a_nan_fails_and_leaves_the_meter_to_others(
    tmp_path: Path, bad: float
) -> None:
    runs = _trained(tmp_path, bad, "l1")
    (sound,) = [run for run in runs if run.state == "finished"]
    (failed,) = [run for run in runs if run.state == "failed"]
    assert "diverged without a NaN" in failed.status["error"]["message"]
    assert json.loads((failed.path / "status.json").read_text())["last"]["loss"] > 10
    assert sound.status["best"]["loss"] < 1 and "best" not in failed.status
    rows = make_table(runs).rows
    assert [row["meter"] for row in rows] == [None, None]
    assert {row["state"].partition(":")[0]: row["trend"] for row in rows}["failed"] is None

"""The plan of a run from its stored text: all of its settings, and no block of code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab.analysis.planned import RestOfRun, plan_of
from aelab.runs.record import Run
from aelab.settings import Choice

TEXT = """
matrix:
  scheduler: [wrong]
# learnrate: 5
model: |
  scheduler: nothing
  batch_size = 3
max_inputs: 6_400
scheduler:
  StepLR:
    step_size: 10
    gamma: 0.5
learnrate: "0.01"
batch_size: 32
min_loss: 0.02
"""


def plan(folder: Path, text: str, record: dict[str, object] | None = None) -> RestOfRun:
    (folder / "run.json").write_text(json.dumps({"format": 1, **(record or {})}))
    (folder / "resolved.yml").write_text(text)
    return plan_of(Run.at(folder, "run"))


def test_settings_at_the_left_margin_count_under_their_old_names_too(tmp_path: Path) -> None:
    found = plan(tmp_path, TEXT)
    assert (found.end, found.least) == (6400, 0.02)
    assert found.schedule == Choice("StepLR", {"step_size": 10, "gamma": 0.5})
    assert found.factor is not None
    assert found.factor(3200) == pytest.approx(0.5**10)  # 100 batches of 32


def test_a_text_without_settings_has_a_constant_rate_and_a_missing_one_none(tmp_path: Path) -> None:
    known = plan(tmp_path, "model: x\n", {"max_inputs": 100})
    assert known.end == 100 and known.factor is not None and known.factor(50) == 1
    for text in ("", "learnrate: [1\n", "just words\n"):
        assert plan(tmp_path, text, {"max_inputs": 100}).end == 100
    assert plan(tmp_path, "", {"max_inputs": 100}).factor is None
    assert plan(tmp_path, "learnrate: [1\n", {"max_inputs": 100}).factor is None

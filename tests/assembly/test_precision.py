"""`precision: auto` on this machine: timed once, remembered, told by `check`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from aelab.assembly import precision
from aelab.assembly.precision import precision_told, settle_on_machine
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.models import EncoderDecoder
from aelab.train import FitSettings, make_state
from aelab.train.precision import StepTimes
from aelab.types import Images, TermSpec

SETTINGS = FitSettings(batch_size=8, max_images=32, threads=1, precision="auto")

FILE = """
experiment_name: p
train_set: noise_dataset((1, 8, 8), size=100)
validation_set: noise_dataset((1, 8, 8), size=20, seed=1)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
optimizer: Adam
learnrate: 0.001
batch_size: 10
max_images: 20
precision: auto
"""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A processor with bfloat16 units that makes a step 1.5 times as fast; a list of timings."""
    calls: list[int] = []

    def times(*_: object) -> StepTimes:
        """As timed."""
        calls.append(1)
        return StepTimes(0.3, 0.2)

    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "cpu_name": "x"})
    monkeypatch.setattr(precision, "time_precisions", times)
    return calls


def _settled(width: int = 16) -> tuple[bool, StepTimes | None]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
    decoder = nn.Sequential(nn.Linear(width, 64), nn.Unflatten(1, (1, 8, 8)))
    state = make_state(EncoderDecoder(encoder, decoder), SETTINGS)
    images = Images(torch.zeros(32, 1, 8, 8, dtype=torch.uint8))
    objective = make_objective([TermSpec("l2", "l2")])
    times = settle_on_machine(state, objective, images, SETTINGS)
    return state.learner.members[0].bfloat16, times


def test_equal_runs_agree_because_a_net_is_timed_once(timed: list[int]) -> None:
    assert _settled() == _settled() == (True, StepTimes(0.3, 0.2))
    assert len(timed) == 1
    _settled(width=17)
    assert len(timed) == 2


def test_what_was_chosen_is_told() -> None:
    assert precision_told(StepTimes(0.3, 0.2)) == (
        "precision auto: bfloat16; a step in bfloat16 is 1.50 times as fast on this machine "
        "(200 ms, float32 300 ms)"
    )
    assert "float32; a step in bfloat16 is 0.50 times" in precision_told(StepTimes(0.1, 0.2))


def test_check_and_run_say_and_record_it(timed: list[int], tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text(FILE)
    lab = Lab(runs=tmp_path / "runs")
    plan = lab.check(tmp_path / "p.yml")
    assert any("precision auto: bfloat16" in note for note in plan.notes)
    list(lab.run(tmp_path / "p.yml"))
    assert len(timed) == 1
    assert "precision auto: bfloat16" in (tmp_path / "runs" / "p" / "log.txt").read_text()


def test_check_says_that_a_processor_has_no_units(
    timed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    (tmp_path / "p.yml").write_text(FILE)
    plan = Lab(runs=tmp_path / "runs").check(tmp_path / "p.yml")
    assert any("this processor has no bfloat16 units" in note for note in plan.notes)
    assert not timed

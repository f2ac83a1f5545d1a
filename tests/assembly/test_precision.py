"""`precision: auto` on this machine: tried once, remembered, told by `check`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from aelab.assembly import precision
from aelab.assembly.precision import precision_told, settle_on_machine
from aelab.doctor import preflight
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.models import EncoderDecoder
from aelab.train import FitSettings, make_state
from aelab.train.precision import PrecisionTrial
from aelab.types import Images, TermSpec

SETTINGS = FitSettings(batch_size=8, max_images=8000, threads=1)

#: bfloat16 makes a step 1.5 times as fast, with nearly the same gradient.
PAYS = PrecisionTrial(0.3, 0.2, 0.999)

FILE = """
experiment_name: p
train_set: noise_dataset((1, 8, 8), size=100)
validation_set: noise_dataset((1, 8, 8), size=20, seed=1)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
optimizer: Adam
learnrate: 0.001
batch_size: 1
max_images: 1000
"""


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A processor with bfloat16 units where they pay; a list of trials."""
    calls: list[int] = []

    def found(*_: object) -> PrecisionTrial:
        """As tried."""
        calls.append(1)
        return PAYS

    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "cpu_name": "x"})
    monkeypatch.setattr(precision, "try_precisions", found)
    return calls


def _settled(width: int = 16) -> tuple[bool, PrecisionTrial | None]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
    decoder = nn.Sequential(nn.Linear(width, 64), nn.Unflatten(1, (1, 8, 8)))
    state = make_state(EncoderDecoder(encoder, decoder), SETTINGS)
    images = Images(torch.zeros(32, 1, 8, 8, dtype=torch.uint8))
    objective = make_objective([TermSpec("l2", "l2")])
    trial = settle_on_machine(state, objective, [(0, images)], SETTINGS)
    return state.learner.members[0].bfloat16, trial


def test_equal_runs_agree_because_a_net_is_tried_once(tried: list[int]) -> None:
    assert _settled() == _settled() == (True, PAYS)
    assert len(tried) == 1
    _settled(width=17)
    assert len(tried) == 2


@pytest.mark.parametrize(
    "found", [PAYS, PrecisionTrial(math.nan, math.nan, math.nan, "RuntimeError: no fft")], ids=str
)
def test_a_trial_is_remembered_as_it_was(
    found: PrecisionTrial, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "try_precisions", lambda *_: found)
    first = _settled()
    monkeypatch.setattr(precision, "try_precisions", lambda *_: pytest.fail("tried again"))
    assert repr(_settled()) == repr(first) == repr((found is PAYS, found))


def test_what_was_chosen_is_told() -> None:
    assert precision_told(PAYS) == (
        "precision auto: bfloat16; a step in bfloat16 is 1.50 times as fast on this machine "
        "(200 ms, float32 300 ms)"
    )
    slower = precision_told(PrecisionTrial(0.1, 0.2, 0.999))
    assert "float32; a step in bfloat16 is 0.50 times" in slower and "1.2 times are" in slower
    refused = PrecisionTrial(math.nan, math.nan, math.nan, "RuntimeError: no fft")
    assert precision_told(refused) == (
        "precision auto: float32; this model cannot compute in bfloat16: RuntimeError: no fft"
    )
    differs = "), but its gradient differs from that in float32: cosine 0.500, 0.99 is needed"
    assert precision_told(PrecisionTrial(0.3, 0.2, 0.5)).endswith(differs)


def test_check_and_run_say_and_record_it(tried: list[int], tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text(FILE)
    lab = Lab(runs=tmp_path / "runs")
    plan = lab.check(tmp_path / "p.yml")
    assert any("precision auto: bfloat16" in note for note in plan.notes)
    list(lab.run(tmp_path / "p.yml"))
    assert len(tried) == 1
    assert "precision auto: bfloat16" in (tmp_path / "runs" / "p" / "log.txt").read_text()


def test_check_tries_a_net_once_for_runs_that_differ_in_their_learning_rate(
    tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    real = preflight._real
    monkeypatch.setattr(preflight, "_real", lambda *given: made.append(given) or real(*given))
    text = FILE.replace("4)", "${width})").replace("0.001", "${lr}")
    text = text.replace("name: p", "name: p/${lr}-${width}")
    (tmp_path / "p.yml").write_text(f"matrix:\n  lr: [0.1, 0.01, 0.001]\n  width: [3, 4]{text}")
    plan = Lab(runs=tmp_path / "runs").check(tmp_path / "p.yml")
    assert len(made) == 2
    assert all(any("precision auto" in note for note in run.notes) for run in plan.runs)
    assert len(plan.runs) == 6


def test_check_says_that_a_processor_has_no_units_to_a_file_that_asks(
    tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    (tmp_path / "p.yml").write_text(FILE + "precision: auto\n")
    plan = Lab(runs=tmp_path / "runs").check(tmp_path / "p.yml")
    assert any("this processor has no bfloat16 units" in note for note in plan.notes)
    (tmp_path / "p.yml").write_text(FILE)
    plan = Lab(runs=tmp_path / "runs").check(tmp_path / "p.yml")
    assert not any("precision" in note for note in plan.notes)
    assert not tried


@pytest.mark.parametrize("old", ["trainer: TrainAutoencoder", "legacy: true", "precision: float32"])
def test_files_of_old_programs_compute_in_float32(
    old: str, tried: list[int], tmp_path: Path
) -> None:
    (tmp_path / "p.yml").write_text(f"{FILE}{old}\n")
    lab = Lab(runs=tmp_path / "runs")
    plan = lab.check(tmp_path / "p.yml")
    assert not plan.problems
    list(lab.run(tmp_path / "p.yml", max_images=5))
    assert not tried and not any("precision" in note for note in plan.notes)


def test_check_leaves_the_trial_of_a_large_net_to_its_run(
    tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.doctor.precision.SECONDS_FOR_A_FILE", 0.0)
    (tmp_path / "p.yml").write_text(FILE + "precision: auto\n")
    plan = Lab(runs=tmp_path / "runs").check(tmp_path / "p.yml")
    assert any("both are tried when a run" in note for note in plan.notes) and not tried

"""Failures of single runs: named, survived by what is stored and by the rest of the matrix."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from aelab import lab
from aelab.cli.progress import PlainScreen
from aelab.execute import events as ev
from aelab.findings import stored_findings
from aelab.runs.store import Store

RAMP = """
scheduler:
  SequentialLR:
    schedulers:
      - {ConstantLR: {factor: 1.0}}
      - {SWALR: {swa_lr: 1.0e+30, anneal_epochs: 2}}
    milestones: [15]
"""


@pytest.fixture
def ramped(tiny: Path) -> Path:
    """The tiny file; `rise: true` lifts the learning rate at 240 images."""
    text = tiny.read_text().replace("seed: [1, 2]", "seed: [1]")
    tiny.write_text(text)
    (tiny.parent / "ramped.yml").write_text(
        text.replace("experiment_name: tiny/", "experiment_name: ramped/") + RAMP
    )
    return tiny.parent / "ramped.yml"


def _run(file: Path, runs: Path, **options: object) -> list[ev.Event]:
    return list(lab.run(file, runs=runs, device="cpu", **options))  # type: ignore[arg-type]


def _status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_a_run_that_diverges_keeps_its_best_state_and_tells_the_cause(
    ramped: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    end = _run(ramped, runs, only="*mlp*")[-1]
    assert isinstance(end, ev.MatrixFinished) and (end.finished, end.failed) == (0, 1)
    status = _status(runs / "ramped" / "net-mlp_seed-1")
    message = status["error"]["message"]
    assert status["state"] == "failed" and status["error"]["type"] == "DivergedError"
    assert "the schedule raised the learning rate 1e+33-fold" in message
    assert "gives " in message and "from finite input" in message
    assert "load: RUN@best" in status["error"]["hint"]

    best = status["best"]
    assert best["images"] <= 240 and math.isfinite(best["loss"])
    model = lab.open_model("ramped/net-mlp_seed-1@best", runs=runs)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(images).reconstruction.isfinite().all()
    run, _ = Store(runs).resolve("ramped/net-mlp_seed-1@best")
    for checkpoint in run.checkpoints():
        import safetensors.torch

        tensors = safetensors.torch.load(checkpoint.read()[0])
        assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


def test_the_other_runs_of_the_matrix_go_on(tiny: Path, tmp_path: Path) -> None:
    text = tiny.read_text().replace("seed: [1, 2]", "seed: [1]\n  rate: [1e30, 0.001]")
    tiny.write_text(text.replace("learnrate: 0.001", "learnrate: ${rate}"))
    events = _run(tiny, tmp_path / "runs", only="*mlp*")
    kinds = [type(e) for e in events if isinstance(e, ev.RunErred | ev.RunFinished)]
    assert kinds == [ev.RunErred, ev.RunFinished]


def test_changed_settings_go_on_from_the_best_state_of_a_failed_run(
    ramped: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    _run(ramped, runs, only="*mlp*")
    saved = ramped.read_text().replace(RAMP, "").replace("ramped/", "saved/")
    saved = saved.replace("learnrate: 0.001", "learnrate: 0.0003")
    second = ramped.parent / "saved.yml"
    second.write_text(saved + "load: ramped/net-mlp_seed-1@best\ngradient_clipping: {norm: 0.5}\n")
    end = _run(second, runs, only="*mlp*")[-1]
    assert isinstance(end, ev.MatrixFinished) and end.finished == 1
    before = _status(runs / "ramped" / "net-mlp_seed-1")["best"]["loss"]
    assert _status(runs / "saved" / "net-mlp_seed-1")["best"]["loss"] < before


# Warnings.

SPACES = """
experiment_name: spaces

train_set: ascii_art_dataset("drawings", (16, 16))
validation_set: ascii_art_dataset("drawings", (16, 16))

model: |
  small_ascii_ae(
      (16, 16), latent_channels=2, embedding=8, channels=(16,), hidden=(), text_blocks=0,
      relaxation=GumbelSoftmax(0.3), space_share=0.99,
  )

objective: {rendered_l2: {weight: 50, font_res: 9}}
batch_size: 16
optimizer: Adam
learnrate: 0.001
max_inputs: 160
num_inputs_between_validations: 64
"""


def test_blank_text_is_printed_once_and_noted_from_when_to_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drawings").mkdir()
    for number in range(31):
        lines = ["/" + " " * (number % 5 + 1) + chr(65 + number % 26) * 4, "", "\\" + "_" * 9]
        (tmp_path / "drawings" / f"{number}.txt").write_text("\n".join(lines))
    file = tmp_path / "spaces.yml"
    file.write_text(SPACES)
    screen, told = PlainScreen(), []
    for event in lab.run(file, runs=tmp_path / "runs", device="cpu"):
        screen.show(event)
        told += event.findings if isinstance(event, ev.RunValidated) else []
    assert len(told) == 1 and told[0].code == "writes-only-spaces"
    assert capsys.readouterr().err.count("warning spaces: at ") == 1
    record = json.loads((tmp_path / "runs" / "spaces" / "run.json").read_text())
    (kept,) = [own for own in stored_findings(record) if own.code == "writes-only-spaces"]
    first, last = told[0].seen[0], _status(tmp_path / "runs" / "spaces")["last"]["images"]
    assert kept.seen == (first, last) and kept.level == "warning"
    note = kept.line()
    assert note.startswith(f"from {first:,} to {last:,} images: writes only spaces: ")

    shown = lab.table(runs=tmp_path / "runs")
    assert "writes only spaces" in shown and "characters right" in shown and "100.0%" in shown
    again = _run(file, tmp_path / "runs")
    assert not any(isinstance(event, ev.RunValidated) for event in again)

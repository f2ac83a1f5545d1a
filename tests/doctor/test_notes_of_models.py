"""What a model says of itself reaches every reader; what cannot be built is counted apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab import lab
from aelab.cli.listing import plan_text
from aelab.cli.progress import summary_text
from aelab.errors import Problems
from aelab.execute import events as ev
from aelab.findings import stored_findings

TEXT = """
matrix:
  net: [mlp, transformer]
  patch: [4, 5]

experiment_name: notes/${matrix_slug}

globals:
  SHAPE: (1, 8, 8)

train_set: noise_dataset(SHAPE, size=64, seed=1)
validation_set: noise_dataset(SHAPE, size=32, seed=2)

model: |
  if net == "mlp":
      model = EncoderDecoder(EncoderMLP(SHAPE, 4), DecoderMLP(SHAPE, 4))
  else:
      model = TransformerAutoencoder(SHAPE, 4, patch_size=patch, num_layers=1, num_hidden=8)
  model

batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 64
"""
NOTE = "tokens are the images of a batch"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.yml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def _run(file: Path, **options: object) -> list[ev.Event]:
    return list(lab.run(file, runs=file.parent / "runs", device="cpu", **options))  # type: ignore[arg-type]


def test_check_says_what_the_models_say_once_and_of_how_many_runs(file: Path) -> None:
    plan = lab.check(file)
    (note,) = [note for note in plan.notes if NOTE in note]
    assert note.endswith("(1 of 3 runs)")
    assert [NOTE in " ".join(run.notes) for run in plan.runs] == [False, False, True, False]
    notes = lab.check(file, only="*transformer_patch-4").notes
    (alone,) = [note for note in notes if NOTE in note]
    assert alone.endswith("old runner)")
    assert plan_text(plan).count(NOTE) == 1


def _with(axes: str) -> str:
    """The file with other axes, the learning rate among them."""
    return TEXT.replace("patch: [4, 5]", axes).replace("learnrate: 0.001", "learnrate: ${lr}")


def test_check_counts_the_runs_that_a_reason_makes_impossible(file: Path) -> None:
    file.write_text(_with("patch: [2, 4, 5, 7, 3, 6]\n  lr: [1, 2]"))
    text = plan_text(lab.check(file, changes={"seed": 3}))
    assert "24 runs, 8 with problems" in text
    (line,) = [line for line in text.splitlines() if "patch_size 5" in line]
    assert line.startswith("problem: notes/net:transformer_patch:5_lr:1, ")
    file.write_text(_with("patch: [2, 5]\n  lr: [1, 2, 3, 4]"))
    text = plan_text(lab.check(file))
    assert "problem: 4 of 16 runs (notes/net:transformer_patch:5_lr:1, " in text
    assert "and 1 more): " in text


def test_the_start_the_record_the_table_and_the_report_say_it(file: Path) -> None:
    events = _run(file)
    started = {
        event.name: [n.line() for n in event.findings]
        for event in events
        if isinstance(event, ev.RunStarted)
    }
    assert [NOTE in " ".join(notes) for notes in started.values()] == [False, False, True]
    runs = file.parent / "runs"
    record = json.loads((runs / "notes/net-transformer_patch-4/run.json").read_text())
    (kept,) = stored_findings(record)
    assert kept.code == "model-note" and NOTE in kept.message
    table = lab.table(runs=runs)
    assert table.count(NOTE) == 1
    rows = [row for row in table.splitlines() if "| transformer " in row or "| mlp " in row]
    # `patch` stands in the block of the mlp too, so its two runs may differ: a row each.
    assert ["[1]" in row for row in rows] == [False, False, True, False]
    page = lab.report(runs=runs, out=file.parent / "page.html").read_text(encoding="utf-8")
    assert NOTE in page


def test_a_note_of_every_run_stands_below_the_table_without_a_column(file: Path) -> None:
    _run(file, only="*transformer_patch-4")
    table = lab.table(runs=file.parent / "runs")
    assert table.count(NOTE) == 1 and "| note" not in table


def test_impossible_runs_fail_with_their_reason_and_the_others_are_trained(file: Path) -> None:
    *events, end = _run(file)
    (failed,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert failed.impossible and "does not tile 1x8x8" in failed.message
    assert "Traceback" not in failed.message and "notes.yml" in failed.message
    assert isinstance(end, ev.MatrixFinished)
    assert (end.finished, end.failed, end.impossible) == (3, 1, 1)
    assert summary_text(end) == "3 finished, 0 skipped, 1 failed (1 impossible)"
    folder = file.parent / "runs/notes/net-transformer_patch-5"
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_runs_that_failed_before_are_counted_when_they_are_skipped(file: Path) -> None:
    _run(file)
    end = _run(file)[-1]
    assert isinstance(end, ev.MatrixFinished)
    assert summary_text(end) == "0 finished, 4 skipped (1 failed before), 0 failed"


def test_a_run_that_diverges_is_not_called_impossible(file: Path) -> None:
    end = _run(file, only="*mlp_patch-4", changes={"learnrate": 1e30})[-1]
    assert isinstance(end, ev.MatrixFinished)
    assert (end.failed, end.impossible) == (1, 0)


def test_a_selection_of_impossible_runs_only_is_a_mistake(file: Path) -> None:
    with pytest.raises(Problems, match="does not tile"):
        _run(file, only="*transformer_patch-5")
    assert not (file.parent / "runs").exists()

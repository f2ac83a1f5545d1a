"""An axis that no value mentions is named, and its runs are trained once and counted once."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from aelab import config, lab
from aelab.cli.listing import plan_text
from aelab.execute import events as ev

TEXT = """
matrix:
  dropuot: [0, 1]
  code: [2, 3]
  seed: [1, 2]
experiment_name: twins/${matrix_slug}
train_set: noise_dataset((1, 6, 6), size=32, seed=1)
validation_set: noise_dataset((1, 6, 6), size=8, seed=2)
model: |
  EncoderDecoder(
      EncoderMLP((1, 6, 6), code_size=code, hidden=(4,)),
      DecoderMLP((1, 6, 6), code_size=code, hidden=(4,)),
  )
seed: ${seed}
batch_size: 16
learnrate: 0.01
optimizer: Adam
loss_function: l1
max_inputs: 64
num_inputs_between_validations: 32
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "twins.yml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def _run(file: Path, **options: object) -> list[ev.Event]:
    return list(lab.run(file, runs=file.parent / "runs", device="cpu", **options))  # type: ignore[arg-type]


def test_check_names_the_axis_and_counts_each_run_once(file: Path) -> None:
    plan = lab.check(file, runs=file.parent / "runs")
    assert [bool(run.same_as) for run in plan.runs] == [False] * 4 + [True] * 4
    assert plan.runs[4].same_as == plan.runs[0].name and plan.runs[4].problems == []
    (note,) = plan.notes
    assert "the matrix key 'dropuot' changes nothing in 8 runs: they are 4 different" in note
    assert plan.findings[0].told().startswith(f"{file}:3:3: matrix.dropuot: ")
    assert "${dropuot}" in note
    assert "8 runs (4 different), 0 with problems" in plan_text(plan)


def test_each_different_run_is_trained_once(file: Path) -> None:
    events = _run(file)
    start, end = events[0], events[-1]
    assert isinstance(start, ev.MatrixStarted) and isinstance(end, ev.MatrixFinished)
    assert (end.finished, end.skipped, end.failed) == (4, 4, 0)
    assert any("'dropuot' changes nothing" in note for note in map(str, start.findings))
    skipped = [event for event in events if isinstance(event, ev.RunSkipped)]
    assert skipped[0].reason == f"the same run as {start.names[0]}: dropuot changes nothing"
    stored = sorted(run.folder for run in lab.find_runs(runs=file.parent / "runs"))
    assert len(stored) == 4 and all("dropuot-0" in folder for folder in stored)
    again = _run(file)[-1]
    assert isinstance(again, ev.MatrixFinished) and (again.finished, again.skipped) == (0, 8)


def test_the_table_counts_them_once_and_shows_all_on_request(file: Path) -> None:
    _run(file)
    runs = file.parent / "runs"
    text = lab.table(file, runs=runs)
    assert "no value mentions dropuot: 4 more runs of the file would be the same" in text
    rows = list(csv.DictReader(io.StringIO(lab.table(file, runs=runs, format="csv"))))
    assert [(row["code"], row["runs"]) for row in rows] == [("2", "2"), ("3", "2")]
    assert "dropuot" not in rows[0]
    each = list(csv.DictReader(io.StringIO(lab.table(runs=runs, format="csv", each=True))))
    assert len(each) == 8
    assert each[1]["state"] == "same run as twins/dropuot-0_code-2_seed-1"
    assert each[1]["validation loss"] == each[0]["validation loss"]
    assert len(json.loads(lab.table(runs=runs, format="json"))) == 4


def test_a_twin_alone_is_trained_and_then_stands_for_the_other(file: Path) -> None:
    _run(file, only="*dropuot:1*")
    first, *_, end = _run(file, only="*dropuot:0*code:2_seed:1")[1:]
    assert isinstance(first, ev.RunSkipped) and "the same run as twins/dropuot:1" in first.reason
    assert isinstance(end, ev.MatrixFinished) and (end.finished, end.skipped) == (0, 1)
    end = _run(file)[-1]
    assert isinstance(end, ev.MatrixFinished) and (end.finished, end.skipped) == (0, 8)
    found = lab.find_runs(file, runs=file.parent / "runs")
    assert len(found) == 4 and all("dropuot-1" in run.folder for run in found)


def test_twins_that_were_trained_before_count_once(file: Path) -> None:
    _run(file, only="*dropuot:1*")
    _run(file, only="*dropuot:0*", restart=True)
    runs = file.parent / "runs"
    assert len(lab.find_runs(runs=runs)) == 8
    rows = list(csv.DictReader(io.StringIO(lab.table(runs=runs, format="csv"))))
    assert [row["runs"] for row in rows] == ["2", "2"]
    assert "4 runs repeat others exactly (dropuot changed nothing there)" in lab.table(runs=runs)


def test_an_axis_that_matters_in_some_rows_is_told_for_the_others(file: Path) -> None:
    text = TEXT.replace("seed: [1, 2]", "seed: [1]").replace("code: [2, 3]", "net: [a, b]")
    text = text.replace("dropuot: [0, 1]", "width: [3, 4]").replace(
        "code_size=code, hidden=(4,)", "code_size={'a': 2, 'b': width}[net], hidden=(4,)"
    )
    file.write_text(text, encoding="utf-8")
    plan = lab.check(file, runs=file.parent / "runs")
    assert [bool(run.same_as) for run in plan.runs] == [False, False, True, False]
    assert "'width' changes nothing in 2 of 4 runs: they are 1 different run" in plan.notes[0]


def test_repeats_with_other_seeds_are_no_twins(file: Path) -> None:
    file.write_text(TEXT.replace("  dropuot: [0, 1]\n", ""), encoding="utf-8")
    assert all(not spec.same for spec in config.load(file).runs())
    file.write_text(TEXT.replace("seed: ${seed}", "trials: 2"), encoding="utf-8")
    notes = lab.check(file, runs=file.parent / "runs").notes
    assert any("'seed' changes nothing" in note for note in notes)


def test_a_trusted_block_that_looks_names_up_is_left_alone(file: Path) -> None:
    assert any(spec.same for spec in config.load(file, trust=True).runs())
    text = TEXT.replace("code_size=code", "code_size=code + 0 * eval('dropuot')")
    file.write_text(text, encoding="utf-8")
    assert not any(spec.same for spec in config.load(file, trust=True).runs())

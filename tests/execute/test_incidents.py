"""A run that goes on after its numbers ended says so in its folder, the table and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.cli.progress import outcome_text
from aelab.execute.events import RunMended
from aelab.runs.record import Run
from aelab.runs.store import Store

FILE = """
experiment_name: night
train_set: noise_dataset((1, 8, 8), size=192, seed=1)
validation_set: noise_dataset((1, 8, 8), size=50, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=8), DecoderMLP((1, 8, 8), code_size=8))
learnrate: 1e+30
batch_size: 16
optimizer: Adam
max_images: 480
validate_every_images: 160
log_every_images: 80
on_nan: {on_nan}
"""


def trained(folder: Path, on_nan: str) -> tuple[Run, list[RunMended]]:
    (folder / "f.yml").write_text(FILE.replace("{on_nan}", on_nan))
    events = list(lab.run(folder / "f.yml", runs=folder / "runs", device="cpu"))
    (run,) = Store(folder / "runs").list()
    return run, [event for event in events if isinstance(event, RunMended)]


def test_a_run_that_went_back_leaves_a_page_and_is_marked_in_table_and_report(
    tmp_path: Path,
) -> None:
    run, events = trained(tmp_path, "{rollback: {lower_lr: 1e-33}}")
    assert run.state == "finished" and len(events) == 1
    told = outcome_text(events[0])
    assert told is not None and "rolled back from 80 to 0 images" in told
    content = json.loads((run.path / "incident.json").read_text())
    (incident,) = content["incidents"]
    assert incident["cause"] in told and incident["first_bad_batch_at"] == 16
    assert incident["done"]["change"]["factor"] == 1e-33
    assert "the largest float32" in incident["in_float64"] or incident["in_float64"]
    page = (run.path / "incident.html").read_text()
    assert "rolled back from 80 to 0 images" in page and "learning rate times 1e-33" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    images = [row["images"] for row in run.metrics("train")]
    assert images == sorted(set(images)) and images[-1] == 480
    assert "rolled back once to 0 images" in lab.table(runs=tmp_path / "runs")
    report = lab.report(runs=tmp_path / "runs", out=tmp_path / "report.html").read_text()
    assert 'href="runs/night/incident.html">rolled back from 80 to 0 images' in report


def test_a_run_that_stops_leaves_a_page_too(tmp_path: Path) -> None:
    run, events = trained(tmp_path, "stop")
    assert run.state == "failed" and not events
    (incident,) = json.loads((run.path / "incident.json").read_text())["incidents"]
    assert incident["done_in_words"] == "the run ended as failed"
    assert "diverged" in (run.path / "incident.html").read_text()


def test_a_run_that_cannot_be_helped_fails_with_its_cause(tmp_path: Path) -> None:
    run, events = trained(tmp_path, "{rollback: {lower_lr: 0.9, times: 2}}")
    assert run.state == "failed" and len(events) == 2
    error = run.status["error"]
    assert error["type"] == "DivergedError"
    assert "on_nan: rollback acted 2 times already" in error["message"]
    incidents = json.loads((run.path / "incident.json").read_text())["incidents"]
    assert [entry["done"] is None for entry in incidents] == [False, False, True]


def test_a_validation_without_memory_for_it_is_told_and_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test machine has memory enough, so that the pass says otherwise."""
    from aelab.train import loop

    plain = loop.evaluate_with_health

    def greedy(model: Any, objective: Any, images: Any, settings: Any, *rest: Any) -> Any:
        if (settings.validation_batch_size or settings.batch_size) > 10:
            raise MemoryError("not enough memory")
        return plain(model, objective, images, settings, *rest)

    monkeypatch.setattr(loop, "evaluate_with_health", greedy)
    (tmp_path / "f.yml").write_text(FILE.replace("1e+30", "1e-3").replace("{on_nan}", "stop"))
    events = list(lab.run(tmp_path / "f.yml", runs=tmp_path / "runs", device="cpu"))
    told = [event.text for event in events if isinstance(event, RunMended)]
    assert len(told) == 1 and "validations take" in told[0]
    (run,) = Store(tmp_path / "runs").list()
    assert run.state == "finished"
    (found,) = [f for f in run.record["findings"] if f["code"] == "validation-in-parts"]
    assert found["message"].startswith("out of memory: from ")
    assert found["message"].endswith(" images at once")

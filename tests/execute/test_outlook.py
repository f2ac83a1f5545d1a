"""A run in training tells where it will end, and ends early where that is hopeless."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from aelab import lab
from aelab.analysis.curves import Curve
from aelab.execute import events as ev
from aelab.execute import outlook
from aelab.lab import Lab
from aelab.runs.record import Run
from aelab.runs.store import Store

MATRIX = """
matrix:
  lr: [0.003, 0.00001]
experiment_name: hopeless/${matrix_slug}
globals:
  SHAPE: (1, 8, 8)
train_set: noise_dataset(SHAPE, size=200, seed=1)
validation_set: noise_dataset(SHAPE, size=50, seed=2)
model: EncoderDecoder(EncoderMLP(SHAPE, 8, hidden=(16,)), DecoderMLP(SHAPE, 8, hidden=(16,)))
loss_function: l2
seed: 1
batch_size: 16
learnrate: ${lr}
optimizer: Adam
max_images: 3200
validate_every_images: 160
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hopeless.yml"
    path.write_text(MATRIX, encoding="utf-8")
    return path


def _run(file: Path, **options: object) -> list[ev.Event]:
    return list(lab.run(file, runs=file.parent / "runs", device="cpu", **options))  # type: ignore[arg-type]


def test_a_hopeless_run_is_stopped_and_goes_on_without_the_option(file: Path) -> None:
    events = _run(file, stop_hopeless=0.05)
    stopped = [event for event in events if isinstance(event, ev.RunStopped)]
    assert len(stopped) == 1 and stopped[0].images < 3200 and stopped[0].for_good
    assert "of ending below" in stopped[0].reason
    end = events[-1]
    assert isinstance(end, ev.MatrixFinished) and (end.finished, end.stopped) == (1, 1)

    place = Lab(runs=file.parent / "runs")
    table = place.table(file, lab.TableQuery(format="markdown"))
    assert "stopped: chance" in table and "will not reach" in table

    again = _run(file, stop_hopeless=0.05)
    skipped = [event.reason for event in again if isinstance(event, ev.RunSkipped)]
    assert any("without --stop-hopeless it goes on" in reason for reason in skipped)

    finished = [event for event in _run(file) if isinstance(event, ev.RunFinished)]
    assert [event.images for event in finished] == [3200]
    assert "stopped" not in place.table(file, lab.TableQuery(format="markdown"))


def test_validations_tell_where_the_run_will_end(file: Path) -> None:
    told = [
        event.forecast for event in _run(file, only="*0.003") if isinstance(event, ev.RunValidated)
    ]
    assert not told[0] and not told[-1]  # too early, and nothing is left to tell
    assert all(words.startswith("will end ") for words in told[2:-1])


def test_a_budget_is_spent_in_rounds_and_every_row_keeps_what_it_reached(file: Path) -> None:
    text = file.read_text().replace("0.003, 0.00001", "0.003, 0.001, 0.00001")
    file.write_text(text.replace("max_images: 3200", "max_images: 3_000_000"))
    events = _run(file, budget=4.0)
    rounds = [event for event in events if isinstance(event, ev.BudgetRound)]
    assert [event.number for event in rounds] == list(range(1, len(rounds) + 1))
    assert len(rounds[0].names) == 3
    left = [event for event in events if isinstance(event, ev.RunStopped)]
    assert len(left) == 3 and all("the budget is spent" in event.reason for event in left)
    runs = lab.find_runs(runs=file.parent / "runs")
    assert [run.state for run in runs] == ["interrupted"] * len(runs)
    images = {event.name: event.images for event in left}
    assert all(run.status["images"] == images[run.record["name"]] for run in runs)
    again = _run(file, budget=2.0)
    started = [event for event in again if isinstance(event, ev.RunStarted)]
    assert [event.images for event in started] == [images[event.name] for event in started]
    assert all(images.values())


def test_a_large_budget_finishes_the_matrix(file: Path) -> None:
    events = _run(file, budget=600.0)
    end = events[-1]
    assert isinstance(end, ev.MatrixFinished) and (end.finished, end.stopped) == (2, 0)


def test_finished_runs_are_read_once_by_a_matrix_and_again_when_they_change(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MATRIX.replace("[0.003, 0.00001]", "[0.001, 0.002, 0.003, 0.004]")
    file.write_text(text.replace("3200", "320"), encoding="utf-8")
    read: list[str] = []
    original = outlook.siblings_of

    def counted(plan: outlook.RestOfRun, finished: Sequence[Run]) -> list[Curve]:
        read.extend(run.folder for run in finished)
        return original(plan, finished)

    monkeypatch.setattr(outlook, "siblings_of", counted)
    _run(file)
    first = list(read)
    assert len(first) == len(set(first)) == 3, "each but the last, once, though others ask again"
    read.clear()
    _run(file, restart=True)
    last = next(folder for folder in read if folder not in first)
    assert read == [last, *first], "the one not read before, then each after it was trained again"


def test_finished_runs_that_are_gone_or_of_another_store_are_forgotten(tmp_path: Path) -> None:
    def finished(store: Store, folder: str) -> Run:
        path = store.path_of(folder)
        path.mkdir(parents=True)
        (path / "run.json").write_text(
            json.dumps({"format": 1, "name": folder, "identity": folder, "settings": {}})
        )
        (path / "status.json").write_text(json.dumps({"state": "finished"}))
        return Run.at(path, folder)

    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    a, b, c = finished(one, "a"), finished(one, "b"), finished(other, "c")
    outlook.Outlook(a, one, ["a", "b"]).look(10, 1.0)
    assert set(outlook._finished_runs(one.root)) == {"b"}
    (b.path / "status.json").unlink()
    outlook.Outlook(a, one, ["a", "b"]).look(20, 1.0)
    assert not outlook._finished_runs(one.root)
    outlook.Outlook(c, other, ["c"]).look(10, 1.0)
    assert list(outlook._FINISHED) == [other.root.absolute()]

"""The page's own engine: start, follow, stop and save, continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import UserError
from aelab.lab import Lab
from aelab.ui import server
from aelab.ui.training import Training, Trainings, _note
from tests.ui.asking import ask

#: Far too long for a test: it is always stopped.
LONG = """
experiment_name: long/${matrix_slug}
matrix:
  code: [2]
train_set: kali_dataset((1, 8, 8), size=64, seed=1)
validation_set: kali_dataset((1, 8, 8), size=24, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=code), DecoderMLP((1, 8, 8), code_size=code))
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_images: 40_000_000
num_inputs_between_validations: 1_000
num_train_loss_steps: 500
"""


def wait(condition: Callable[[], Any], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def ask_for(app: Any, what: str, path: Path) -> Any:
    body = json.dumps({"file": str(path)}).encode()
    return ask(app, f"/api/training/{what}", method="POST", body=body)


def test_training_is_started_and_stopped_from_the_page_and_saved(tmp_path: Path) -> None:
    path = tmp_path / "long.yml"
    path.write_text(LONG)
    lab = Lab(tmp_path / "runs", device="cpu")
    trainings = Trainings(lab, [path])
    app = server.make_app(lab, trainings=trainings)

    def told() -> dict[str, Any]:
        return trainings.told()[0]

    try:
        assert told()["state"] == "idle"
        assert ask_for(app, "start", path).json["training"][0]["state"] == "running"
        assert ask_for(app, "start", path).status == 200  # once more changes nothing
        wait(lambda: told()["images_per_second"] > 0 and told()["total"] == 1)
        assert told()["seconds_left"] > 0
        assert ask_for(app, "stop", path).json["training"][0]["state"] == "stopping"
        assert ask_for(app, "start", path).status == 400  # it is still being saved
        wait(lambda: told()["state"] == "idle")
        assert told()["words"] == "stopped; what was trained is saved"
    finally:
        trainings.close()
    run = lab.find()[0]
    state = run.checkpoint()
    assert run.state == "interrupted" and state is not None and state.images > 0
    command = json.loads((run.path / "environment.json").read_text())["command"]
    assert command == ["aelab", "run", str(path)]


@pytest.mark.slow
def test_a_stopped_file_continues_and_the_end_of_the_page_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "long.yml"
    path.write_text(LONG)
    lab, reached = Lab(tmp_path / "runs", device="cpu"), [0]
    for _ in range(2):
        trainings = Trainings(lab, [path])
        trainings.start(str(path))
        wait(lambda each=trainings: each.told()[0]["images_per_second"] > 0)  # type: ignore[misc]
        told: list[list[str]] = []
        trainings.close(told.append)  # what Ctrl-C at the page does
        assert told == [[str(path)]]
        run = lab.find()[0]
        state = run.checkpoint()
        assert run.state == "interrupted" and state is not None
        reached.append(state.images)
    assert reached == sorted(set(reached)), "it went on from where it was"


def test_a_mistake_of_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yml"
    path.write_text("experiment_name: wrong\nmodel: Nonsense()\n")
    trainings = Trainings(Lab(tmp_path / "runs"), [path])
    trainings.start(str(path))
    wait(lambda: trainings.told()[0]["state"] == "failed")
    told = trainings.told()[0]
    assert "wrong.yml" in told["words"] and told["said"][-1] == told["words"]
    trainings.close()


def test_an_unknown_file_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match=r"it may train: a\.yml"):
        Trainings(Lab(), [Path("a.yml")]).start("b.yml")
    with pytest.raises(UserError, match="it may train: none"):
        Trainings(Lab()).stop("b.yml")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"event": "MatrixStarted", "names": ["a", "b"]},
         {"total": 2, "words": "0 of 2 runs done"}),
        ({"event": "MatrixProgress", "done": 1, "total": 2, "seconds_left": 9.0,
          "images_per_second": 70.0}, {"done": 1, "seconds_left": 9.0}),
        ({"event": "Preparing", "what": "reading", "done": 1, "total": 4},
         {"words": "reading: 1 of 4"}),
        ({"event": "MatrixFinished", "finished": 2, "skipped": 0, "failed": 1},
         {"words": "2 finished, 1 failed"}),
        ({"event": "MatrixFinished", "finished": 0, "skipped": 0, "failed": 0},
         {"words": "nothing to do"}),
    ],
)  # fmt: skip
def test_events_are_told_in_words(event: dict[str, Any], expected: dict[str, Any]) -> None:
    training = Training("a", Path("a"))
    _note(training, json.dumps(event))
    told = training.as_json()
    assert {key: told[key] for key in expected} == expected


def test_what_is_no_event_is_kept_as_a_line() -> None:
    training = Training("a", Path("a"))
    for line in ("Traceback \x1b[2J", "", "7", json.dumps({"event": "Told", "text": "hello"})):
        _note(training, line)
    assert list(training.said) == ["Traceback \\x1b[2J", "7", "hello"]
    _note(training, json.dumps({"event": "RunErred", "name": "r", "message": "no memory"}))
    assert training.said[-1] == "r: no memory"

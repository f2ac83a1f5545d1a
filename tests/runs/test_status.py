from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aelab.runs import record
from aelab.runs.record import Run
from aelab.runs.status import actual_state, is_alive, is_here, state_words, this_process
from aelab.runs.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Store(tmp_path / "runs").create({"folder": "x", "identity": "1"})


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_changes_are_added_to_what_is_known(run: Run) -> None:
    assert run.state == "waiting"
    run.set_status("running", images=0, best=None)
    run.set_status(images=64, best={"images": 64, "loss": float("inf")})
    assert run.state == "running" and run.status["pid"] == os.getpid()
    other = Run.at(run.path)
    assert other.status["images"] == 64
    assert other.status["best"]["loss"] == float("inf")
    run.set_status("finished")
    assert other.state == "running"
    assert other.refresh().state == "finished"
    assert other.state_words == "finished"


def test_an_unknown_state_is_our_own_mistake(run: Run) -> None:
    with pytest.raises(ValueError, match="none of waiting, running"):
        run.set_status("done")


def test_a_killed_process_leaves_an_interrupted_run(run: Run) -> None:
    script = (
        "import os, sys; from pathlib import Path; from aelab.runs.record import Run\n"
        "Run.at(Path(sys.argv[1])).set_status('running', images=5); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(run.path)], check=False)
    assert run.refresh().status["state"] == "running"
    assert run.state == "interrupted" and run.state_words == "interrupted (killed)"
    assert run.status["images"] == 5


def test_another_process_with_a_reused_number_is_not_taken_for_the_old_one() -> None:
    assert is_alive(this_process())
    assert not is_alive({**this_process(), "mark": "1"}) or sys.platform != "linux"
    assert not is_alive({**this_process(), "pid": None})
    assert not is_alive({**this_process(), "pid": 2**22 + 1})


@pytest.mark.parametrize(("seconds", "words"), [(60, "running on far"), (300, "lost on far")])
def test_a_run_on_another_machine_counts_by_its_last_sign(seconds: float, words: str) -> None:
    status = {"state": "running", "pid": 1, "host": "far", "updated": ago(seconds)}
    assert state_words(status) == words


@pytest.mark.parametrize(("silent", "words"), [(30, "running on far"), (300, "lost on far")])
def test_a_writer_on_another_machine_gives_signs_between_its_log_lines(
    run: Run, silent: float, words: str
) -> None:
    status = {"state": "running", "pid": 1, "host": "far", "updated": ago(3000)}
    (run.path / "status.json").write_text(json.dumps(status))
    sign = run.path / "lock.json"
    sign.write_text(json.dumps({"pid": 1, "host": "far"}))
    os.utime(sign, (time.time() - silent, time.time() - silent))
    assert run.refresh().state_words == words
    assert run.seems_held() == (words == "running on far")


def test_a_held_run_gives_signs_until_it_is_let_go(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "BEAT_SECONDS", 0.01)
    sign = run.path / "lock.json"
    with run.lock():
        os.utime(sign, (1.0, 1.0))
        end = time.monotonic() + 60
        while os.stat(sign).st_mtime < 2:
            assert time.monotonic() < end, "no sign"
            time.sleep(0.01)
        assert run.seems_held()
    assert not sign.exists() and not run.seems_held()


def test_a_machine_is_more_than_its_name() -> None:
    other = {**this_process(), "machine": "another kernel"}
    assert not is_here(other) and not is_alive(other)  # although host and number fit
    assert is_here({**this_process(), "host": "renamed"})
    assert is_here({"host": platform.node()})  # written before machines had a mark


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "waiting"),
        ({"state": "nonsense"}, "interrupted"),
        ({"state": "running"}, "interrupted"),
        ({"state": "running", "host": "far", "updated": "nonsense"}, "interrupted"),
        ({"state": "failed"}, "failed"),
    ],
)
def test_odd_statuses_have_a_state(status: dict[str, Any], state: str) -> None:
    assert actual_state(status) == state


def test_an_emptied_status_file_is_an_interrupted_run(run: Run) -> None:
    run.set_status("running")
    (run.path / "status.json").write_bytes(b"")
    again = Run.at(run.path)
    assert again.state == "interrupted" and "not valid JSON" in again.status["note"]
    again.set_status("finished")
    assert Run.at(run.path).state == "finished"


def test_the_log_has_a_time_before_each_line(run: Run) -> None:
    run.log("first\n")
    run.log("second")
    lines = run.read_text("log.txt").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["first", "second"]
    assert datetime.fromisoformat(lines[0].split(" ")[0]).tzinfo is not None


def test_size_counts_linked_files_once(run: Run) -> None:
    run.save_checkpoint(1, b"x" * 100_000, {}, best=True, keep="all")
    assert 100_000 < run.size_bytes() < 110_000


def test_the_record_can_be_completed_later(run: Run) -> None:
    run.update_record(parameters={"model": 5})
    assert Run.at(run.path).record["parameters"] == {"model": 5}
    assert Run.at(run.path).record["identity"] == "1"


def test_a_run_that_aelab_ended_by_itself_is_told_apart_from_an_interrupted_one() -> None:
    ended = {"state": "interrupted", "stopped": {"chance": 0.01, "reason": "chance 1 %"}}
    assert state_words(ended) == "stopped early" and actual_state(ended) == "interrupted"
    assert state_words({"state": "interrupted", "stopped": None}) == "interrupted"

"""Several runs at once in worker processes: the same results, and nobody left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aelab import hardware, lab
from aelab.errors import Problems
from aelab.execute import events as ev
from aelab.execute.stop import StopRequest
from aelab.runs.store import Store

#: A worker imports torch first, which takes long on a loaded machine.
SECONDS = 500.0
pytestmark = pytest.mark.timeout(900)


def _run(file: Path, runs: Path, **options: Any) -> list[ev.Event]:
    return list(lab.run(file, runs=runs, device="cpu", threads=1, **options))


def _results(runs: Path) -> dict[str, Any]:
    """Everything of the runs that a clock or a process does not enter."""
    found: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        name = str(path.relative_to(runs))
        if path.suffix in (".safetensors", ".png") or path.name in ("calls.json", "resolved.yml"):
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        elif path.name in ("run.json", "environment.json"):
            found[name] = json.loads(path.read_text())
    return found


def _endless(file: Path) -> None:
    """Makes the runs of a file so long that they can be met in training."""
    file.write_text(file.read_text().replace("max_inputs: 480", "max_inputs: 10_000_000"))


def test_two_workers_leave_what_one_process_leaves(tiny: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    _run(tiny, one)
    events = _run(tiny, two, jobs=2)
    assert isinstance(events[0], ev.MatrixStarted) and len(events[0].names) == 4
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (4, 0)
    assert sorted(e.number for e in events if isinstance(e, ev.RunStarted)) == [1, 2, 3, 4]
    assert any(isinstance(event, ev.MatrixProgress) for event in events)
    pids = {path.parent.name: path for path in two.rglob("metrics.jsonl")}
    assert len(pids) == 4
    assert _results(one) == _results(two)
    assert not list(Path(hardware.cache_folder()).glob(f"claims/*/{os.getpid()}-*.json"))


def test_a_worker_that_is_killed_costs_one_retry_and_fewer_neighbours(
    tiny: Path, tmp_path: Path
) -> None:
    text = tiny.read_text().replace("max_inputs: 480", "max_inputs: 16_000")
    tiny.write_text(text.replace("num_train_loss_steps: 80", "num_train_loss_steps: 16"))
    runs, killed, events = tmp_path / "runs", "", []
    for event in lab.run(tiny, only="*seed-1", runs=runs, device="cpu", threads=1, jobs=2):
        events.append(event)
        if isinstance(event, ev.RunProgress) and not killed:
            killed = event.name
            (run,) = [run for run in Store(runs).list() if run.record["name"] == killed]
            os.kill(run.status["pid"], signal.SIGKILL)
    (retried,) = [event for event in events if isinstance(event, ev.RunRetried)]
    assert (retried.name, retried.jobs) == (killed, 1)
    assert "signal 9 (SIGKILL)" in retried.reason
    assert isinstance(events[-1], ev.MatrixFinished) and events[-1].finished == 2
    assert [run.state for run in Store(runs).list()] == ["finished"] * 2


def test_a_run_that_kills_its_worker_twice_fails_and_says_so(tiny: Path, tmp_path: Path) -> None:
    deadly = (
        "model: |\n  import os\n  if net == 8:\n      os.kill(os.getpid(), 9)\n  EncoderDecoder"
    )
    text = tiny.read_text().replace("model: EncoderDecoder", deadly)
    tiny.write_text(text.replace("net: [8, 16]", "net: [16, 8]"))
    events = list(
        lab.run(tiny, only="*seed-1", runs=tmp_path / "runs", device="cpu", trust=True, jobs=2)
    )
    (erred,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "died twice: signal 9" in erred.message and "--retry-failed" in erred.message
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (1, 1)


def test_a_worker_without_memory_costs_one_retry_and_fewer_neighbours(
    tiny: Path, tmp_path: Path
) -> None:
    once = (
        f"model: |\n  from pathlib import Path\n  tried = Path({str(tmp_path / 'tried')!r})\n"
        "  if net == 8 and not tried.exists():\n      tried.touch()\n      raise MemoryError\n"
        "  EncoderDecoder"
    )
    text = tiny.read_text().replace("model: EncoderDecoder", once)
    # The first run must still be there when the second fails, as its neighbour.
    text = text.replace("max_inputs: 480", "max_inputs: 4_000")
    text = text.replace("num_train_loss_steps: 80", "num_train_loss_steps: 16")
    tiny.write_text(text.replace("net: [8, 16]", "net: [16, 8]"))
    events = list(
        lab.run(tiny, only="*seed-1", runs=tmp_path / "runs", device="cpu", trust=True, jobs=2)
    )
    (retried,) = [event for event in events if isinstance(event, ev.RunRetried)]
    assert (retried.reason, retried.jobs) == ("out of memory", 1)
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (2, 0)
    assert [run.state for run in Store(tmp_path / "runs").list()] == ["finished"] * 2


def test_auto_trains_fewer_at_once_where_the_largest_model_needs_more(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the second net a hidden layer of 8,000 numbers: 64 x 8,000 x 2 weights, four times 4 bytes.
    text = tiny.read_text().replace("net: [8, 16]", "net: [8, 8_000]").replace(
        "SHAPE, code_size=net", "SHAPE, code_size=4, hidden=(net,)"
    )  # fmt: skip
    tiny.write_text(text.replace("max_inputs: 480", "max_inputs: 16"))
    monkeypatch.setattr("aelab.hardware.free_cores", lambda: 2)
    monkeypatch.setattr("aelab.execute.engines.pool.BASE_MB", 990.0)
    monkeypatch.setattr("aelab.hardware.free_memory_mb", lambda: 2_001)
    begun = most = 0
    for event in lab.run(
        tiny, only="*seed-1", runs=tmp_path / "runs", device="cpu", threads=1, jobs=None
    ):
        begun += isinstance(event, ev.RunStarted) - isinstance(event, ev.RunFinished)
        most = max(most, begun)
        if isinstance(event, ev.Told):
            assert event.text.startswith("  1 run at once: one needs about 1,0")
    assert isinstance(event, ev.MatrixFinished) and (event.finished, most) == (2, 1)


def test_a_second_ctrl_c_ends_all_workers_at_once(tiny: Path, tmp_path: Path) -> None:
    _endless(tiny)
    slow = (
        "loss_function: |\n  import time\n  from pathlib import Path\n"
        f"  lambda r, t: (Path({str(tmp_path / 'slow')!r}).exists() and time.sleep(600)) or "
        "(r - t).square().mean()\n"
    )
    tiny.write_text(tiny.read_text() + slow)
    command = [sys.executable, "-m", "aelab", "run", str(tiny), "--device", "cpu", "--jobs", "2",
               "--only", "*seed-1", "--trust"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + SECONDS
    workers: dict[int, str | None] = {}
    while len(workers) < 2:
        assert process.poll() is None and time.monotonic() < end, "the workers did not begin"
        time.sleep(0.1)
        for run in Store(tmp_path / "runs").list():
            if run.status.get("pid") and run.status.get("images"):
                workers[run.status["pid"]] = run.status["mark"]
    (tmp_path / "slow").touch()  # from now on a batch takes ten minutes, and saving waits for it
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    assert "ended; what was saved is kept; continue with: aelab run" in said
    assert not any(hardware.is_there(pid, mark) for pid, mark in workers.items())


def test_a_stop_saves_every_run_and_the_same_command_goes_on(tiny: Path, tmp_path: Path) -> None:
    text = tiny.read_text().replace("max_inputs: 480", "max_inputs: 8_000")
    tiny.write_text(text.replace("num_train_loss_steps: 80", "num_train_loss_steps: 16"))
    whole, cut, only = tmp_path / "whole", tmp_path / "cut", "*seed-1"
    stop, begun, events = StopRequest(), set(), []
    for event in lab.run(tiny, only=only, runs=cut, device="cpu", threads=1, jobs=2, stop=stop):
        events.append(event)
        begun |= {event.name} if isinstance(event, ev.RunProgress) else set()
        if len(begun) == 2 and not stop:
            stop.ask()
    assert isinstance(events[-1], ev.MatrixFinished) and events[-1].interrupted
    stopped = [event for event in events if isinstance(event, ev.RunInterrupted)]
    assert stopped and all(event.images < 8_000 for event in stopped)
    for run in Store(cut).list():
        assert run.state in ("interrupted", "finished")
        assert (
            run.status["images"]
            == json.loads((run.path / "checkpoints/latest.json").read_text())["images"]
        )
    _run(tiny, cut, only=only, jobs=2)
    _run(tiny, whole, only=only)
    assert _results(cut) == _results(whole)


def test_no_worker_outlives_a_command_that_is_killed(tiny: Path, tmp_path: Path) -> None:
    _endless(tiny)
    command = [sys.executable, "-m", "aelab", "run", str(tiny), "--device", "cpu", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    end = time.monotonic() + SECONDS
    workers: dict[int, str | None] = {}
    while len(workers) < 2:
        assert time.monotonic() < end, "the workers did not begin"
        time.sleep(0.1)
        for run in Store(tmp_path / "runs").list():
            if run.status.get("pid") and run.status.get("images"):
                workers[run.status["pid"]] = run.status["mark"]
    process.kill()
    process.wait()
    while any(hardware.is_there(pid, mark) for pid, mark in workers.items()):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.1)
    states = [run.state for run in Store(tmp_path / "runs").list()]
    assert states == ["interrupted"] * 2  # saved, not lost


def test_a_mistake_in_every_run_is_told_before_a_directory_is_made(
    tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(tiny.read_text().replace("EncoderMLP(SHAPE", "EncoderMLP((1, 4, 4)"))
    with pytest.raises(Problems) as caught:
        _run(tiny, tmp_path / "runs", jobs=2)
    assert f"{tiny}:" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_finished_matrix_answers_without_torch(tiny: Path, tmp_path: Path) -> None:
    _run(tiny, tmp_path / "runs")
    code = (
        "import sys\nfrom aelab.cli import main\n"
        f"sys.argv = ['aelab', 'run', {str(tiny)!r}, '--runs', {str(tmp_path / 'runs')!r}]\n"
        "try:\n    main.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 finished, 4 skipped, 0 failed" in done.stderr

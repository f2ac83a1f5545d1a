"""Several processes on one file; and a machine without enough memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aelab import lab
from aelab.config import load
from aelab.errors import Problems
from aelab.execute import events as ev
from aelab.runs.record import HeldError, Run
from aelab.runs.store import Store

WORKERS = 4


def test_workers_that_start_together_share_the_runs(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aelab", "run", str(tiny), "--device", "cpu"]
    workers = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    said = [worker.communicate(timeout=240)[1] for worker in workers]
    # 75: when it ended, another one still trained.
    assert {worker.returncode for worker in workers} <= {0, 75}, "\n".join(said)
    runs = Store(tmp_path / "runs").list()
    assert [run.state for run in runs] == ["finished"] * 4
    trained = sum(text.count("  finished tiny/") for text in said)
    assert trained == 4, "\n".join(said)  # each once
    if any("is being trained by process" in text for text in said):
        assert any("in training by other processes" in text for text in said)


def test_who_waits_takes_over_what_another_process_leaves(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    (first, *_) = load(tiny).runs()
    runs = tmp_path / "runs"
    store = Store(runs)
    store.create({"folder": first.folder, "name": first.name, "identity": first.identity})
    monkeypatch.setattr("aelab.execute.matrix._WAIT_SECONDS", 0.01)
    lock, looks = FileLock(runs / first.folder / "lock"), 0
    lock.acquire()
    for event in lab.run(tiny, only=first.folder, runs=runs, device="cpu", wait=True):
        if isinstance(event, ev.RunAwaited):
            looks += 1
            lock.release()  # as if that process had been killed
    assert looks == 1
    assert isinstance(event, ev.MatrixFinished) and (event.finished, event.held) == (1, 0)


def test_a_run_that_another_process_trains_is_not_waited_for(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = load(tiny).runs()
    store = Store(tmp_path / "runs")

    def held(self: Run, timeout_seconds: float = 0) -> Any:
        raise HeldError(f"run {self.folder} is being trained by process 1 on host h")

    store.create({"folder": first.folder, "name": first.name, "identity": first.identity})
    with monkeypatch.context() as patch:
        patch.setattr(Run, "lock", held)
        events = list(lab.run(tiny, only=first.folder, runs=tmp_path / "runs", device="cpu"))
    (skipped,) = [event for event in events if isinstance(event, ev.RunSkipped)]
    assert skipped.held and "process 1" in skipped.reason
    assert isinstance(events[-1], ev.MatrixFinished) and events[-1].held == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't"),
    ],
)
def test_out_of_memory_says_what_to_lower_and_the_matrix_goes_on(
    error: Exception, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aelab.execute import session

    calls: list[Any] = []
    load_images = session.load_images

    def refused(parts: Any) -> Any:
        calls.append(parts)
        if len(calls) == 1:
            raise error
        return load_images(parts)

    monkeypatch.setattr(session, "load_images", refused)
    events = list(lab.run(tiny, only="net:mlp*", runs=tmp_path / "runs", device="cpu"))
    (erred,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "out of memory" in erred.message and "lower batch_size (now 16)" in erred.message
    assert "gradient_accumulation" in erred.message and "alloc_cpu" not in erred.message
    assert any(isinstance(event, ev.RunFinished) for event in events)


@pytest.mark.parametrize("name", ["lost+found", "a/System Volume Information/b", "a/" * 70 + "a"])
def test_a_name_that_no_listing_would_find_is_refused(name: str, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("tiny/${matrix_slug}", f"{name}/${{matrix_slug}}"))
    with pytest.raises(Problems, match=r"where no runs are looked for|at most 64 are possible"):
        load(tiny)


@pytest.mark.parametrize("name", ["a/run.json", "metrics.jsonl", "x/Lock/y", "a/status.json/b"])
def test_names_of_the_files_of_a_run_cannot_name_a_run(name: str, tiny: Path) -> None:
    text = tiny.read_text().replace("tiny/${matrix_slug}", f"{name}/${{matrix_slug}}")
    tiny.write_text(text)
    with pytest.raises(Problems, match="is the name of a file that every run has"):
        load(tiny)


def test_what_a_killed_process_left_in_the_runs_folder_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.make_root()
    old = store.root / "..gitignore.12-ab.tmp"
    removed = store.root / ".removed-0123456789abcdef"
    fresh = store.root / "..gitignore.13-ab.tmp"
    (removed / "checkpoints").mkdir(parents=True)
    for path in (old, fresh):
        path.write_text("*")
    for path in (old, removed):
        os.utime(path, (1, 1))
    store.make_root()
    assert not old.exists() and not removed.exists() and fresh.exists()

"""Training in the tasks of a Slurm array: tried with stand-ins for Slurm's three programs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from aelab import lab
from aelab.errors import UserError
from aelab.execute import events as ev
from aelab.execute.engines import slurm
from aelab.execute.engines.slurm import Array, Slurm, command_of
from aelab.execute.jobs import Options
from aelab.execute.stop import StopRequest
from aelab.runs.store import Store

#: Starts the tasks in the background and keeps their process numbers, as a cluster would.
SBATCH = """#!/bin/sh
number=$(( $(ls "$FAKE" | grep -c '^job-') + 1 ))
echo "$@" > "$FAKE/options-$number"
cat > "$FAKE/script-$number"
tasks=$(sed -n 's/.*--array=0-\\([0-9]*\\).*/\\1/p' "$FAKE/script-$number")
for task in $(seq 0 "$tasks"); do
    setsid sh "$FAKE/script-$number" > "$FAKE/out-$number-$task" 2>&1 < /dev/null &
    echo $! >> "$FAKE/job-$number"
done
echo "$number"
"""
SQUEUE = """#!/bin/sh
for pid in $(cat "$FAKE/job-$3"); do
    kill -0 "$pid" 2>/dev/null && echo RUNNING
done
exit 0
"""
SCANCEL = """#!/bin/sh
for pid in $(cat "$FAKE/job-$1"); do
    kill -TERM -- "-$pid" 2>/dev/null
done
exit 0
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the stand-ins keep what they were told."""
    folder, programs = tmp_path / "cluster", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "_LATE_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    return folder


def _losses(runs: Path) -> dict[str, list[float]]:
    found = {}
    for path in sorted(runs.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [row["loss"] for row in rows]
    return found


@pytest.mark.timeout(900)
def test_an_array_that_dies_is_followed_by_another_and_nothing_is_lost(
    tiny: Path, tmp_path: Path, cluster: Path
) -> None:
    text = tiny.read_text().replace("max_inputs: 480", "max_inputs: 8_000")
    tiny.write_text(text.replace("num_train_loss_steps: 80", "num_train_loss_steps: 160"))
    only, killed, events = "*seed-1", False, []
    command = ("run", "tiny.yml", "--device", "cpu", "--only", only)
    array = Array(("--partition=long",), command, tasks=2)
    for event in lab.run(tiny, only=only, device="cpu", threads=1, slurm=array):
        events.append(event)
        if isinstance(event, ev.RunProgress) and event.images > 1_000 and not killed:
            killed = True
            for pid in (cluster / "job-1").read_text().split():  # both nodes are gone
                os.killpg(int(pid), signal.SIGKILL)
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (2, 0)
    assert killed and (cluster / "job-2").exists()
    assert (cluster / "options-1").read_text().split() == ["--parsable", "--partition=long"]
    assert [run.state for run in Store("runs").list()] == ["finished"] * 2
    list(lab.run(tiny, only=only, runs=tmp_path / "whole", device="cpu", threads=1))
    assert _losses(tmp_path / "runs") == _losses(tmp_path / "whole")


def test_the_script_repeats_the_command_without_what_was_for_the_submission(
    tmp_path: Path,
) -> None:
    words = ["run", "a.yml", "--slurm", "--sbatch", "--time=1:00:00", "--jobs=8", "--restart",
             "--retry-failed", "-j", "4", "--threads", "2", "--set", "jobs=3"]  # fmt: skip
    command = command_of(words)
    assert command == ("run", "a.yml", "--set", "jobs=3")
    array = Array((), command)
    engine = Slurm(
        lab.Workspace.of(tmp_path / "runs"), Options(threads=2), StopRequest(), print, array
    )
    script = engine.script(3, tmp_path / "%A-%a.txt")
    assert "--array=0-2 --cpus-per-task=2" in script
    assert "-m aelab run a.yml --set jobs=3 --jobs 1 --threads 2 --quiet &" in script


def test_a_machine_without_slurm_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot start sbatch"):
        list(lab.run(tiny, device="cpu", slurm=Array((), ("run", "tiny.yml"))))

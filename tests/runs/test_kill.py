"""Processes that write are killed at random moments; every file must be whole afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from aelab.runs.record import Run
from aelab.runs.store import Store

WRITER = """
import sys
from pathlib import Path
from aelab.runs.record import Run

run = Run.at(Path(sys.argv[1]))
with run.lock():
    state = run.checkpoint()
    images = 0
    if state is None:
        run.truncate_metrics(0)
    else:
        data, numbers = state.read()
        images = numbers["images"]
        assert data == bytes([images % 251]) * 30000, "tensors and numbers differ"
        run.rewind(state)
        assert len(run.metrics()) == images, "metrics and numbers differ"
    print("ready", flush=True)
    while True:
        images += 1
        run.append({"split": "train", "images": images, "loss": 1 / images})
        run.set_status("running", images=images)
        tensors = bytes([images % 251]) * 30000
        run.save_checkpoint(images, tensors, {"images": images}, best=images % 3 == 0, keep=3)
        run.write_bytes("images/train.png", tensors)
"""


def test_every_file_is_whole_after_kill_9_at_any_moment(tmp_path: Path) -> None:
    run = Store(tmp_path / "runs").create({"folder": "x", "identity": "1"})
    moments = random.Random(7)
    reached = []
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(run.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.005, 0.1))
            process.send_signal(signal.SIGKILL)
        reached.append(check(run))
    assert reached == sorted(reached) and reached[-1] > reached[0]


def check(run: Run) -> int:
    """Read everything there is as a reader would; returns the images of the latest state."""
    run.refresh()
    assert run.state in ("interrupted", "waiting")
    latest = 0
    for state in run.checkpoints():
        data, numbers = state.read()
        assert data == bytes([numbers["images"] % 251]) * 30000
        assert state.images == numbers["images"]
        latest = max(latest, state.images)
    for row in run.metrics():
        assert row["loss"] == 1 / row["images"]
    for path in run.path.glob("*.json"):
        json.loads(path.read_bytes())
    picture = run.path / "images" / "train.png"
    assert not picture.exists() or len(set(picture.read_bytes())) == 1
    return latest

"""Ctrl-C, SIGTERM and `kill -9` lose nothing that was written; the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW = """\
experiment_name: slow
train_set: noise_dataset((1, 16, 16), size=600, seed=1)
validation_set: noise_dataset((1, 16, 16), size=64, seed=2)
model: |
  EncoderDecoder(
      EncoderConv2d((1, 16, 16), code_size=8, channels=(8, 8)),
      DecoderConv2d((1, 16, 16), code_size=8, channels=(8, 8)),
  )
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: {images}
num_inputs_between_validations: 320
num_train_loss_steps: 160
"""


def _start(folder: Path, images: int) -> subprocess.Popen[str]:
    (folder / "slow.yml").write_text(SLOW.format(images=images))
    command = [sys.executable, "-m", "aelab", "run", "slow.yml", "--device", "cpu"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # Tests started by `nohup` ignore the end of their terminal, and so would the run.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def _wait_for_checkpoint(folder: Path, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not (folder / "runs/slow/checkpoints/latest.json").exists():
        assert time.monotonic() < end, "no checkpoint appeared"
        time.sleep(0.02)


def _status(folder: Path) -> dict:
    return json.loads((folder / "runs/slow/status.json").read_text())


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129),
        (signal.SIGUSR1, 128 + signal.SIGUSR1),
    ],
)  # fmt: skip
def test_a_polite_signal_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = _start(tmp_path, images=2_000_000)
    _wait_for_checkpoint(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert "continue with: aelab run slow.yml --device cpu" in err
    status = _status(tmp_path)
    assert status["state"] == "interrupted"
    about = json.loads((tmp_path / "runs/slow/checkpoints/latest.json").read_text())
    assert about["images"] == status["images"]


def test_a_run_killed_hard_continues_bit_for_bit(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    whole.mkdir()
    process = _start(cut, images=6_400)
    _wait_for_checkpoint(cut)
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=240)
    for folder in (cut, whole):
        process = _start(folder, images=6_400)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    latest = "runs/slow/checkpoints/latest.safetensors"
    assert (cut / latest).read_bytes() == (whole / latest).read_bytes()

    def rows(folder: Path) -> list[dict]:
        lines = (folder / "runs/slow/metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    assert rows(cut) == rows(whole)

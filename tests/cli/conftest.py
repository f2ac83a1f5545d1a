"""Calling the command line in this process, and a small experiment to call it on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from aelab.cli.main import main

TINY = """\
matrix:
  lr: [0.001, 0.002]
experiment_name: tiny/${matrix_slug}
globals:
  SHAPE: (1, 8, 8)
train_set: noise_dataset(SHAPE, size=200, seed=1)
validation_set: noise_dataset(SHAPE, size=50, seed=2)
model: EncoderDecoder(EncoderMLP(SHAPE, code_size=4), DecoderMLP(SHAPE, code_size=4))
batch_size: 16
learnrate: ${lr}
optimizer: Adam
max_inputs: 320
num_inputs_between_validations: 160
"""


class Answer(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`tiny.yml` in an otherwise empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "tiny.yml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def aelab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """`aelab("run", "tiny.yml")` -> exit code, standard output, standard error."""

    def call(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["aelab", *words])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call

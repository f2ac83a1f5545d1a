from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from aelab.config import Experiment, load
from aelab.errors import Problems

MINIMAL = """\
experiment_name: test/${matrix_slug}
model: EncoderConv2d(SHAPE, 8)
train_set: noise_dataset(SHAPE, 10)
batch_size: 8
learnrate: 0.001
optimizer: Adam
max_inputs: 100
globals:
  SHAPE: (1, 8, 8)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes an experiment file; `text` is put before a minimal one, less the key `without`."""

    def write_file(text: str = "", name: str = "file.yml", *, without: str = "") -> Path:
        kept = [line for line in MINIMAL.splitlines() if not (without and line.startswith(without))]
        if without == "globals":
            kept.remove("  SHAPE: (1, 8, 8)")
        path = tmp_path / name
        path.write_text(dedent(text) + "\n".join(kept) + "\n", encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def load_text(write: Callable[..., Path]) -> Callable[..., Experiment]:
    """The experiment of some text in front of a minimal file."""
    return lambda text="", **kwargs: load(write(text, **kwargs))


@pytest.fixture
def problems(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """The messages that a file earns, without its folder."""

    def find(text: str, **kwargs: str) -> list[str]:
        path = write(text, **kwargs)
        with pytest.raises(Problems) as caught:
            load(path)
        return [str(error).replace(f"{path.parent}/", "") for error in caught.value.errors]

    return find

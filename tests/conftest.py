"""What every test shares: nothing outside of its own folders is written, and a small experiment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aelab.runs import disk

TINY = """
matrix:
  net: [mlp, conv]
  seed: [1, 2]

experiment_name: tiny/${matrix_slug}

globals:
  SHAPE: (1, 8, 8)

train_set: noise_dataset(SHAPE, size=200, seed=1)
validation_set: noise_dataset(SHAPE, size=50, seed=2)

model: |
  {
      "conv": EncoderDecoder(
          EncoderConv2d(SHAPE, code_size=8, channels=(4, 4), kernel_size=3),
          DecoderConv2d(SHAPE, code_size=8, channels=(4, 4), kernel_size=3),
      ),
      "mlp": EncoderDecoder(EncoderMLP(SHAPE, code_size=8), DecoderMLP(SHAPE, code_size=8)),
  }[net]

seed: ${seed}
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 480
num_inputs_between_validations: 160
num_train_loss_steps: 80
"""


@pytest.fixture(scope="session", autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key by which aelab knows its own runs again, of these tests alone."""
    path = tmp_path_factory.mktemp("key") / "own-runs.key"
    os.environ["AELAB_KEY"] = str(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def one_job() -> None:
    """`aelab run` in this process unless a test says otherwise, however idle the machine is."""
    os.environ["AELAB_JOBS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """No test waits for the disk: a run has some 570 `fsync`, most of the time of a short one.

    Only a loss of power can tell the difference; `runs/test_crash_points.py` plays that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def tiny_text() -> str:
    return TINY


@pytest.fixture
def tiny(tmp_path: Path, tiny_text: str) -> Path:
    """Path of the tiny experiment file, alone in its folder; a room may have another text."""
    path = tmp_path / "tiny.yml"
    path.write_text(tiny_text, encoding="utf-8")
    return path


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty AELAB_DATA and an empty cache; nothing is remembered, nothing is fetched."""
    from aelab.data import MEMORY  # not for the tests that need no torch

    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("AELAB_DATA", str(folder))
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aelab.data.sources.download._fetch_one", _no_network)
    MEMORY.clear()
    yield folder
    MEMORY.clear()


def _no_network(*args: object) -> Path:
    raise OSError("no network in tests")

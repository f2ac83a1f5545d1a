"""A small experiment that trains in a second, as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.fixture
def tiny_text() -> str:
    return TINY


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Path of the tiny experiment file, alone in its folder."""
    path = tmp_path / "tiny.yml"
    path.write_text(TINY, encoding="utf-8")
    return path

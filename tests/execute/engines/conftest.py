"""Four runs that train in a moment, as a file."""

from __future__ import annotations

import pytest

TINY = """
matrix:
  net: [8, 16]
  seed: [1, 2]

experiment_name: tiny/${matrix_slug}
globals:
  SHAPE: (1, 8, 8)
train_set: noise_dataset(SHAPE, size=200, seed=1)
validation_set: noise_dataset(SHAPE, size=50, seed=2)
model: EncoderDecoder(EncoderMLP(SHAPE, code_size=net), DecoderMLP(SHAPE, code_size=net))
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

"""Images as one uint8 tensor near the compute: where they lie, how they are read and changed.

Parts are descriptions; constructing one reads no pixels. Knows errors, types and ops; must not know
models, losses, training or runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aelab.data.base import MEMORY, Dataset
from aelab.data.mnist import fmnist_dataset, idx_dataset, mnist_dataset
from aelab.data.noise import noise_dataset

#: Every data set an experiment file may name.
DATASETS: dict[str, Callable[..., Any]] = {
    "mnist_dataset": mnist_dataset,
    "fmnist_dataset": fmnist_dataset,
    "idx_dataset": idx_dataset,
    "noise_dataset": noise_dataset,
}

__all__ = ["DATASETS", "MEMORY", "Dataset"]

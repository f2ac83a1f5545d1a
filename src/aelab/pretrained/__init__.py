"""Weights that others trained: where they lie, how they are fetched, checked and read.

The room knows nothing of any architecture; a model compares the tensors with its own names.
"""

from __future__ import annotations

from aelab.pretrained.weights import (
    RESNET18,
    Published,
    Weights,
    find_weights,
    is_restoring,
    read_weights,
    restoring,
    weights_note,
)

__all__ = [
    "RESNET18",
    "Published",
    "Weights",
    "find_weights",
    "is_restoring",
    "read_weights",
    "restoring",
    "weights_note",
]

"""Published weights: finding, downloading, checking and reading them.

Independent of architectures; a model compares the tensors with its own names.
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

"""Formulas as pure functions with one value an image, and `Objective`: named terms and weights.

The room sees only a model's `types.Output`; it knows nothing of models, data and training.
"""

from __future__ import annotations

from aelab.losses.latent import (
    feature_statistics,
    gaussian_kl,
    gaussian_kl_per_dim,
    legacy_kl,
)
from aelab.losses.names import ALIASES, PENALTIES, RECONSTRUCTIONS, find_formula, loss_names
from aelab.losses.objective import Objective, Term, make_objective
from aelab.losses.reconstruction import bce, bce_logits, huber, l1, l2, per_image

#: Functions that a block of a file may call or hand over as `loss_function`.
LOSSES = {"l1": l1, "l2": l2, "bce": bce, "bce_logits": bce_logits, "huber": huber}

__all__ = [
    "ALIASES",
    "LOSSES",
    "PENALTIES",
    "RECONSTRUCTIONS",
    "Objective",
    "Term",
    "bce",
    "bce_logits",
    "feature_statistics",
    "find_formula",
    "gaussian_kl",
    "gaussian_kl_per_dim",
    "huber",
    "l1",
    "l2",
    "legacy_kl",
    "loss_names",
    "make_objective",
    "per_image",
]

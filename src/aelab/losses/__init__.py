"""Loss formulas as pure functions with one value per image, and `Objective`: weighted terms.

Formulas see only a model's `types.Output`; this room must not import models, data or training.
"""

from __future__ import annotations

from torch import nn

from aelab.losses.histograms import histogram, histogram_distance, local_histogram
from aelab.losses.latent import (
    feature_statistics,
    gaussian_kl,
)
from aelab.losses.modules import PerceptualLoss
from aelab.losses.names import (
    ALIASES,
    COMPARISONS,
    PENALTIES,
    RECONSTRUCTIONS,
    find_formula,
    loss_names,
)
from aelab.losses.objective import Objective, Term, make_objective
from aelab.losses.random_features import random_features
from aelab.losses.reconstruction import bce, bce_logits, huber, l1, l2, per_image
from aelab.losses.soft_counts import soft_histogram
from aelab.losses.spectrum import fft, focal_frequency
from aelab.losses.structure import gradient, ms_ssim, ssim
from aelab.parts import Table, by_name

#: Losses as objects, for a `loss_function:` block of a file; formulas have names instead.
LOSSES: Table[type[nn.Module]] = Table("loss", "aelab.losses", by_name(PerceptualLoss))

__all__ = [
    "ALIASES",
    "COMPARISONS",
    "LOSSES",
    "PENALTIES",
    "RECONSTRUCTIONS",
    "Objective",
    "PerceptualLoss",
    "Term",
    "bce",
    "bce_logits",
    "feature_statistics",
    "fft",
    "find_formula",
    "focal_frequency",
    "gaussian_kl",
    "gradient",
    "histogram",
    "histogram_distance",
    "huber",
    "l1",
    "l2",
    "local_histogram",
    "loss_names",
    "make_objective",
    "ms_ssim",
    "per_image",
    "random_features",
    "soft_histogram",
    "ssim",
]

"""Metrics of a trained model, besides its training loss: functions of a `Subject`.

`METRICS` lists them. The other formulas of this room take only tensors. The room must not know
runs or training; `lab.evaluate` stores the results.
"""

from __future__ import annotations

from aelab.metrics.baseline import PCA, fit_pca, pca_skill
from aelab.metrics.disentanglement import dci_scores, disentanglement, sap
from aelab.metrics.distances import (
    frechet_distance,
    kernel_distance,
    precision_recall,
    sample_quality,
)
from aelab.metrics.frequency import FrequencyError, error_by_frequency
from aelab.metrics.likelihood import (
    Observation,
    elbo,
    iwae,
    kl_by_dimension,
    latent_use,
    observation_of,
)
from aelab.metrics.pictures import psnr, reproduction
from aelab.metrics.rate import rate
from aelab.metrics.samplers import SAMPLERS, Sampler
from aelab.metrics.separation import knn_accuracy, linear_probe_accuracy, separation
from aelab.metrics.subject import Subject, flat
from aelab.metrics.table import Metric, Need, lacking, measure
from aelab.parts import Table

_POSTERIOR: frozenset[Need] = frozenset({"posterior"})
_DIVERGENCE: frozenset[Need] = frozenset({"divergence"})

#: Every metric by name, in the order in which tables show them.
METRICS: Table[Metric] = Table(
    "metric",
    "aelab.metrics",
    {
        "reproduction": Metric(
            reproduction, "L1, L2, PSNR and SSIM of held-out reproductions", medium="pixels"
        ),
        "elbo": Metric(
            elbo,
            "evidence bound: distortion, rate, bits per dimension",
            _POSTERIOR,
            medium="pixels",
        ),
        "latent_use": Metric(latent_use, "active units, KL of single dimensions", _DIVERGENCE),
        "rate": Metric(
            rate,
            "bits of the latent, and the error of what is decoded from them",
            frozenset({"rate"}),
            medium="pixels",
        ),
        "pca_skill": Metric(
            pca_skill,
            "error compared with PCA of as many numbers",
            frozenset({"train"}),
            medium="pixels",
        ),
        "separation": Metric(
            separation,
            "k-NN and linear-probe accuracy of the latent against pixels",
            frozenset({"train", "labels"}),
            "slow",
        ),
        "disentanglement": Metric(
            disentanglement,
            "mutual information gap, modularity, FactorVAE score of known factors",
            frozenset({"factors"}),
        ),
        "sap": Metric(
            sap,
            "how much better one dimension tells a known factor than the second best",
            frozenset({"factors"}),
            "slow",
            needs_extra="latents",
        ),
        "dci": Metric(
            dci_scores,
            "disentanglement, completeness, informativeness of known factors",
            frozenset({"factors"}),
            "slow",
            needs_extra="latents",
        ),
        "samples": Metric(
            sample_quality,
            "Frechet and kernel distance, precision, recall, diversity of new images",
            frozenset({"train"}),
            "slow",
            part="count",
            medium="pixels",
        ),
        "iwae": Metric(
            iwae,
            "log-likelihood, importance-weighted with 500 samples",
            _POSTERIOR,
            "slow",
            part="images",
            medium="pixels",
        ),
    },
)

__all__ = [
    "METRICS",
    "PCA",
    "SAMPLERS",
    "FrequencyError",
    "Metric",
    "Observation",
    "Sampler",
    "Subject",
    "elbo",
    "error_by_frequency",
    "fit_pca",
    "flat",
    "frechet_distance",
    "iwae",
    "kernel_distance",
    "kl_by_dimension",
    "knn_accuracy",
    "lacking",
    "latent_use",
    "linear_probe_accuracy",
    "measure",
    "observation_of",
    "pca_skill",
    "precision_recall",
    "psnr",
    "rate",
    "reproduction",
    "sample_quality",
    "separation",
]

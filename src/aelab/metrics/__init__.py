"""Numbers about a trained model that nothing was minimised for: `Subject` in, values out.

A metric is a function of a `Subject`; `METRICS` lists them. The formulas beside them work on
tensors alone. The room knows nothing of runs and training; `lab.evaluate` stores what it finds.
"""

from __future__ import annotations

from aelab.metrics.frequency import FrequencyError, error_by_frequency
from aelab.metrics.pictures import psnr, reproduction
from aelab.metrics.subject import Subject, flat
from aelab.metrics.table import Metric, lacking, measure

#: Every metric by name, in the order in which tables show them.
METRICS: dict[str, Metric] = {
    "reproduction": Metric(reproduction, "L1, L2, PSNR and SSIM of held-out reproductions"),
}

__all__ = [
    "METRICS",
    "FrequencyError",
    "Metric",
    "Subject",
    "error_by_frequency",
    "flat",
    "lacking",
    "measure",
    "psnr",
    "reproduction",
]

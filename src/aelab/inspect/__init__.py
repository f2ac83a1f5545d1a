"""Facts about any `nn.Module` before training: shapes, costs, and whether it fits the images.

`adapting` wraps a module as a model and counts its parameters, `trials` runs it on a few images,
`dry_run` counts its operations. Nothing here changes a model.
"""

from __future__ import annotations

from aelab.inspect.adapting import (
    Adapted,
    ModelFacts,
    as_model,
    count_parameters,
    model_facts,
    model_notes,
)
from aelab.inspect.dry_run import DryRun, asks_for_values
from aelab.inspect.trials import (
    Trial,
    bounded_output,
    harmless_probes,
    refused_batch,
    try_anywhere,
    try_model,
)

__all__ = [
    "Adapted",
    "DryRun",
    "ModelFacts",
    "Trial",
    "as_model",
    "asks_for_values",
    "bounded_output",
    "count_parameters",
    "harmless_probes",
    "model_facts",
    "model_notes",
    "refused_batch",
    "try_anywhere",
    "try_model",
]

"""What can be known of any `nn.Module` before it is trained: shapes, costs, and whether it fits.

`adapting` makes a model of any module and counts it, `trials` tries it with a few images,
`dry_run` counts what it computes. Nothing here changes a model.
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
from aelab.inspect.dry_run import asks_for_values
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

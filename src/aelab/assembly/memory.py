"""Recognises out-of-memory errors and names the settings to lower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from aelab.assembly.cost import memory_mb
from aelab.errors import RunFailed

if TYPE_CHECKING:
    from aelab.config import RunSpec

#: Texts of torch's errors for lack of CPU memory; they have no class of their own.
_SAID = ("alloc_cpu", "can't allocate memory", "not enough memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a lack of memory on the CPU or another device."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SAID):
            return True
        error, seen = error.__cause__, seen + 1
    return False


def out_of_memory(error: BaseException, spec: RunSpec, parameters: int | None) -> RunFailed:
    """The error as a `RunFailed` that names the settings to lower.

    Args:
        error: the error as raised.
        spec: spec of the run.
        parameters: number of parameters of its model; None if it was not built yet.
    """
    keys = spec.settings.fit
    where = "the GPU" if "CUDA" in str(error) else "this machine"
    size = ""
    if parameters:
        size = (
            f"; its {parameters:,} parameters alone take {memory_mb(parameters, 0, 0):,.0f} MB in "
            "training"
        )
    ways = [f"lower batch_size (now {keys.batch_size:,}), and keep the same optimiser step with "
            "gradient_accumulation"]  # fmt: skip
    if keys.validation_batch_size and keys.validation_batch_size > keys.batch_size:
        ways.append(f"lower validation_batch_size (now {keys.validation_batch_size:,})")
    ways += ["make the model or the images smaller", "`aelab check` estimates the memory"]
    return RunFailed(f"out of memory on {where}{size}", hint="; ".join(ways))

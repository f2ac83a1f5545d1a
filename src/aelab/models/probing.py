"""Trying a half-built model without leaving traces in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def harmless_probes() -> Iterator[None]:
    """While this holds, forward passes leave the running statistics of normalisations as they were.

    Old files find a shape by sending an empty batch through an encoder that is in training mode.
    That would mix the statistics of this batch into the (pretrained) ones. Values computed
    meanwhile are those of training mode; afterwards every buffer is what it was.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    seen: set[nn.Module] = set()

    def keep(module: nn.Module, inputs: Any) -> None:
        """Copies the buffers of a normalisation when it is first used."""
        if isinstance(module, _NormBase) and module not in seen:
            seen.add(module)
            kept.extend((buffer, buffer.clone()) for buffer in module.buffers())

    hook = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)

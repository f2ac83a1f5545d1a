"""Keeps what blocks build on one device: the run chooses it, not the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Methods that only move a tensor.
_MOVES = (Tensor.cuda, Tensor.cpu)


class OneDevice(TorchFunctionMode):
    """Context manager: `.to("cuda")`, `.cuda()` and `.cpu()` do not move tensors or modules.

    Old files move their model to a GPU before they print its layers. A run is trained on the device
    of `--device`, and is often built on another machine or without memory (meta device). Changes of
    type, `.to(torch.float64)`, have their effect.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls `func`, without the device if it is a move."""
        kwargs = kwargs or {}
        if func in _MOVES:
            return args[0]
        if func is not Tensor.to:
            return func(*args, **kwargs)
        given = [*args[1:], *kwargs.values()]
        if not any(_is_device(value) for value in given):
            return func(*args, **kwargs)
        types_given = [value for value in given if isinstance(value, torch.dtype)]
        return args[0].to(types_given[0]) if types_given else args[0]


def _is_device(value: object) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    return number or isinstance(value, (str, torch.device))

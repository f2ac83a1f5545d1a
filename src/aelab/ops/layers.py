"""The innermost layers of a module."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized


def leaves(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules without children, in their order.

    A layer whose weight is computed by a parametrisation (`spectral_norm`) is one of them; what
    computes the weight is none.
    """
    inside = {
        part
        for module in model.modules()
        if isinstance(module, ParametrizationList)
        for part in module.modules()
    }
    return [
        (name, module)
        for name, module in model.named_modules()
        if module not in inside and _is_innermost(module)
    ]


def _is_innermost(module: nn.Module) -> bool:
    children = {name for name, _ in module.named_children()}
    return not (children - {"parametrizations"} if is_parametrized(module) else children)

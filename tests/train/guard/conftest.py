"""Faults that are put into one layer of a model: NaN, infinity, or a slow explosion."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.ops.layers import leaves as innermost


class _Backward(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(value: Tensor, fault: Fault) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Fault], output: Tensor) -> None:
        """Apart from `forward`, as `torch.func` wants it."""
        ctx.fault, ctx.factor = inputs[1], inputs[1].factor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.fault.has_spoiled = True
        return gradients[0] * ctx.factor, None


def mapped(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same with each floating-point tensor replaced, in tuples and named tuples too."""
    if isinstance(values, Tensor):
        return function(values) if values.is_floating_point() else values
    if isinstance(values, tuple):
        items = [mapped(value, function) for value in values]
        return type(values)(*items) if hasattr(values, "_fields") else tuple(items)
    return values


class Fault:
    """A hook that spoils what a layer gives, or its gradient, while `is_on` says so.

    Args:
        layer: of a model.
        factor: by which numbers are multiplied: nan, inf, or a large one.
        backward: gradients are spoiled, in training.
        training: in which mode outputs are.

    Attributes:
        has_spoiled: whether any number was; a layer of fixed codes has no gradient, for instance.
    """

    has_spoiled = False

    def __init__(
        self,
        layer: nn.Module,
        factor: float,
        is_on: Callable[[], bool],
        *,
        backward: bool = False,
        training: bool = True,
    ) -> None:
        self.factor, self.is_on, self.backward, self.training = factor, is_on, backward, training
        self.hook = layer.register_forward_hook(self)

    def __call__(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        if layer.training != self.training or not self.is_on():
            return output
        if self.backward:
            return mapped(output, lambda value: _Backward.apply(value, self))
        self.has_spoiled = True
        return mapped(output, lambda value: value * self.factor)

    def __deepcopy__(self, memo: Any) -> Fault:
        return self  # a copied model has the same fault


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model that hold no other layer."""
    return {
        name: module
        for name, module in innermost(model)
        if name and not isinstance(module, nn.Identity)
    }


@pytest.fixture
def tiny(tiny: SimpleNamespace) -> SimpleNamespace:
    """The tiny training, with faults that can be put into it."""
    tiny.Fault, tiny.leaves = Fault, leaves
    return tiny

"""Values whose gradient goes another way than the value was computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradient_through(value: Tensor, nodes: Sequence[Tensor]) -> list[Tensor] | None:
    """The gradients of the summed `value` at tensors it was computed from, each as a constant.

    Returns:
        None where it was not computed from one of them.
    """
    if not value.requires_grad or not all(node.requires_grad for node in nodes):
        return None
    found = torch.autograd.grad(value.sum(), list(nodes), retain_graph=True, allow_unused=True)
    return None if any(each is None for each in found) else list(found)


def with_more_gradient(value: Tensor, nodes: Sequence[Tensor], more: Sequence[Tensor]) -> Tensor:
    """The same values (B,), with `more` added to their gradient at the nodes, (B, ...) each."""
    for node, gradient in zip(nodes, more, strict=True):
        linear = (gradient * node).flatten(1).sum(1)
        value = value + (linear - linear.detach())
    return value

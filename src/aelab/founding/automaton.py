"""`TotalCALayer` of old files: a cellular automaton as a layer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError

#: Steepness of the step from dead to alive, so that it has a gradient; the original's.
_STEEP = 1000.0


class TotalCALayer(nn.Module):
    """A cellular automaton on each channel; the next state depends on the number of neighbours.

    A value above the threshold is alive. The state after a step is `birth[n]` of a dead cell with n
    living neighbours among eight, and `survive[n]` of a living one.

    Args:
        birth, survive: nine values for 0 to 8 neighbours; None: drawn at random, 0 or 1.
        iterations: steps.
        learn_kernel: whether the weights of the neighbours learn; the number of neighbours has no
            gradient, so they stay.
        learn_rules: whether `birth` and `survive` learn.
        wrap: whether the edges are joined; else there is nothing beyond them.
        threshold: from which a cell is alive.
        alpha: share of the result; the rest is the input.

    Raises:
        ConfigError: a rule of another length.
    """

    def __init__(
        self,
        birth: Iterable[float] | None = None,
        survive: Iterable[float] | None = None,
        iterations: int = 1,
        learn_kernel: bool = False,
        learn_rules: bool = False,
        wrap: bool = False,
        threshold: float = 0.5,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.birth = nn.Parameter(_rule("birth", birth), requires_grad=learn_rules)
        self.survive = nn.Parameter(_rule("survive", survive), requires_grad=learn_rules)
        around = torch.ones(1, 1, 3, 3)
        around[..., 1, 1] = 0
        self.kernel = nn.Parameter(around, requires_grad=learn_kernel)
        self.iterations, self.wrap, self.threshold = iterations, wrap, threshold
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """(..., C, H, W) -> the same shape."""
        y = x.reshape(-1, 1, *x.shape[-2:])
        for _ in range(self.iterations):
            y = self._step(y)
        return torch.lerp(x, y.reshape(x.shape), self.alpha)

    def _step(self, x: Tensor) -> Tensor:
        alive = torch.sigmoid(_STEEP * (x - self.threshold))
        padded = F.pad(alive, (1, 1, 1, 1), mode="circular" if self.wrap else "constant")
        neighbours = F.conv2d(padded, self.kernel).long().clamp(0, 8)
        return self.birth[neighbours] * (1 - alive) + self.survive[neighbours] * alive


def _rule(name: str, given: Iterable[float] | None) -> Tensor:
    if given is None:
        return torch.rand(9).bernoulli()
    values = torch.tensor([float(value) for value in given])
    if len(values) != 9:
        raise ConfigError(f"TotalCALayer: {name} needs 9 values, one for each of 0 to 8 neighbours")
    return values

"""Two activations of old files that make smooth steps, by names such as `sigmoidstep2,5`."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.activations import Activation, make_activation

_NAME = re.compile(r"(sinstep|sigmoidstep)([\d.]+)(.*)")
#: Width of one sigmoid step in its own units, and where the first begins; the original's.
_WIDTH, _START = 25.0, 8.0


class SinStep(nn.Module):
    """x + sin(2 pi f (x + 1 / (2 f))) / (2 pi f): steps of width 1 / f, nowhere falling.

    Args:
        factor: f, steps per unit.
        before: an activation of x before that, or None.
    """

    def __init__(self, factor: float, before: Activation = None) -> None:
        super().__init__()
        self.factor = factor
        self.before = make_activation(before)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        x = x if self.before is None else self.before(x)
        turn = 2 * math.pi * self.factor
        return x + torch.sin((x + 0.5 / self.factor) * turn) / turn


class SigmoidStep(nn.Module):
    """A staircase of sigmoids with steps of height and width 1 / factor.

    Its slope is 0 almost everywhere, so that training easily stands still.

    Args:
        factor: steps per unit.
        steepness: how much narrower each rise is than its step.
    """

    def __init__(self, factor: float, steepness: float = 1.0) -> None:
        super().__init__()
        self.factor, self.width = factor, _WIDTH * steepness

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        y = x * (self.factor * self.width) + _START
        rise = torch.sigmoid(y.remainder(self.width) - self.width / 2)
        return (rise + torch.floor(y / self.width)) / self.factor


def step_activation(activation: Activation) -> nn.Module | None:
    """`make_activation`, also with the names `sinstep2`, `sinstep2relu` and `sigmoidstep2,5`.

    Raises:
        ConfigError: unknown name, or a factor that is no number above 0.
    """
    found = _NAME.fullmatch(activation.lower()) if isinstance(activation, str) else None
    if found is None:
        return make_activation(activation)
    name, factor, rest = found.groups()
    if name == "sinstep":
        return SinStep(_number(factor, activation), rest or None)
    return SigmoidStep(_number(factor, activation), _number(rest[1:] or "1", activation))


def _number(text: str, activation: Activation) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(
            f"activation {activation!r}: {text!r} must be a number above 0",
            hint="for instance sinstep2, sigmoidstep2 or sigmoidstep2,5",
        )
    return value

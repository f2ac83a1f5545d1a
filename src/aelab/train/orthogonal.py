"""Muon for parameters of two or more axes, such as weights of linear layers and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

#: (a, b, c) of p(s) = a s + b s^3 + c s^5, chosen for its slope at 0 (Jordan 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(
    matrix: Tensor,
    num_steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = 1e-7,
) -> Tensor:
    """The matrix with its singular values moved near 1, by the quintic Newton-Schulz iteration.

    With U S V^T the singular value decomposition of `matrix` divided by its Frobenius norm, the
    result is U p(p(...p(S))) V^T with p(s) = a s + b s^3 + c s^5. The coefficients raise small
    values fast and do not converge to 1: values above 0.01 end between 0.68 and 1.14 after five
    steps.

    Args:
        matrix: (M, N), float32.
        num_steps: how often p is applied.
        coefficients: a, b, c.
        eps: smallest norm to divide by; a matrix of zeros stays one.

    Returns:
        (M, N), float32.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # (R, S) with R <= S, so that the Gram matrix is the small one
    x = x / x.norm().clamp(min=eps)
    for _ in range(num_steps):
        gram = x @ x.T  # (R, R)
        # a x + (b gram + c gram^2) x, in two fused products instead of five operations.
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonOfViews(torch.optim.Optimizer):
    """`torch.optim.Muon` for parameters of any shape, viewed as matrices (first axis, the rest).

    A convolution's weight (out, in, height, width) is the matrix that maps a patch to a pixel; that
    of a transposed one (in, out, height, width) maps a pixel to a patch. Arguments and order of
    operations are those of torch, but the update is computed in float32. torch's bfloat16 took 45
    times as long on a CPU without bfloat16 units, more than forward and backward pass together.

    Args:
        lr, weight_decay, momentum, nesterov: as in `torch.optim.Muon`.
        ns_coefficients, eps, ns_steps: of `orthogonalize`.
        adjust_lr_fn: `original` multiplies the update by sqrt(max(1, M / N)), `match_rms_adamw`
            by 0.2 sqrt(max(M, N)), the usual size of AdamW's updates.

    Raises:
        ValueError: an argument out of its range.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/; `match_rms_adamw`: Liu et al.
    2025, arXiv:2502.16982, equation 4.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value}; it must be 0 or more")
        if not 0 <= ns_steps < 100:
            raise ValueError(f"ns_steps is {ns_steps}; it must be 0 to 99")
        if len(ns_coefficients) != 3:
            raise ValueError(f"ns_coefficients has {len(ns_coefficients)} numbers; it needs 3")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"adjust_lr_fn is {adjust_lr_fn}; possible: original, match_rms_adamw")
        defaults: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, slots = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in slots:
            slots["momentum_buffer"] = torch.zeros_like(parameter)
        average, momentum = slots["momentum_buffer"], group["momentum"]
        average.lerp_(gradient, 1 - momentum)
        update = gradient.lerp(average, momentum) if group["nesterov"] else average
        matrix = update.reshape(len(update), -1)  # (first axis, product of the others)
        moved = orthogonalize(
            matrix.float(), group["ns_steps"], tuple(group["ns_coefficients"]), group["eps"]
        )
        size = group["lr"] * update_scale(group["adjust_lr_fn"], *matrix.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])  # decoupled, as in AdamW
        parameter.add_(moved.reshape(parameter.shape).to(parameter.dtype), alpha=-size)


def update_scale(adjust_lr_fn: str | None, num_rows: int, num_columns: int) -> float:
    """The factor of an orthogonal update of this shape, besides the learning rate."""
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(num_rows, num_columns))
    return math.sqrt(max(1.0, num_rows / num_columns))

"""Optimisers by name: all of torch.optim, and Muon with AdamW for non-matrix parameters."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, Where
from aelab.parts import Table
from aelab.settings import Choice
from aelab.train.arguments import argument_errors, checked
from aelab.train.orthogonal import MuonOfViews

#: Usual learning rates; of the optimisers of the Adam family 0.001.
_USUAL = {"SGD": 0.01, "ASGD": 0.01, "Adagrad": 0.01, "Adadelta": 1.0, "Rprop": 0.01, "Muon": 0.01}


def usual_learnrate(name: str) -> float:
    """A usual initial learning rate of an optimiser: torch's default, or near it."""
    return _USUAL.get(name, 1e-3)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on every 2-D weight and AdamW on the rest, combined into one optimiser.

    Biases and norms go to AdamW, and so do convolutions unless `convolutions` is set. Matrices are
    updated by `MuonOfViews`, in float32: `torch.optim.Muon` computes in bfloat16, which takes many
    times as long on a CPU without bfloat16 units.

    Args:
        lr: for both; Muon's updates are scaled to AdamW's size (`match_rms_adamw`).
        betas, eps: of AdamW.
        weight_decay: for both.
        convolutions: whether Muon also updates weights of more than two axes.
        adamw_factor: AdamW's learning rate is `lr` times this.
        muon: further keyword arguments of `MuonOfViews`, which are those of `torch.optim.Muon`.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/; scaling: Liu et al. 2025,
    arXiv:2502.16982.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        convolutions: bool = False,
        adamw_factor: float = 1.0,
        **muon: Any,
    ) -> None:
        parameters = list(params)
        matrices = [p for p in parameters if p.ndim == 2]
        views = [p for p in parameters if p.ndim > 2 and convolutions]
        others = [p for p in parameters if p.ndim < 2 or (p.ndim > 2 and not convolutions)]
        muon = {"adjust_lr_fn": "match_rms_adamw", **muon}
        self._parts: list[torch.optim.Optimizer] = []
        # Two groups, because the stored state of older runs has them.
        for group in filter(None, (matrices, views)):
            self._parts.append(MuonOfViews(group, lr=lr, weight_decay=weight_decay, **muon))
        if others:
            self._parts.append(
                torch.optim.AdamW(
                    others,
                    lr=lr * adamw_factor,
                    weight_decay=weight_decay,
                    betas=betas,
                    eps=eps,
                    fused=True,
                )
            )
        super().__init__([group for part in self._parts for group in part.param_groups], {"lr": lr})
        self._share()

    def _share(self) -> None:
        """Makes the parts use this object's groups and state, so that all see one optimiser."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups = [group]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters."""
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state, then shares it with the parts."""
        super().load_state_dict(state_dict)
        self._share()


def _all_of_torch() -> dict[str, type[torch.optim.Optimizer]]:
    found = {}
    for name in dir(torch.optim):
        part = getattr(torch.optim, name)
        if inspect.isclass(part) and issubclass(part, torch.optim.Optimizer):
            found[name] = part
    # LBFGS needs a closure that evaluates the loss again, SparseAdam sparse gradients.
    return {n: p for n, p in found.items() if n not in ("Optimizer", "LBFGS", "SparseAdam")}


#: Every optimiser a file may name.
OPTIMIZERS: Table[type[torch.optim.Optimizer]] = Table(
    "optimizer", "aelab.optimizers", {**_all_of_torch(), "Muon": MuonWithAdamW}
)


def make_optimizer(model: nn.Module, choice: Choice, learnrate: float) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters; the fused variant where torch has it.

    With fused Adam a whole training step on a CPU is 1.14 to 1.19 times as fast as by default.

    Raises:
        ConfigError: unknown name or argument, or nothing to train.
    """
    part = OPTIMIZERS.find(choice.name)
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError("the model has no trainable parameter")
    arguments = _checked(choice, part)
    if _fusible(part, arguments, parameters):
        try:
            return part(parameters, lr=learnrate, fused=True, **arguments)  # type: ignore[call-arg]
        except (RuntimeError, ValueError):
            pass  # no fused variant on this device; a real error is raised again below
    with optimizer_errors(choice):
        return part(parameters, lr=learnrate, **arguments)  # type: ignore[call-arg]


def optimizer_errors(choice: Choice) -> contextlib.AbstractContextManager[None]:
    """Context manager: turns any error of an optimiser about its arguments into a ConfigError."""
    theirs = f"torch.optim.{choice.name}"
    return argument_errors("optimizer", choice.name, choice.arguments, theirs)


def _fusible(
    part: type[torch.optim.Optimizer], arguments: Mapping[str, Any], parameters: list[Tensor]
) -> bool:
    known = inspect.signature(part).parameters
    if "fused" not in known or {"fused", "foreach", "differentiable"} & set(arguments):
        return False
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


def _checked(choice: Choice, part: type[torch.optim.Optimizer]) -> dict[str, Any]:
    """The arguments, checked against the signature."""
    if "lr" in choice.arguments:
        raise ConfigError(
            f"optimizer {choice.name}: lr is given by the key learnrate", where=Where(key="lr")
        )
    parts = (MuonOfViews, part) if part is MuonWithAdamW else (part,)
    arguments = checked("optimizer", choice.name, parts, choice.arguments, ("params", "lr", "muon"))
    for name, reason in _POINTLESS.items():
        if arguments.get(name):
            message = f"optimizer {choice.name}: {name} {reason}"
            raise ConfigError(message, hint="leave it out", where=Where(key=name))
    return arguments


#: Arguments of torch's optimisers that need another kind of loop.
_POINTLESS = {
    "differentiable": "has no effect here: no gradient is taken through the optimiser's own steps",
    "capturable": "has no effect here: steps are not captured as a CUDA graph",
    "maximize": "makes the loss larger with every step",
}

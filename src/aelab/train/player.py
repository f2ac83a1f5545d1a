"""A player: a network with its optimiser and schedule. One step of training changes them.

A run has at least one, its model; an adversarial objective brings more. Each follows the gradient
of its own loss, and each is logged, stored and restored.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.settings import Choice, FitSettings
from aelab.train.guard.mending import UNCHANGED, StateChange
from aelab.train.optimizers import make_optimizer
from aelab.train.schedules import Schedule, make_schedule


class PlayerSnapshot(NamedTuple):
    """The state of one player, on the device.

    Attributes:
        tensors: parameters and buffers of its network.
        gradients: accumulated gradients of the parameters, or None.
        optimizer, schedule: their states.
    """

    tensors: list[Tensor]
    gradients: list[Tensor | None]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]


@dataclass
class Player:
    """A network that learns, with everything that its step needs.

    Attributes:
        model, optimizer, schedule: the network and what changes it.
        device: where the network is.
        change: differences from the settings after a failure; the loop sets it before each batch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    device: torch.device
    change: StateChange = UNCHANGED

    @property
    def learnrate(self) -> float:
        """The learning rate of the first parameter group, at the latest batch."""
        return float(self.optimizer.param_groups[0]["lr"]) * self.change.factor

    def step(self, settings: FitSettings, scale: float | None) -> None:
        """Clips gradients and steps the optimiser; the gradients stay.

        Args:
            scale: factor of accumulated gradients; None: 1.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if scale is not None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            if gradients:  # a critic that starts later has none
                torch._foreach_mul_(gradients, scale)
        clipping = settings.gradient_clipping
        if clipping is not None and clipping.value is not None:
            # Single values first, then the norm of what is left.
            nn.utils.clip_grad_value_(parameters, clipping.value)
        if clipping is not None and clipping.norm is not None:
            nn.utils.clip_grad_norm_(parameters, clipping.norm)
        if self.change.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.change.clip)
        self._step()

    def _step(self) -> None:
        """Makes the optimiser's step, at a lower learning rate after a failure (`change.factor`).

        The groups keep the schedule's rate, from which torch's schedulers compute the next one.
        """
        factor = self.change.factor
        if factor == 1.0:
            self.optimizer.step()
            return
        scheduled = [group["lr"] for group in self.optimizer.param_groups]
        for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate

    def slots(self) -> list[tuple[str, Tensor]]:
        """The optimiser's state of each weight, such as averages of its gradients."""
        names = self._trained_names()
        return [
            (f"{key} of {names[parameter]}", value)
            for parameter, slots in self.optimizer.state.items()
            for key, value in slots.items()
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
        ]

    def kept(self) -> PlayerSnapshot:
        """A copy of network and optimiser state, in device memory."""
        return PlayerSnapshot(
            tensors=[t.detach().clone() for t in (*self.model.parameters(), *self.model.buffers())],
            gradients=[copied(p.grad) for p in self.model.parameters()],
            optimizer=copied(self.optimizer.state_dict()),
            schedule=copy.deepcopy(self.schedule.state_dict()),
        )

    @torch.no_grad()
    def take_back(self, kept: PlayerSnapshot) -> None:
        """Restores a copy in place: the weights stay the same tensor objects."""
        held = (*self.model.parameters(), *self.model.buffers())
        for tensor, value in zip(held, kept.tensors, strict=True):
            tensor.copy_(value)
        for parameter, gradient in zip(self.model.parameters(), kept.gradients, strict=True):
            parameter.grad = copied(gradient)
        self.optimizer.load_state_dict(copied(kept.optimizer))
        self.schedule.load_state_dict(copy.deepcopy(kept.schedule))

    def stored_learning(self, *, gradients: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The states of optimiser and schedule, and the gradients: tensors, and plain numbers."""
        names = self._trained_names()
        tensors: dict[str, Tensor] = {}
        if gradients:
            tensors |= {f"gradient.{names[p]}": p.grad for p in names if p.grad is not None}
        scalars: dict[str, dict[str, Any]] = {}
        for parameter, slots in self.optimizer.state.items():
            for key, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{names[parameter]}/{key}"] = value
                else:
                    scalars.setdefault(names[parameter], {})[key] = value
        # Plain numbers go to JSON: readable, and no code runs when it is loaded.
        numbers: dict[str, Any] = {"optimizer_scalars": scalars}
        numbers["optimizer_groups"] = [
            {key: value for key, value in group.items() if key not in ("params", "param_names")}
            for group in self.optimizer.param_groups
        ]
        numbers["schedule"] = self.schedule.state_dict()
        return tensors, numbers

    def load_learning(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """The inverse of `stored_learning`."""
        names = self._trained_names()
        saved = self.optimizer.state_dict()
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Any]] = {}
        for position, parameter in enumerate(order):
            prefix = f"optimizer.{names[parameter]}/"
            found = {
                name.removeprefix(prefix): _laid_out_like(parameter, tensor)
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            found |= numbers["optimizer_scalars"].get(names[parameter], {})
            if found:
                slots[position] = found
        for group, stored in zip(saved["param_groups"], numbers["optimizer_groups"], strict=True):
            group |= {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        self.optimizer.load_state_dict({"state": slots, "param_groups": saved["param_groups"]})
        self.schedule.load_state_dict(numbers["schedule"])
        for parameter, name in names.items():
            gradient = tensors.get(f"gradient.{name}")
            parameter.grad = None if gradient is None else _laid_out_like(parameter, gradient)

    def _trained_names(self) -> dict[Tensor, str]:
        return {p: name for name, p in self.model.named_parameters() if p.requires_grad}


@dataclass
class Opponent(Player):
    """A further player of a run, such as a critic.

    Attributes:
        name: of its term.
    """

    name: str = ""

    def stored(self, *, gradients: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything needed to continue, with tensors by names such as `model.network.0.weight`."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        more, numbers = self.stored_learning(gradients=gradients)
        return tensors | more, numbers

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """The inverse of `stored`.

        Raises:
            StoreError: tensors that do not fit.
        """
        load_weights(self.model, tensors)
        self.load_learning(tensors, numbers)


def settings_of_player(learning: Any, settings: FitSettings) -> FitSettings:
    """The settings of a run with the optimiser, learning rate and schedule of one player.

    Args:
        learning: has `optimizer`, `learnrate` and `scheduler`; None of the latter two: the run's.
    """
    optimizer: Choice = learning.optimizer
    return replace(
        settings,
        optimizer=optimizer,
        learnrate=learning.learnrate or settings.learnrate,
        scheduler=learning.scheduler or settings.scheduler,
    )


def optimizer_and_schedule(
    network: nn.Module, settings: FitSettings
) -> tuple[torch.optim.Optimizer, Schedule]:
    """Both for a network, by the settings.

    Raises:
        ConfigError: one that does not exist or does not fit.
    """
    optimizer = make_optimizer(network, settings.optimizer, settings.learnrate)
    schedule = make_schedule(
        optimizer,
        settings.scheduler,
        max_images=settings.max_images,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
    )
    return optimizer, schedule


def make_opponents(
    objective: Any, model: nn.Module, settings: FitSettings, device: torch.device
) -> list[Opponent]:
    """The players that an objective brings, with new networks.

    Args:
        objective: None, or one whose `players` are networks with `learning`, and which makes them
            by `meet(model, seed)`.
        model: on its device.

    Raises:
        ConfigError: a player's optimiser or schedule is wrong, or the images are not known yet.
    """
    players: Mapping[str, nn.Module] = getattr(objective, "players", {})
    if not players:
        return []
    objective.meet(model, settings.seed)
    made = []
    for name, network in players.items():
        own = settings_of_player(network.learning, settings)
        optimizer, schedule = optimizer_and_schedule(network.to(device), own)
        made.append(Opponent(network, optimizer, schedule, device, name=name))
    return made


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "model.") -> None:
    """Copies stored weights and buffers into a model; its memory layout stays.

    Raises:
        StoreError: names or shapes differ.
    """
    refuse_other_shapes(model, {name: tuple(tensor.shape) for name, tensor in tensors.items()},
                        prefix=prefix)  # fmt: skip
    model.load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )


def refuse_other_shapes(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    prefix: str = "model.",
    hint: str = "it was written by another model; start again with --restart",
) -> None:
    """Compares stored names and shapes with those of a model, which may be on the meta device.

    Raises:
        StoreError: names or shapes differ.
    """
    wanted = model.state_dict()
    given = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    for name in sorted(wanted.keys() ^ given.keys()):
        side = "has no" if name in wanted else "has an unknown"
        raise StoreError(f"the checkpoint {side} tensor '{name}'", hint=hint)
    for name, shape in given.items():
        if shape != tuple(wanted[name].shape):
            raise StoreError(
                f"'{name}' is {shape} in the checkpoint, {tuple(wanted[name].shape)} in the model",
                hint=hint,
            )


def _laid_out_like(parameter: Tensor, stored: Tensor) -> Tensor:
    """`stored` in the memory layout of its parameter, which fused optimisers require."""
    if stored.shape != parameter.shape:
        # For instance the step counter of Adam, a scalar.
        return stored.clone()
    return torch.empty_like(parameter, dtype=stored.dtype).copy_(stored)


def copied(value: Any) -> Any:
    """A copy of nested dictionaries, lists and tuples in which every tensor is cloned."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value

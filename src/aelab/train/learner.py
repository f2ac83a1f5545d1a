"""What learns: a model with its optimiser, its schedule, its averaged weights, and where it lives.

What is stored of it is flat tensors (safetensors) and plain numbers (JSON); nothing is pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.settings import FitSettings
from aelab.train.coming_in import refuse_no_model
from aelab.train.finite import floating_buffers, non_finite_names
from aelab.train.machine import choose_bfloat16, choose_threads
from aelab.train.optimizers import make_optimizer
from aelab.train.schedules import Schedule, make_schedule

#: Marks the plain values of a learner that a checkpoint holds, by the names of their fields.
_STORED = {"stored": True}
#: What those are taken to be where a checkpoint of an earlier version lacks them.
_EARLIER: dict[str, Any] = {"ema_since": {}, "ema_warms_up": False}


@dataclass
class SoloLearner:
    """One model that learns.

    Attributes:
        model, optimizer, schedule: what learns, and how.
        device: where the model is.
        ema: a copy of the model with averaged weights, or None.
        unwatched: buffers that are infinite by design, such as masks.
        channels_last: whether 4D tensors are kept in NHWC order in memory.
        bfloat16: whether the model computes under autocast.
        threads: CPU threads; the same number is needed to continue bit for bit.
        ema_since: of a model that grows, the step from which each of its weights is averaged.
        ema_warms_up: whether its decay rises to that of the settings; not in earlier versions.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    device: torch.device
    ema: nn.Module | None = None
    unwatched: frozenset[str] = frozenset()
    channels_last: bool = field(default=False, metadata=_STORED)
    bfloat16: bool = field(default=False, metadata=_STORED)
    threads: int = field(default=1, metadata=_STORED)
    ema_since: dict[str, int] = field(default_factory=dict, metadata=_STORED)
    ema_warms_up: bool = field(default=True, metadata=_STORED)

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged weights where there are any, else the model."""
        return self.model if self.ema is None else self.ema

    @property
    def learnrate(self) -> float:
        """Of the first parameter group, at the latest batch."""
        return float(self.optimizer.param_groups[0]["lr"])

    def stored(self, *, gradients: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that continuing needs.

        Args:
            gradients: whether some wait for the optimiser's next step.

        Returns:
            tensors: copies on the CPU by flat names `model.*`, `ema.*`, `gradient.*`,
                `optimizer.<parameter>/<key>`.
            numbers: JSON-able.
        """
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema.{name}": t for name, t in self.ema.state_dict().items()}
        names = self._trained_names()
        if gradients:
            tensors |= {f"gradient.{names[p]}": p.grad for p in names if p.grad is not None}
        scalars: dict[str, dict[str, Any]] = {}
        for parameter, slots in self.optimizer.state.items():
            for key, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{names[parameter]}/{key}"] = value
                else:
                    scalars.setdefault(names[parameter], {})[key] = value
        numbers: dict[str, Any] = {"device": self.device.type}
        numbers |= {name: copy.copy(getattr(self, name)) for name in _stored_names()}
        numbers["optimizer_scalars"] = scalars
        numbers["optimizer_groups"] = [
            {key: value for key, value in group.items() if key not in ("params", "param_names")}
            for group in self.optimizer.param_groups
        ]
        numbers["schedule"] = self.schedule.state_dict()
        return {name: copy_on_cpu(tensor) for name, tensor in tensors.items()}, numbers

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Put what was stored into a learner made with the same model and settings.

        Raises:
            StoreError: tensors that do not fit the model.
        """
        self._use_layout(numbers["channels_last"])
        load_weights(self.model, tensors)
        if self.ema is not None:
            load_weights(self.ema, tensors, prefix="ema.")
        own_precision = self.bfloat16
        numbers = {**_EARLIER, **numbers}
        for name in _stored_names():
            setattr(self, name, copy.copy(numbers[name]))
        if numbers["device"] != self.device.type:
            self.bfloat16 = own_precision  # what pays there need not pay here
        self._load_optimizer(tensors, numbers)
        self.schedule.load_state_dict(numbers["schedule"])
        for parameter, name in self._trained_names().items():
            stored = tensors.get(f"gradient.{name}")
            parameter.grad = None if stored is None else _laid_out_like(parameter, stored)

    def _use_layout(self, channels_last: bool) -> None:
        """The memory layout that the run began with: another one changes the last bits."""
        if self.channels_last != channels_last:
            layout = torch.channels_last if channels_last else torch.contiguous_format
            for model in (self.model, self.ema):
                if model is not None:
                    model.to(memory_format=layout)  # type: ignore[call-overload]

    def _load_optimizer(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
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

    def _trained_names(self) -> dict[Tensor, str]:
        return {p: name for name, p in self.model.named_parameters() if p.requires_grad}


def make_learner(
    model: nn.Module, settings: FitSettings, device: torch.device | str = "cpu"
) -> SoloLearner:
    """A learner before its first batch; moves `model` to the device and into its layout.

    Raises:
        ConfigError: an optimiser or scheduler that does not exist or does not fit.
    """
    refuse_no_model(model)
    place = torch.device(device)
    layout = (
        _wants_channels_last(model)
        if settings.channels_last is None
        else bool(settings.channels_last)
    )
    model.to(place)
    if layout:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, settings.optimizer, settings.learnrate)
    return SoloLearner(
        model=model,
        optimizer=optimizer,
        schedule=make_schedule(
            optimizer,
            settings.scheduler,
            max_images=settings.max_images,
            batch_size=settings.batch_size,
            max_epochs=settings.max_epochs,
        ),
        device=place,
        ema=_averaged_copy(model) if settings.ema_decay is not None else None,
        unwatched=frozenset(non_finite_names(floating_buffers(model))),
        channels_last=layout,
        bfloat16=choose_bfloat16(settings.precision, place),
        threads=settings.threads or choose_threads(),
    )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "model.") -> None:
    """Copy stored weights and buffers into a model; its memory layout stays.

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
    """Compares stored weights and buffers with a model, which may lie on the meta device.

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
    """`stored` in the memory layout of its parameter: fused kernels walk both side by side."""
    if stored.shape != parameter.shape:
        return stored.clone()
    return torch.empty_like(parameter, dtype=stored.dtype).copy_(stored)


def copy_on_cpu(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: training may go on while it is written."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.data_ptr() == tensor.data_ptr() else plain


def _stored_names() -> list[str]:
    return [field.name for field in fields(SoloLearner) if field.metadata.get("stored")]


def _averaged_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False)


def _wants_channels_last(model: nn.Module) -> bool:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return any(isinstance(module, kinds) for module in model.modules())

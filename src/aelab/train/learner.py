"""A learner: a model with its optimiser, schedule, averaged weights, device and memory layout.

It is stored as flat tensors (safetensors) and plain numbers (JSON); nothing is pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.settings import FitSettings
from aelab.train.clock import Clock
from aelab.train.clocked_modules import find_clocked
from aelab.train.forward import Batch, Losses, Task, forward, sums_of, without_gradient
from aelab.train.guard.coming_in import refuse_no_model
from aelab.train.guard.finite import floating_buffers, non_finite_names
from aelab.train.guard.mending import UNCHANGED, StateChange
from aelab.train.machine import choose_bfloat16, choose_threads, has_bfloat16_units
from aelab.train.optimizers import make_optimizer
from aelab.train.schedules import Schedule, make_schedule

#: Marks the fields of a learner that a checkpoint stores as plain values, under their names.
_STORED = {"stored": True}
#: Their values for checkpoints of earlier versions, which lack them.
_EARLIER: dict[str, Any] = {
    "ema_since": {},
    "ema_warms_up": False,
    "validation_batch": 0,
    "micro_batch": None,
}


class Learner(Protocol):
    """K runs that learn together, each from its own batches; usually K = 1."""

    @property
    def members(self) -> Sequence[SoloLearner]:
        """One learner for each run."""

    def update(
        self, tasks: Sequence[Task], batches: Sequence[Batch], clock: Clock, *, apply: bool
    ) -> Losses:
        """Forward pass, backward pass, and the optimiser's step. Does not change the clock.

        Args:
            tasks, batches: one for each run; batches have the same size.
            clock: before the batch.
            apply: whether the optimiser steps now; else gradients accumulate.

        Returns:
            (K, 1 + T) sums over the images.
        """

    def finite(self) -> Tensor:
        """(K,) bool on the device: whether every weight and watched buffer of a run is finite.

        False also for numbers so large that their norm is infinite.
        """

    def snapshot(self) -> Any:
        """A copy of the learner's state on the device; `restore` accepts it any number of times."""

    def restore(self, snapshot: Any) -> None:
        """Restores a snapshot: the next updates are bit-identical to those after it."""

    def retire(self, run: int) -> None:
        """Ends a run; the numbers of the others do not change."""


class Snapshot(NamedTuple):
    """The state of one model and its optimiser, on the device.

    Attributes:
        tensors: parameters and buffers of the model, then of the averaged one.
        gradients: accumulated gradients of the parameters, or None.
        optimizer, schedule: their states.
        plain: the stored values of the learner.
    """

    tensors: list[Tensor]
    gradients: list[Tensor | None]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    plain: dict[str, Any]


@dataclass
class SoloLearner:
    """The learner of one run (K = 1).

    Attributes:
        model, optimizer, schedule: the parts that an update uses.
        device: where the model is.
        ema: a copy of the model with averaged weights, or None.
        unwatched: buffers that are infinite by design, such as masks.
        channels_last: whether 4D tensors are kept in NHWC order in memory.
        bfloat16: whether the model computes under autocast.
        threads: CPU threads; the same number is needed to continue bit for bit.
        ema_since: for a model that grows: weight name -> step of its first gradient.
        ema_warms_up: whether the EMA decay rises to its final value; False in earlier versions.
        micro_batch: images computed at once after memory did not suffice for more; else None.
        is_stepping: whether an optimiser step is in progress.
        change: differences from the settings after a failure; the loop sets it before each batch.
        validation_batch: batch size of validations if the settings do not set it; None: not chosen
            yet; 0: as in training, as in earlier versions.
        precision_open: whether `bfloat16` is still to be chosen by timing a step of each.
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
    validation_batch: int | None = field(default=None, metadata=_STORED)
    precision_open: bool = False
    micro_batch: int | None = field(default=None, metadata=_STORED)
    change: StateChange = UNCHANGED
    is_stepping: bool = False

    @property
    def evaluated_model(self) -> nn.Module:
        """The model with averaged weights if there is one, else the model itself."""
        return self.model if self.ema is None else self.ema

    @property
    def learnrate(self) -> float:
        """The learning rate of the first parameter group, at the latest batch."""
        return float(self.optimizer.param_groups[0]["lr"]) * self.change.factor

    @property
    def members(self) -> Sequence[SoloLearner]:
        """The learner itself, as the only member."""
        return (self,)

    def update(
        self, tasks: Sequence[Task], batches: Sequence[Batch], clock: Clock, *, apply: bool
    ) -> Losses:
        """One batch; with `micro_batch_size` computed in parts, to need less memory."""
        (task,), (given,) = tasks, batches
        batch = Batch(*given)
        size, losses = len(batch.inputs), None
        for part in micro_batches(size, task.settings, self.micro_batch):
            _, values, total = forward(
                self.model,
                task.objective,
                *batch.part(part),
                images_seen=clock.images,
                bfloat16=self.bfloat16,
            )
            if not total.requires_grad:
                raise without_gradient(self.model, values)
            (total.sum() / divisor(size, task.settings)).backward()  # type: ignore[no-untyped-call]
            # (1, 1 + T): the leading axis is that of the K runs.
            sums = sums_of(values, total)[None]
            losses = Losses(list(values), sums if losses is None else losses.sums + sums)
        assert losses is not None  # a batch has images
        if apply:
            self.apply_gradients(task.settings, clock, size)
        return losses

    def apply_gradients(self, settings: FitSettings, clock: Clock, size: int) -> None:
        """Clips gradients, steps the optimiser, clears gradients, and averages the weights.

        Also calls `model.after_step()` if the model has it.

         Args:
             clock: before the batch.
             size: images of the batch.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        images = clock.accumulated_images + size
        if averages(settings) and images != settings.batch_size:
            # `backward` divided by batch_size (see `divisor`): correct to the mean over all images.
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, settings.batch_size / images)
        clipping = settings.gradient_clipping
        if clipping is not None and clipping.value is not None:
            # Single values first, then the norm of what is left.
            nn.utils.clip_grad_value_(parameters, clipping.value)
        if clipping is not None and clipping.norm is not None:
            nn.utils.clip_grad_norm_(parameters, clipping.norm)
        if self.change.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.change.clip)
        self.is_stepping = True
        self._step()
        self.is_stepping = False
        number = clock.steps + 1  # of this step, from 1
        if self.ema is not None and self.ema_warms_up:
            self._note_late_weights(number)
        # None instead of zeros: it saves a pass over memory, and unused weights get no step at all.
        self.optimizer.zero_grad(set_to_none=True)
        follow = getattr(self.model, "after_step", None)
        if follow is not None:
            follow()
        if self.ema is not None and settings.ema_decay is not None:
            self._average(self.ema, settings.ema_decay, number)

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

    def _note_late_weights(self, number: int) -> None:
        """Records, for a model that grows, the step at which each weight got its first gradient."""
        if not find_clocked(self.model):
            return
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self.ema_since.setdefault(name, number)

    def _average(self, ema: nn.Module, decay: float, number: int) -> None:
        """Updates the averaged weights, each with the decay for its number of trained steps."""
        if not self.ema_since:
            now = warmed_decay(decay, number) if self.ema_warms_up else decay
            _average_weights(ema, self.model, now, first=number == 1)
            return
        by_start: dict[int, set[str]] = {}
        for name, _ in self.model.named_parameters():
            by_start.setdefault(self.ema_since.get(name, 1), set()).add(name)
        # Usually one group; several only while layers are added in training.
        for start, names in by_start.items():
            steps = number - start + 1
            some = names if len(by_start) > 1 else None
            now = warmed_decay(decay, steps)
            _average_weights(ema, self.model, now, first=steps == 1, names=some)

    def watched_buffers(self) -> list[tuple[str, Tensor]]:
        """Names and buffers of the trained model, without those that were infinite at the start."""
        found = floating_buffers(self.model)
        return [(name, buffer) for name, buffer in found if name not in self.unwatched]

    def slots(self) -> list[tuple[str, Tensor]]:
        """The optimiser's state of each weight, such as averages of its gradients."""
        names = self._trained_names()
        return [
            (f"{key} of {names[parameter]}", value)
            for parameter, slots in self.optimizer.state.items()
            for key, value in slots.items()
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
        ]

    def finite(self) -> Tensor:
        """(1,) bool on the device: see `Learner.finite`."""
        held = [p.detach() for p in self.model.parameters()]
        norms = torch._foreach_norm([*held, *(buffer for _, buffer in self.watched_buffers())])
        # A NaN or infinity anywhere makes the sum of norms non-finite: one value, few kernels.
        return torch.stack([norm.float() for norm in norms]).sum().reshape(1).isfinite()

    def snapshot(self) -> Snapshot:
        """A copy of weights, averaged weights and optimiser state, in device memory."""
        return Snapshot(
            tensors=[tensor.detach().clone() for tensor in self._tensors()],
            # Gradients belong to the state while batches are accumulated.
            gradients=[_copied(p.grad) for p in self.model.parameters()],
            optimizer=_copied(self.optimizer.state_dict()),
            schedule=copy.deepcopy(self.schedule.state_dict()),
            plain=self._plain(),
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Restores a snapshot in place: the weights stay the same tensor objects."""
        for tensor, value in zip(self._tensors(), snapshot.tensors, strict=True):
            tensor.copy_(value)
        for parameter, gradient in zip(self.model.parameters(), snapshot.gradients, strict=True):
            parameter.grad = _copied(gradient)
        self.optimizer.load_state_dict(_copied(snapshot.optimizer))
        self.schedule.load_state_dict(copy.deepcopy(snapshot.schedule))
        for name, value in snapshot.plain.items():
            setattr(self, name, copy.copy(value))

    def retire(self, run: int) -> None:
        """Does nothing: the training ends with its only run."""

    def _tensors(self) -> Iterator[Tensor]:
        for model in (self.model, self.ema):
            if model is not None:
                yield from model.parameters()
                yield from model.buffers()

    def _plain(self) -> dict[str, Any]:
        """The plain values that a checkpoint stores, by field name."""
        names = [field.name for field in fields(self) if field.metadata.get("stored")]
        return {name: copy.copy(getattr(self, name)) for name in names}

    def stored(self, *, gradients: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything needed to continue.

        Args:
            gradients: whether to include accumulated gradients.

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
        # Plain numbers go to JSON: readable, and no code runs when it is loaded.
        numbers: dict[str, Any] = {"device": self.device.type}
        numbers |= self._plain()
        numbers["optimizer_scalars"] = scalars
        numbers["optimizer_groups"] = [
            {key: value for key, value in group.items() if key not in ("params", "param_names")}
            for group in self.optimizer.param_groups
        ]
        numbers["schedule"] = self.schedule.state_dict()
        return {name: copy_on_cpu(tensor) for name, tensor in tensors.items()}, numbers

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Loads a stored state into a learner made with the same model and settings.

        Raises:
            StoreError: tensors that do not fit the model.
        """
        self._use_layout(numbers["channels_last"])
        load_weights(self.model, tensors)
        if self.ema is not None:
            load_weights(self.ema, tensors, prefix="ema.")
        own_precision = self.bfloat16
        numbers = {**_EARLIER, **numbers}
        for name in self._plain():
            setattr(self, name, copy.copy(numbers[name]))
        if numbers["device"] != self.device.type:
            # On another kind of device bits differ anyway, and its own precision is faster.
            self.bfloat16 = own_precision
        self.precision_open = False
        self._load_optimizer(tensors, numbers)
        self.schedule.load_state_dict(numbers["schedule"])
        for parameter, name in self._trained_names().items():
            stored = tensors.get(f"gradient.{name}")
            parameter.grad = None if stored is None else _laid_out_like(parameter, stored)

    def _use_layout(self, channels_last: bool) -> None:
        """Uses the memory layout from the start of the run: another one changes the last bits."""
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
        precision_open=settings.precision == "auto"
        and place.type == "cpu"
        and has_bfloat16_units(),
        threads=settings.threads or choose_threads(),
    )


def micro_batches(size: int, settings: FitSettings, limit: int | None = None) -> list[slice]:
    """Slices of at most `micro_batch_size` images, and `limit`, that together cover a batch."""
    at_once = min(settings.micro_batch_size or size, limit or size)
    return [slice(start, start + at_once) for start in range(0, size, at_once)]


def averages(settings: FitSettings) -> bool:
    """Whether accumulated gradients are averaged over images, not summed over batches."""
    return settings.gradient_accumulation > 1 and not settings.sum_gradients


def divisor(size: int, settings: FitSettings) -> int:
    """The divisor of a batch's summed losses before `backward`.

    Accumulated gradients are sums over images divided by `batch_size`, which `apply_gradients`
    corrects to the mean over all images. Without accumulation they are the batch's mean at once.
    """
    return settings.batch_size if averages(settings) else size


def warmed_decay(decay: float, steps: int) -> float:
    """The decay of averaged weights after `steps` steps: min(decay, (1 + steps) / (10 + steps)).

    With a constant decay d the initial weights keep the share d^steps: at 0.999 half after 700
    steps. With the warm-up the average covers about the latest tenth of the steps, and at most
    1 / (1 - d) steps.

    Source: tf.train.ExponentialMovingAverage with `num_updates`; timm's ModelEmaV3 and diffusers'
    EMAModel warm up too.
    """
    return min(decay, (1 + steps) / (10 + steps))


@torch.no_grad()
def _average_weights(
    ema: nn.Module, model: nn.Module, decay: float, *, first: bool, names: set[str] | None = None
) -> None:
    """Sets ema = decay ema + (1 - decay) model; copies at the first step, and buffers always.

    Equal to `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`.

    Args:
        names: names of the weights to average; None: all.
    """
    kept: list[Tensor] = [p for n, p in ema.named_parameters() if names is None or n in names]
    present: list[Tensor] = [p for n, p in model.named_parameters() if names is None or n in names]
    # One fused operation over all weights: a loop would launch one kernel for each.
    torch._foreach_lerp_(kept, present, 1.0 if first else 1.0 - decay)
    for averaged, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        averaged.copy_(buffer)


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


def copy_on_cpu(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, so that training can continue while it is written."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.data_ptr() == tensor.data_ptr() else plain


def _averaged_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False)


def _wants_channels_last(model: nn.Module) -> bool:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    # NHWC only pays for convolutions.
    return any(isinstance(module, kinds) for module in model.modules())


def _copied(value: Any) -> Any:
    """A copy of nested dictionaries, lists and tuples in which every tensor is cloned."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value

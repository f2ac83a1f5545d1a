"""The state of a run: what a checkpoint holds, and nothing else.

There is no state of random numbers: every draw is keyed by images seen. What is written is flat
tensors (safetensors) and plain numbers (JSON); nothing is pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.train.coming_in import refuse_no_model
from aelab.train.finite import floating_buffers, non_finite_names
from aelab.train.machine import choose_bfloat16, choose_threads
from aelab.train.optimizers import make_optimizer
from aelab.train.schedules import Schedule, make_schedule
from aelab.train.settings import FitSettings

FORMAT = 1
#: How the best state is chosen. 1: by the loss under the weights of the moment; 2: see
#: `aelab.train.judging`.
JUDGING = 2


@dataclass
class State:
    """A model in training.

    Attributes:
        model, optimizer, schedule: what learns, and how.
        ema: a copy of the model with averaged weights, or None.
        ema_since: of a model that grows, the step from which each of its weights is averaged.
        ema_warms_up: whether its decay rises to that of the settings; not in earlier versions.
        device: where the model is.
        channels_last: whether 4D tensors are kept in NHWC order in memory.
        bfloat16: whether the model computes under autocast.
        threads: CPU threads; the same number is needed to continue bit for bit.
        images: images seen; the clock.
        batches, steps: batches seen, optimiser steps done.
        epoch, images_in_epoch: completed passes, and images of the present one.
        accumulated_images: images whose gradients wait for a step.
        seconds: training time, without validation and without the caller's work.
        best_loss, best_images: the lowest validation loss, as `aelab.train.judging` has it.
        judging: which way of judging they are of.
        last_loss, last_loss_images: the latest finite training loss that was read.
        last_terms: it and its terms.
        start_means, start_terms: values and names of the first batch's loss and terms; None: from
            an earlier version, or none was computed.
        exploded_since: images at the first of the latest validations that were all out of hand.
        logged_at, checkpointed_at, validated_at: images at the latest of each; -1: never.
        validated_epoch, checkpointed_epoch: epochs at the latest of each.
        window: (1 + T,) float64 sums of the loss and the T terms since the last log; None: empty.
        window_terms, window_images: what is summed.
        peak_learnrate, peak_images: the highest learning rate since the start or continuation, and
            when it came.
        unwatched: buffers that are infinite by design, such as masks.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    device: torch.device
    ema: nn.Module | None = None
    ema_since: dict[str, int] = field(default_factory=dict)
    ema_warms_up: bool = True
    channels_last: bool = False
    bfloat16: bool = False
    threads: int = 1
    images: int = 0
    batches: int = 0
    steps: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    accumulated_images: int = 0
    accumulated_batches: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_images: int | None = None
    judging: int = JUDGING
    last_loss: float | None = None
    last_loss_images: int = 0
    last_terms: dict[str, float] = field(default_factory=dict)
    start_means: Tensor | None = None
    start_terms: list[str] = field(default_factory=list)
    exploded_since: int | None = None
    logged_at: int = 0
    validated_at: int = -1
    validated_epoch: int = 0
    checkpointed_at: int = 0
    checkpointed_epoch: int = 0
    window_images: int = 0
    window_terms: list[str] = field(default_factory=list)
    window: Tensor | None = None
    peak_learnrate: float = 0.0
    peak_images: int = 0
    unwatched: frozenset[str] = frozenset()

    @property
    def start(self) -> dict[str, float]:
        """Loss and terms before training; empty where they are not known."""
        if self.start_means is None:
            return {}
        self.start_means = self.start_means.cpu()  # waits for the device once in a run
        return dict(zip(self.start_terms, self.start_means.tolist(), strict=True))

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged weights where there are any, else the model."""
        return self.model if self.ema is None else self.ema


#: What of a `State` is a plain number, in the order it is written.
_NUMBERS = (
    "channels_last",
    "bfloat16",
    "threads",
    "images",
    "batches",
    "steps",
    "epoch",
    "images_in_epoch",
    "accumulated_images",
    "accumulated_batches",
    "seconds",
    "best_loss",
    "best_images",
    "judging",
    "ema_since",
    "ema_warms_up",
    "last_loss",
    "last_loss_images",
    "last_terms",
    "start",
    "exploded_since",
    "logged_at",
    "validated_at",
    "validated_epoch",
    "checkpointed_at",
    "checkpointed_epoch",
    "window_images",
    "window_terms",
)


#: What numbers are taken to be where a state of an earlier version lacks them.
_EARLIER: dict[str, Any] = {
    "judging": 1,
    "ema_since": {},
    "ema_warms_up": False,
    "last_terms": {},
    "start": {},
    "exploded_since": None,
}


def make_state(
    model: nn.Module, settings: FitSettings, device: torch.device | str = "cpu"
) -> State:
    """The state before the first batch; moves `model` to the device and into its layout.

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
    return State(
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
        channels_last=layout,
        bfloat16=choose_bfloat16(settings.precision, place),
        threads=settings.threads or choose_threads(),
        unwatched=frozenset(non_finite_names(floating_buffers(model))),
    )


def state_dict(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that continuing needs.

    Returns:
        tensors: copies on the CPU by flat names `model.*`, `ema.*`, `gradient.*`,
            `optimizer.<parameter>/<key>`, `window`.
        numbers: JSON-able.
    """
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    if state.ema is not None:
        tensors |= {f"ema.{name}": t for name, t in state.ema.state_dict().items()}
    if state.window is not None:
        tensors["window"] = state.window
    names = _trained_names(state)
    if state.accumulated_images:
        tensors |= {f"gradient.{names[p]}": p.grad for p in names if p.grad is not None}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, slots in state.optimizer.state.items():
        for key, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{names[parameter]}/{key}"] = value
            else:
                scalars.setdefault(names[parameter], {})[key] = value
    numbers: dict[str, Any] = {"format": FORMAT, "device": state.device.type}
    numbers |= {name: getattr(state, name) for name in _NUMBERS}
    numbers["window_terms"] = list(state.window_terms)
    numbers["ema_since"] = dict(state.ema_since)
    numbers["optimizer_scalars"] = scalars
    numbers["optimizer_groups"] = [
        {key: value for key, value in group.items() if key not in ("params", "param_names")}
        for group in state.optimizer.param_groups
    ]
    numbers["schedule"] = state.schedule.state_dict()
    return {name: _stored(tensor) for name, tensor in tensors.items()}, numbers


def load_state(state: State, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Put a stored state into one made with the same model and settings.

    Raises:
        StoreError: a newer format, or tensors that do not fit the model.
    """
    if numbers.get("format") != FORMAT:
        raise StoreError(
            f"the checkpoint has format {numbers.get('format')}; this version reads {FORMAT}",
            hint="install the version that wrote it, or start again with --restart",
        )
    _use_layout(state, numbers["channels_last"])
    load_weights(state.model, tensors)
    if state.ema is not None:
        load_weights(state.ema, tensors, prefix="ema.")
    own_precision = state.bfloat16
    numbers = {**_EARLIER, **numbers}
    for name in _NUMBERS:
        if name != "start":
            setattr(state, name, numbers[name])
    if numbers["start"]:
        state.start_terms = list(numbers["start"])
        state.start_means = torch.tensor(list(numbers["start"].values()), dtype=torch.float64)
    if numbers["device"] != state.device.type:
        state.bfloat16 = own_precision  # what pays there need not pay here
    state.window = tensors["window"].to(state.device) if "window" in tensors else None
    _load_optimizer(state, tensors, numbers)
    state.schedule.load_state_dict(numbers["schedule"])
    for parameter, name in _trained_names(state).items():
        stored = tensors.get(f"gradient.{name}")
        parameter.grad = None if stored is None else _laid_out_like(parameter, stored)


def load_weights(model: nn.Module, tensors: dict[str, Tensor], prefix: str = "model.") -> None:
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


def _use_layout(state: State, channels_last: bool) -> None:
    """The memory layout that the run began with: another one changes the last bits."""
    if state.channels_last != channels_last:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for model in (state.model, state.ema):
            if model is not None:
                model.to(memory_format=layout)  # type: ignore[call-overload]


def _load_optimizer(state: State, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    names = _trained_names(state)
    saved = state.optimizer.state_dict()
    order = [p for group in state.optimizer.param_groups for p in group["params"]]
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
    state.optimizer.load_state_dict({"state": slots, "param_groups": saved["param_groups"]})


def _trained_names(state: State) -> dict[Tensor, str]:
    return {p: name for name, p in state.model.named_parameters() if p.requires_grad}


def _laid_out_like(parameter: Tensor, stored: Tensor) -> Tensor:
    """`stored` in the memory layout of its parameter: fused kernels walk both side by side."""
    if stored.shape != parameter.shape:
        return stored.clone()
    return torch.empty_like(parameter, dtype=stored.dtype).copy_(stored)


def _stored(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: training may go on while it is written."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.data_ptr() == tensor.data_ptr() else plain


def _averaged_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False)


def _wants_channels_last(model: nn.Module) -> bool:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return any(isinstance(module, kinds) for module in model.modules())

"""A learner: a model with its optimiser, schedule, averaged weights, device and memory layout.

It is stored as flat tensors (safetensors) and plain numbers (JSON); nothing is pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from aelab.errors import StoreError
from aelab.ops.factors import pairs_of
from aelab.settings import FitSettings
from aelab.train.clock import Clock
from aelab.train.clocked_modules import find_clocked
from aelab.train.forward import (
    Batch,
    Losses,
    ObjectiveLike,
    Task,
    forward,
    loss_of_step,
    sums_of,
    without_gradient,
)
from aelab.train.guard.coming_in import refuse_no_model
from aelab.train.guard.finite import floating_buffers, non_finite_names
from aelab.train.machine import choose_threads, has_bfloat16_units
from aelab.train.player import (
    Opponent,
    Player,
    PlayerSnapshot,
    load_weights,
    make_opponents,
    optimizer_and_schedule,
)

#: Marks the fields of a learner that a checkpoint stores as plain values, under their names.
_STORED = {"stored": True}
#: Their values for checkpoints of earlier versions, which lack them.
_EARLIER: dict[str, Any] = {
    "ema_since": {},
    "ema_warms_up": False,
    "validation_batch": 0,
    "shuffle_memory": 0,
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
        players: of the model, then of its opponents.
        averaged: parameters and buffers of the averaged model.
        plain: the stored values of the learner.
    """

    players: list[PlayerSnapshot]
    averaged: list[Tensor]
    plain: dict[str, Any]


@dataclass
class SoloLearner(Player):
    """The learner of one run (K = 1): the model as a player, and its opponents.

    Attributes:
        model, optimizer, schedule: the parts that an update uses.
        device: where the model is.
        opponents: the players that the objective brings; usually none.
        ema: a copy of the model with averaged weights, or None.
        unwatched: buffers that are infinite by design, such as masks.
        channels_last: whether 4D tensors are kept in NHWC order in memory.
        bfloat16: whether the model computes under autocast.
        threads: CPU threads; the same number is needed to continue bit for bit.
        ema_since: for a model that grows: weight name -> step of its first gradient.
        ema_warms_up: whether the EMA decay rises to its final value; False in earlier versions.
        micro_batch: images computed at once after memory did not suffice for more; else None.
        is_stepping: whether an optimiser step is in progress.
        validation_batch: batch size of validations if the settings do not set it; None: not chosen
            yet; 0: as in training, as in earlier versions.
        shuffle_memory: bytes of the memory for which sets are shuffled by blocks, see
            `batches.shuffle_memory`; None: not chosen yet; 0: whole sets, as in earlier versions.
        precision_open: whether `bfloat16` is still to be chosen by timing a step of each.
    """

    opponents: list[Opponent] = field(default_factory=list)
    ema: nn.Module | None = None
    unwatched: frozenset[str] = frozenset()
    channels_last: bool = field(default=False, metadata=_STORED)
    bfloat16: bool = field(default=False, metadata=_STORED)
    threads: int = field(default=1, metadata=_STORED)
    ema_since: dict[str, int] = field(default_factory=dict, metadata=_STORED)
    ema_warms_up: bool = field(default=True, metadata=_STORED)
    validation_batch: int | None = field(default=None, metadata=_STORED)
    shuffle_memory: int | None = field(default=None, metadata=_STORED)
    precision_open: bool = False
    micro_batch: int | None = field(default=None, metadata=_STORED)
    is_stepping: bool = False

    @property
    def evaluated_model(self) -> nn.Module:
        """The model with averaged weights if there is one, else the model itself."""
        return self.model if self.ema is None else self.ema

    @property
    def players(self) -> tuple[Player, ...]:
        """The model's player, then its opponents."""
        return (self, *self.opponents)

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
        for part in micro_batches(size, task.settings, self.micro_batch, self.model):
            _, values, total = forward(
                self.model,
                task.objective,
                *batch.part(part),
                images_seen=clock.images,
                bfloat16=self.bfloat16,
            )
            if not total.requires_grad:
                raise without_gradient(self.model, values)
            loss = loss_of_step(task.objective, values, total)
            (loss / divisor(size, task.settings)).backward()  # type: ignore[no-untyped-call]
            # (1, 1 + T): the leading axis is that of the K runs.
            sums = sums_of(values, total)[None]
            losses = Losses(list(values), sums if losses is None else losses.sums + sums)
        assert losses is not None  # a batch has images
        if apply:
            self.apply_gradients(task.settings, clock, size)
        return losses

    def apply_gradients(self, settings: FitSettings, clock: Clock, size: int) -> None:
        """Steps each player's optimiser, clears gradients, and averages the weights.

        Also calls `model.after_step()` if the model has it.

         Args:
             clock: before the batch.
             size: images of the batch.
        """
        images, scale = clock.accumulated_images + size, None
        if averages(settings) and images != settings.batch_size:
            # `backward` divided by batch_size (see `divisor`): correct to the mean over all images.
            scale = settings.batch_size / images
        self.is_stepping = True
        for player in self.players:
            player.step(settings, scale)
        self.is_stepping = False
        number = clock.steps + 1  # of this step, from 1
        if self.ema is not None and self.ema_warms_up:
            self._note_late_weights(number)
        # None instead of zeros: it saves a pass over memory, and unused weights get no step at all.
        self.clear_gradients()
        follow = getattr(self.model, "after_step", None)
        if follow is not None:
            follow()
        if self.ema is not None and settings.ema_decay is not None:
            self._average(self.ema, settings.ema_decay, number)

    def clear_gradients(self) -> None:
        """Leaves no player a gradient."""
        for player in self.players:
            player.optimizer.zero_grad(set_to_none=True)

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

    def watched_weights(self) -> list[tuple[str, Tensor]]:
        """Names and weights of every player; those of opponents begin with their name."""
        found = list(self.model.named_parameters())
        for opponent in self.opponents:
            found += opponent.model.named_parameters(opponent.name)
        return [(name, parameter.detach()) for name, parameter in found]

    def watched_buffers(self) -> list[tuple[str, Tensor]]:
        """Names and buffers of the trained model, without those that were infinite at the start."""
        found = floating_buffers(self.model)
        return [(name, buffer) for name, buffer in found if name not in self.unwatched]

    def slots(self) -> list[tuple[str, Tensor]]:
        """The optimisers' state of each weight, such as averages of its gradients."""
        found = super().slots()
        for opponent in self.opponents:
            # `exp_avg of image_critic.network.last.weight`
            found += [
                (name.replace(" of ", f" of {opponent.name}."), slot)
                for name, slot in opponent.slots()
            ]
        return found

    def finite(self) -> Tensor:
        """(1,) bool on the device: see `Learner.finite`."""
        held = [tensor for _, tensor in (*self.watched_weights(), *self.watched_buffers())]
        norms = torch._foreach_norm(held)
        # A NaN or infinity anywhere makes the sum of norms non-finite: one value, few kernels.
        return torch.stack([norm.float() for norm in norms]).sum().reshape(1).isfinite()

    def snapshot(self) -> Snapshot:
        """A copy of weights, averaged weights and optimiser states, in device memory."""
        return Snapshot(
            # Gradients belong to the state while batches are accumulated.
            players=[player.kept() for player in self.players],
            averaged=[tensor.detach().clone() for tensor in self._averaged()],
            plain=self._plain(),
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Restores a snapshot in place: the weights stay the same tensor objects."""
        for player, kept in zip(self.players, snapshot.players, strict=True):
            player.take_back(kept)
        for tensor, value in zip(self._averaged(), snapshot.averaged, strict=True):
            tensor.copy_(value)
        for name, value in snapshot.plain.items():
            setattr(self, name, copy.copy(value))

    def retire(self, run: int) -> None:
        """Does nothing: the training ends with its only run."""

    def _averaged(self) -> list[Tensor]:
        return [] if self.ema is None else [*self.ema.parameters(), *self.ema.buffers()]

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
                `optimizer.<parameter>/<key>`; those of opponents after `player.<name>.`
            numbers: JSON-able.
        """
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema.{name}": t for name, t in self.ema.state_dict().items()}
        more, learning = self.stored_learning(gradients=gradients)
        tensors |= more
        numbers: dict[str, Any] = {"device": self.device.type, **self._plain(), **learning}
        for opponent in self.opponents:
            own, its = opponent.stored(gradients=gradients)
            tensors |= {f"player.{opponent.name}.{name}": tensor for name, tensor in own.items()}
            numbers.setdefault("players", {})[opponent.name] = its
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
        self.load_learning(tensors, numbers)
        for opponent in self.opponents:
            its = numbers.get("players", {}).get(opponent.name)
            if its is None:
                raise StoreError(
                    f"the checkpoint has no player '{opponent.name}'",
                    hint="it was written with another objective; start again with --restart",
                )
            opponent.load(of_player(tensors, opponent.name), its)

    def _use_layout(self, channels_last: bool) -> None:
        """Uses the memory layout from the start of the run: another one changes the last bits."""
        if self.channels_last != channels_last:
            layout = torch.channels_last if channels_last else torch.contiguous_format
            for model in (self.model, self.ema):
                if model is not None:
                    model.to(memory_format=layout)  # type: ignore[call-overload]


def make_learner(
    model: nn.Module,
    settings: FitSettings,
    device: torch.device | str = "cpu",
    objective: ObjectiveLike | None = None,
) -> SoloLearner:
    """A learner before its first batch; moves `model` to the device and into its layout.

    Args:
        objective: needed if it brings players of its own.

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
    optimizer, schedule = optimizer_and_schedule(model, settings)
    return SoloLearner(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        device=place,
        opponents=make_opponents(objective, model, settings, place),
        ema=_averaged_copy(model) if settings.ema_decay is not None else None,
        unwatched=frozenset(non_finite_names(floating_buffers(model))),
        channels_last=layout,
        bfloat16=settings.precision == "bfloat16",
        precision_open=settings.precision == "auto" and has_bfloat16_units(place),
        threads=settings.threads or choose_threads(),
    )


def micro_batches(
    size: int, settings: FitSettings, limit: int | None = None, model: nn.Module | None = None
) -> list[slice]:
    """Slices of at most `micro_batch_size` images, and `limit`, that together cover a batch.

    No slice separates two images that are a pair for the model.
    """
    at_once = min(settings.micro_batch_size or size, limit or size)
    if pairs_of(model) is not None:
        at_once = max(2, at_once - at_once % 2)
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


def of_player(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The stored tensors of one opponent, by their names in `Opponent.stored`."""
    mark = f"player.{name}."
    return {n.removeprefix(mark): t for n, t in tensors.items() if n.startswith(mark)}


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

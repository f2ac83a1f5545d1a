"""How to train, in plain numbers; images are the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aelab.errors import ConfigError
from aelab.types import Augment


class Choice(NamedTuple):
    """A part chosen by name, with its keyword arguments."""

    name: str
    arguments: Mapping[str, Any] = {}


@dataclass(frozen=True)
class FitSettings:
    """Everything `fit` must know besides model, objective and images.

    Attributes:
        batch_size: images of a training batch; the last batch of an epoch is the remainder.
        learnrate: base learning rate; a schedule multiplies it.
        max_images: stop after the first batch that reaches this count.
        max_epochs: stop after this many passes. At least one of the two is needed.
        min_loss: stop once a validation loss is at most this.
        validation_batch_size: None: as `batch_size`.
        optimizer: a name of `OPTIMIZERS` with keyword arguments.
        scheduler: a name of `SCHEDULES` or of `torch.optim.lr_scheduler`, or None.
        seed: decides data order, augmentation, noise and dropout (not the first weights,
            which whoever builds the model seeds).
        shuffle: a new keyed order each epoch; False: the order of the set.
        validate_every_images, validate_every_epochs: either, both or none; a run also validates
            when it ends.
        checkpoint_every_images, checkpoint_every_epochs: when `CheckpointDue` is yielded.
        log_every_images: window over which training losses are averaged.
        gradient_clip_value, gradient_clip_norm: applied just before the optimiser's step.
        gradient_accumulation: batches before a step; also steps at the end of an epoch.
        sum_gradients: accumulated gradients are summed instead of averaged.
        micro_batch_size: cut a batch into pieces of this many images to save memory; noise is
            drawn for the whole batch before.
        training_noise: standard deviation of Gaussian noise on the input, pixel range 0..1.
        noise_in_target: the same noise is in the target too.
        input_transforms: random changes of the input, not of the target; validation has them too.
        ema_decay: keep an exponential moving average of the weights and evaluate that; the decay
            rises to this one, see `aelab.train.step.warmed_decay`.
        precision: `bfloat16` computes the model under autocast; `auto` does so where it pays
            (CUDA with bfloat16), else float32. The objective is always float32.
        freeze_validation_set: draw the augmentation of validation images once for the whole run.
        validation_limit: use only so many validation images, drawn at random.
        validation: a name of `VALIDATIONS`: how held-out images are measured.
        channels_last: memory layout of 4D tensors; None: where the model has convolutions.
        threads: CPU threads; None: free cores at the start (`choose_threads`).
        deterministic: ask torch for deterministic algorithms (needed on CUDA only).
    """

    batch_size: int = 64
    learnrate: float = 3e-4
    max_images: int | None = None
    max_epochs: int | None = None
    min_loss: float | None = None
    validation_batch_size: int | None = None
    optimizer: Choice = field(default_factory=lambda: Choice("Adam"))
    scheduler: Choice | None = None
    seed: int = 0
    shuffle: bool = True
    validate_every_images: int | None = None
    validate_every_epochs: int | None = None
    checkpoint_every_images: int | None = None
    checkpoint_every_epochs: int | None = None
    log_every_images: int = 1000
    gradient_clip_value: float | None = None
    gradient_clip_norm: float | None = None
    gradient_accumulation: int = 1
    sum_gradients: bool = False
    micro_batch_size: int | None = None
    training_noise: float = 0.0
    noise_in_target: bool = False
    input_transforms: tuple[Augment, ...] = ()
    ema_decay: float | None = None
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    freeze_validation_set: bool = False
    validation_limit: int | None = None
    validation: str = "evaluation_mode"
    channels_last: bool | None = None
    threads: int | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", as_choice(self.optimizer))
        if self.scheduler is not None:
            object.__setattr__(self, "scheduler", as_choice(self.scheduler))
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be above 0")
        if self.training_noise < 0:
            raise ConfigError(f"training_noise is {self.training_noise}; it must be at least 0")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be between 0 and 1")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise ConfigError(f"precision is '{self.precision}'; possible: float32, bfloat16, auto")
        if self.max_images is None and self.max_epochs is None:
            raise ConfigError(
                "the end of training is missing", hint="set max_inputs: 1_000_000 or max_epoch: 20"
            )


_POSITIVE = (
    "batch_size",
    "learnrate",
    "max_images",
    "max_epochs",
    "validation_batch_size",
    "validate_every_images",
    "validate_every_epochs",
    "checkpoint_every_images",
    "checkpoint_every_epochs",
    "log_every_images",
    "gradient_clip_value",
    "gradient_clip_norm",
    "gradient_accumulation",
    "micro_batch_size",
    "validation_limit",
    "threads",
)


def as_choice(given: Choice | str | Mapping[str, Any] | tuple[str, Mapping[str, Any]]) -> Choice:
    """A `Choice` from `Adam`, `("Adam", {...})` or `{"Adam": {...}}`.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(given, str):
        return Choice(given)
    if isinstance(given, Mapping) and len(given) == 1:
        name, arguments = next(iter(given.items()))
        return Choice(str(name), dict(arguments or {}))
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return Choice(given[0], dict(given[1]))
    raise ConfigError(
        f"{given!r} names no part",
        hint="write its name, or its name with arguments: {AdamW: {weight_decay: 0.01}}",
    )

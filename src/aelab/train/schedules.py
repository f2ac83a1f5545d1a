"""Learning-rate schedules: closed forms of images seen, and any scheduler of torch by name.

A closed form (`schedule_forms`) needs no state: its factor depends on the image count only. torch's
schedulers count batches; they are wrapped, and their state (plain numbers) is stored with the run.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch

from aelab.errors import ConfigError, Where, did_you_mean, one_of, shown
from aelab.parts import Table
from aelab.schedule_forms import FORMS, Factor, constant, cosine, horizon_of
from aelab.settings import Choice, as_choice
from aelab.train.arguments import argument_errors, checked
from aelab.train.horizon import Horizon

#: Assumed images of a run that ends by epochs, until `plan` gets the sizes of its sets.
UNKNOWN = 1_000_000


class Schedule(Protocol):
    """The interface of a schedule to the loop."""

    def plan(self, end: Horizon) -> None:
        """Called with the run's end, before its first batch and each time it is continued."""

    def before_batch(self, images: int) -> None:
        """Called before a batch, with the images seen so far."""

    def after_batch(self) -> None:
        """Called after each batch, from the optimiser's first step on."""

    def after_validation(self, loss: float) -> None:
        """Called with each validation's total loss."""

    def state_dict(self) -> dict[str, Any]:
        """The state to store in a checkpoint; JSON-able."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state of `state_dict`."""


#: Closed forms by name.
SCHEDULES: Table[Callable[..., Factor]] = Table("scheduler", "aelab.schedules", FORMS)


class ClosedForm:
    """A schedule that is a function of the images seen and the end of the run.

    Args:
        make_factor: maps the end in images, or None, to the factor function.
        max_images: of the settings; None where only epochs end the run.
        max_epochs: of the settings, or None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        make_factor: Callable[[int | None], Factor],
        max_images: int | None,
        max_epochs: int | None,
    ) -> None:
        self._optimizer = optimizer
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._make_factor, self._max_images = make_factor, max_images
        self._is_of_images = False
        known = max_images if max_images is not None or max_epochs is None else UNKNOWN
        self._factor = make_factor(known)

    def plan(self, end: Horizon) -> None:
        """Stretches the schedule to the run: to `max_images`, or to the last epoch if earlier."""
        if not self._is_of_images:
            self._factor = self._make_factor(min(end.images, self._max_images or end.images))

    def before_batch(self, images: int) -> None:
        """Sets the learning rate of the parameter groups for this image count."""
        factor = self._factor(images)
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            # From the base rate each time, not from the last one: no rounding errors add up.
            group["lr"] = base * factor

    def after_batch(self) -> None:
        """Does nothing: the next factor follows from the images."""

    def after_validation(self, loss: float) -> None:
        """Does nothing: a closed form does not depend on losses."""

    def state_dict(self) -> dict[str, Any]:
        """Whether the schedule ends with the run; everything else follows from the images seen."""
        return {} if self._is_of_images else {"ends_with_run": True}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keeps the end of earlier versions: `max_images`, even if epochs end the run before."""
        self._is_of_images = self._max_images is not None and not state.get("ends_with_run")


class TorchSchedule:
    """A scheduler of torch, stepped after each batch; ReduceLROnPlateau after each validation.

    Args:
        make: makes the scheduler for a total number of steps.
        steps: total steps as known now; 0 if the scheduler does not need them.
    """

    def __init__(self, make: Callable[[int], Any], steps: int = 0) -> None:
        self._make = make
        self._steps, self._is_begun = steps, False
        self._scheduler = make(steps)
        self._on_loss = isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def plan(self, end: Horizon) -> None:
        """Remakes a scheduler that ends with its run, once the number of steps is known."""
        # Schedulers are stepped from the optimiser's first step on, see `after_batch`.
        steps = max(1, end.batches - end.batches_to_first_step + 1)
        if self._steps and not self._is_begun and steps != self._steps:
            self._steps, self._scheduler = steps, self._make(steps)

    def before_batch(self, images: int) -> None:
        """Does nothing: torch's schedulers count batches, not images."""

    def after_batch(self) -> None:
        """Steps the scheduler, unless it is at its end, after which OneCycleLR raises."""
        self._is_begun = True
        total = getattr(self._scheduler, "total_steps", None)
        at_end = total is not None and self._scheduler.last_epoch + 1 >= total
        if not self._on_loss and not at_end:
            self._scheduler.step()

    def after_validation(self, loss: float) -> None:
        """Steps ReduceLROnPlateau."""
        if self._on_loss:
            self._scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's own state, JSON-able."""
        return dict(_plain(self._scheduler.state_dict()))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the scheduler's state; it keeps the end that it started with."""
        self._is_begun = True
        self._scheduler.load_state_dict(_from_plain(state))


def make_schedule(
    optimizer: torch.optim.Optimizer,
    choice: Choice | None,
    *,
    max_images: int | None,
    batch_size: int,
    max_epochs: int | None = None,
) -> Schedule:
    """The schedule of a run, by name. Its end is set later by `plan`, when set sizes are known.

    `CosineAnnealingLR` without `T_max` is the closed form over the run; with `T_max`
    (batches) it is torch's own. OneCycleLR's `total_steps` defaults to the batches of the run.

    Raises:
        ConfigError: unknown name or argument, or no horizon where one is needed.
    """
    if choice is None:
        return ClosedForm(optimizer, lambda end: constant(max_images=end), max_images, max_epochs)
    name, arguments = choice.name, dict(choice.arguments)
    if name == "CosineAnnealingLR" and not {"T_max", "last_epoch"} & set(arguments):
        base = float(optimizer.param_groups[0]["lr"])
        part = torch.optim.lr_scheduler.CosineAnnealingLR
        eta_min = _arguments_of(part, name, arguments, optional=("T_max",)).get("eta_min", 0.0)
        # torch's `eta_min` is a learning rate, the closed form needs a factor.
        floor = eta_min / base if base else 0.0
        return ClosedForm(
            optimizer,
            lambda end: cosine(max_images=end, eta_min_factor=floor),
            max_images,
            max_epochs,
        )
    if name in SCHEDULES:
        form, known = SCHEDULES[name], _arguments_of(SCHEDULES[name], name, arguments)
        return ClosedForm(
            optimizer, lambda end: form(max_images=end, **known), max_images, max_epochs
        )
    if name == "OneCycleLR":
        arguments.setdefault("max_lr", float(optimizer.param_groups[0]["lr"]))
        if not {"total_steps", "epochs"} & set(arguments):
            images = max_images if max_images is not None or max_epochs is None else UNKNOWN
            return TorchSchedule(
                lambda steps: _torch_scheduler(
                    optimizer, name, {**arguments, "total_steps": steps}
                ),
                # Rounded up: the last, smaller batch is also a step.
                steps=-(-horizon_of(images, name) // batch_size),
            )
    return TorchSchedule(lambda steps: _torch_scheduler(optimizer, name, arguments))


def _torch_scheduler(optimizer: torch.optim.Optimizer, name: str, arguments: dict[str, Any]) -> Any:
    """Makes a scheduler of torch; the `schedulers` of a chained one are also given by name."""
    part = TORCH_SCHEDULERS.get(name)
    if part is None:
        possible = {*SCHEDULES, *TORCH_SCHEDULERS}
        raise ConfigError(
            f"unknown scheduler '{name}'{did_you_mean(name, possible)}",
            hint=f"possible: {one_of(possible)}",
        )
    if name in _NEEDS_A_FUNCTION:
        raise ConfigError(
            f"scheduler {name} takes a function, which a file cannot give",
            hint="possible instead: step, linear, cosine, WarmupCosine, MultiStepLR",
        )
    given = arguments
    arguments = _arguments_of(part, name, arguments)
    if "schedulers" in arguments:
        arguments["schedulers"] = [
            _torch_scheduler(optimizer, *_named(name, inner)) for inner in _inner(name, arguments)
        ]
    with schedule_errors(name, given):
        if name == "ChainedScheduler":
            return part(arguments["schedulers"], optimizer=optimizer)
        return part(optimizer, **arguments)


def schedule_errors(
    name: str, arguments: Mapping[str, Any]
) -> contextlib.AbstractContextManager[None]:
    """Context manager: turns any error of a schedule about its arguments into a ConfigError."""
    theirs = "" if name in SCHEDULES else f"torch's {name}"
    return argument_errors("scheduler", name, arguments, theirs)


def _inner(name: str, arguments: Mapping[str, Any]) -> list[Any]:
    given = arguments["schedulers"]
    if not isinstance(given, list) or not given:
        raise ConfigError(
            f"scheduler {name}: schedulers = {shown(given)} does not fit; possible: a list of "
            "schedulers by name, each Name or {Name: {argument: value}}",
            where=Where(key="schedulers"),
        )
    return given


def _named(name: str, given: Any) -> tuple[str, dict[str, Any]]:
    try:
        choice = as_choice(given)
        return choice.name, dict(choice.arguments)
    except (ConfigError, TypeError, ValueError, AttributeError):
        raise ConfigError(
            f"scheduler {name}: given {shown(given)} among its schedulers; "
            "possible: Name, or {Name: {argument: value}}",
            where=Where(key="schedulers"),
        ) from None


def _all_of_torch() -> dict[str, Any]:
    room = torch.optim.lr_scheduler
    names = [n for n in dir(room) if n.endswith(("LR", "Restarts", "Scheduler", "OnPlateau"))]
    found = {n: getattr(room, n) for n in names if n not in ("LRScheduler", "_LRScheduler")}
    return {**found, "SWALR": torch.optim.swa_utils.SWALR}  # defined in another module


#: Schedulers whose argument is a Python function.
_NEEDS_A_FUNCTION = ("LambdaLR", "MultiplicativeLR")
#: Every scheduler of torch.
TORCH_SCHEDULERS: dict[str, Any] = _all_of_torch()


def _arguments_of(
    part: Any, name: str, arguments: Mapping[str, Any], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Arguments of a schedule from the file, checked; inner schedulers are checked later."""
    inner = {"schedulers": arguments["schedulers"]} if "schedulers" in arguments else {}
    plain = {key: value for key, value in arguments.items() if key not in inner}
    withheld = ("optimizer", "max_images")
    return checked("scheduler", name, (part,), plain, withheld, {*optional, *inner}) | inner


_NON_FINITE = ("inf", "-inf", "nan")


def _plain(value: Any) -> Any:
    """Scheduler state in a form that strict JSON can store.

    Functions and tables of milestones are left out: the arguments in the file make them again.
    Non-finite numbers become text, because JSON has no NaN or infinity.
    """
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not callable(v) and not isinstance(v, Counter)}
        return {str(k): _plain(v) for k, v in kept.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _from_plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_from_plain(v) for v in value]
    return float(value) if isinstance(value, str) and value in _NON_FINITE else value

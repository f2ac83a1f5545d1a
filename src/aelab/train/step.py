"""One optimiser step's worth of work on one batch, without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, Where
from aelab.posteriors import changed
from aelab.settings import FitSettings
from aelab.train.clocked_modules import find_clocked
from aelab.train.coming_in import no_output
from aelab.train.state import State
from aelab.types import Output


class ObjectiveLike(Protocol):
    """What training needs of an objective.

    Called with an output, its target (B, C, H, W) and the images seen, it returns unweighted
    per-sample values (B,) by term; `total` adds them up with their weights, (B,). Where weights
    change, a method `final_total(values)` does so with those of the end.
    """

    def __call__(
        self, output: Output, target: Tensor, images_seen: int
    ) -> Mapping[str, Tensor]: ...

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        """The weighted sum of the terms, per sample (B,)."""


def step(
    state: State,
    objective: ObjectiveLike,
    inputs: Tensor,
    target: Tensor,
    noise: Tensor | None,
    settings: FitSettings,
    *,
    end_of_epoch: bool = False,
) -> None:
    """Forward, backward, and the optimiser where `gradient_accumulation` is reached.

    Adds the loss and every term to `state.window`; counters of the clock are the caller's.

    Args:
        inputs, target: (B, C, H, W).
        noise: (B, *model.noise_shape), drawn for the whole batch, or None.
        end_of_epoch: left-over gradients are applied.
    """
    size = len(inputs)
    # Accumulated gradients are sums over images divided by `batch_size`; `_update` mends that to
    # the mean over all images. Without accumulation they are the batch's mean at once.
    averaged = settings.gradient_accumulation > 1 and not settings.sum_gradients
    divisor = settings.batch_size if averaged else size
    piece = settings.micro_batch_size or size
    for start in range(0, size, piece):
        part = slice(start, start + piece)
        _, values, total = forward(
            state.learner.model,
            objective,
            inputs[part],
            target[part],
            None if noise is None else noise[part],
            images_seen=state.clock.images,
            bfloat16=state.learner.bfloat16,
        )
        if not total.requires_grad:
            raise _without_gradient(state.learner.model, values)
        (total.sum() / divisor).backward()  # type: ignore[no-untyped-call]
        _add_to_window(state, values, total)
    state.window.images += size
    state.clock.accumulated_images += size
    state.clock.accumulated_batches += 1
    if end_of_epoch or state.clock.accumulated_batches >= settings.gradient_accumulation:
        _update(state, settings, averaged)


def _without_gradient(model: nn.Module, values: Mapping[str, Tensor]) -> ConfigError:
    """Why a loss has no gradient, before torch says that some element 0 does not require one."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return ConfigError(
            "the model has no weight to train: all are frozen, or it has none",
            hint="leave out .requires_grad_(False), or use layers with weights",
        )
    return ConfigError(
        f"the objective has no gradient: {', '.join(values)} "
        f"{'does' if len(values) == 1 else 'do'} not depend on the model's weights in a way that "
        "can be differentiated",
        hint="rounding, argmax, comparisons, detach() and item() have no gradient: leave them out "
        "of the loss, or add a term that has one, for instance objective: {l1: 1}",
        where=Where(key="loss_function"),
    )


def forward(
    model: nn.Module,
    objective: ObjectiveLike,
    inputs: Tensor,
    target: Tensor,
    noise: Tensor | None,
    *,
    images_seen: int,
    bfloat16: bool = False,
) -> tuple[Output, Mapping[str, Tensor], Tensor]:
    """A batch's output, its unweighted terms (B,) and their weighted total (B,), float32."""
    if bfloat16:
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            output = _called(model, inputs, noise)
        output = _as_float32(output)
    else:
        output = _called(model, inputs, noise)
    values = objective(output, target, images_seen)
    return output, values, objective.total(values, images_seen)


def _called(model: nn.Module, inputs: Tensor, noise: Tensor | None) -> Output:
    output = model(inputs, noise)
    if isinstance(output, Output):
        return output
    raise no_output(model, output)


def sums_of(values: Mapping[str, Tensor], total: Tensor) -> Tensor:
    """(1 + T,): the sum of the total, then of each term, on the device.

    float64, so that long windows lose nothing; float32 on Apple's devices, which have no float64.
    """
    with torch.no_grad():
        sums = torch.stack([total.sum(), *(value.sum() for value in values.values())])
        return sums if sums.device.type == "mps" else sums.double()


def _add_to_window(state: State, values: Mapping[str, Tensor], total: Tensor) -> None:
    sums, window = sums_of(values, total)[None], state.window
    if window.sums is None:
        window.sums, window.terms = sums, list(values)
    else:
        window.sums += sums


def _update(state: State, settings: FitSettings, averaged: bool) -> None:
    """Clip, step, clear the gradients, let the model follow, average the weights."""
    parameters = [p for group in state.learner.optimizer.param_groups for p in group["params"]]
    if averaged and state.clock.accumulated_images != settings.batch_size:
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, settings.batch_size / state.clock.accumulated_images)
    clipping = settings.gradient_clipping
    if clipping is not None and clipping.value is not None:
        nn.utils.clip_grad_value_(parameters, clipping.value)
    if clipping is not None and clipping.norm is not None:
        nn.utils.clip_grad_norm_(parameters, clipping.norm)
    state.learner.optimizer.step()
    if state.learner.ema is not None and state.learner.ema_warms_up:
        _note_late_weights(state)
    state.learner.optimizer.zero_grad(set_to_none=True)
    state.clock.steps += 1
    follow = getattr(state.learner.model, "after_step", None)
    if follow is not None:
        follow()
    state.clock.accumulated_images = state.clock.accumulated_batches = 0
    if state.learner.ema is not None and settings.ema_decay is not None:
        _average(state, state.learner.ema, settings.ema_decay)


def _note_late_weights(state: State) -> None:
    """For a model that grows, the step at which each weight got its first gradient."""
    if not find_clocked(state.learner.model):
        return
    for name, parameter in state.learner.model.named_parameters():
        if parameter.grad is not None:
            state.learner.ema_since.setdefault(name, state.clock.steps + 1)


def _average(state: State, ema: nn.Module, decay: float) -> None:
    """Let the averaged weights follow, each with the decay of the steps it has been trained for."""
    if not state.learner.ema_since:
        now = warmed_decay(decay, state.clock.steps) if state.learner.ema_warms_up else decay
        _average_weights(ema, state.learner.model, now, first=state.clock.steps == 1)
        return
    by_start: dict[int, set[str]] = {}
    for name, _ in state.learner.model.named_parameters():
        by_start.setdefault(state.learner.ema_since.get(name, 1), set()).add(name)
    for start, names in by_start.items():
        steps = state.clock.steps - start + 1
        some = names if len(by_start) > 1 else None
        _average_weights(
            ema, state.learner.model, warmed_decay(decay, steps), first=steps == 1, names=some
        )


def warmed_decay(decay: float, steps: int) -> float:
    """The decay of averaged weights after so many steps: min(decay, (1 + steps) / (10 + steps)).

    With a constant decay of d the first weights count d^steps: at 0.999 still half after 700 steps.
    So the average reaches over the latest tenth of a run, and at most over 1 / (1 - d) steps.

    Source: tf.train.ExponentialMovingAverage with `num_updates`; timm's ModelEmaV3 and diffusers'
    EMAModel warm up too.
    """
    return min(decay, (1 + steps) / (10 + steps))


@torch.no_grad()
def _average_weights(
    ema: nn.Module, model: nn.Module, decay: float, *, first: bool, names: set[str] | None = None
) -> None:
    """ema = decay ema + (1 - decay) model; the first time, and buffers always: a copy.

    Equal to `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`.

    Args:
        names: of the weights; None: all.
    """
    kept: list[Tensor] = [p for n, p in ema.named_parameters() if names is None or n in names]
    present: list[Tensor] = [p for n, p in model.named_parameters() if names is None or n in names]
    torch._foreach_lerp_(kept, present, 1.0 if first else 1.0 - decay)
    for averaged, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        averaged.copy_(buffer)


def _as_float32(output: Output) -> Output:
    return Output(
        output.reconstruction.float(),
        _widened(output.latent),
        changed(output.posterior, _widened),
        {name: value.float() for name, value in output.details.items()},
    )


def _widened(values: Tensor) -> Tensor:
    """float32, unless these are indices."""
    return values.float() if values.is_floating_point() else values

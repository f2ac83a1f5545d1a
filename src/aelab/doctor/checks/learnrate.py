"""Checks whether the learning rate is far off, by trying a few steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import nn

from aelab.assembly.number_checks import FAR_ABOVE as ODD  # such rates already have a note there
from aelab.assembly.number_checks import steps_by_gradient
from aelab.doctor.checks.subject import BuiltRun
from aelab.findings import Finding
from aelab.ops.random import seed_default
from aelab.train.clocked_modules import find_clocked
from aelab.train.forward import forward
from aelab.train.optimizers import make_optimizer, usual_learnrate

#: Steps of a trial of a rate, and the limit of floating-point operations for all trials.
STEPS, TRIAL_FLOPS = 10, 6e10
#: Most images in a batch of a trial.
MOST_IMAGES = 8
#: Usual rates are for batches of this size; for others they scale with the root of the size.
USUAL_BATCH = 64
#: Factors below and above the usual rate from which a rate counts as far off.
FAR_BELOW, FAR_ABOVE = 15.0, 30.0
#: A rate is too low if ten times the rate lowers the logarithm of the loss this many times more.
QUICKER = 3.0
#: A rate is too high if the last loss is above this multiple of the first one.
WORSE = 2.0


def learnrate(run: BuiltRun) -> Iterator[Finding]:
    """Finds a rate far from the optimiser's usual one that does worse than a nearer one.

    Both must agree: a few steps alone prefer high rates, and a table ignores the model.
    """
    settings = run.settings
    if run.train is None or find_clocked(run.model) or _flops(run) > TRIAL_FLOPS:
        return
    usual = usual_learnrate(settings.optimizer.name) * math.sqrt(settings.batch_size / USUAL_BATCH)
    rate, where = settings.learnrate, run.place("learnrate")
    told = (
        f"learnrate: {rate:g} is {{}} times {{}} the usual one of {settings.optimizer.name} at "
        f"batches of {settings.batch_size:,} (about {usual:.1g})"
    )
    if rate < usual / FAR_BELOW:
        mine, higher = _left(run, rate), _left(run, 10 * rate)
        if mine is None or higher is None or higher >= min(1.0, mine) ** QUICKER:
            return
        flat = "" if settings.scheduler else ", and no scheduler lowers it later"
        yield Finding(
            "warning",
            "learnrate-low",
            f"{told.format(f'{usual / rate:.0f}', 'below')}{flat}: in {STEPS} steps the loss "
            f"{_moved(mine)}, with {10 * rate:g} it {_moved(higher)}",
            f"learnrate: {usual:.1g} with scheduler: {{WarmupCosine: {{warmup_images: 10_000}}}}",
            where,
        )
    elif rate > FAR_ABOVE * usual and not _noted(settings.optimizer.name, rate):
        mine, lower = _left(run, rate), _left(run, usual)
        if lower is None or (mine is not None and mine < WORSE):
            return
        end = "is not finite" if mine is None else f"is {mine:.1f} times the first"
        yield Finding(
            "warning",
            "learnrate-explodes",
            f"{told.format(f'{rate / usual:,.0f}', 'above')}: after {STEPS} steps the loss {end}, "
            f"with {usual:.1g} {lower:.2f} times the first",
            f"learnrate: {usual:.1g}, or gradient_clipping: {{norm: 1}}",
            where,
        )


def _noted(optimizer: str, rate: float) -> bool:
    """Whether the checks of numbers have a note about a rate so high."""
    return rate > ODD * usual_learnrate(optimizer) and not steps_by_gradient(optimizer)


def _moved(share: float) -> str:
    """How a loss moved, of which this share of the first one is left: `falls by 12 %`."""
    return f"{'falls' if share <= 1 else 'rises'} by {100 * abs(1 - share):.2g} %"


def _flops(run: BuiltRun) -> float:
    """Floating-point operations of both trials; a step costs three forward passes."""
    return 2 * STEPS * 3 * min(run.size, MOST_IMAGES) * run.flops_per_image


def _left(run: BuiltRun, rate: float) -> float | None:
    """Loss after a few steps / loss before, on the first batch; None if not finite."""
    _, losses = trained(run, rate, STEPS)
    if not math.isfinite(losses[-1]):
        return None
    return losses[-1] / losses[0] if losses[0] > 0 else None


def trained(run: BuiltRun, rate: float, steps: int) -> tuple[nn.Module, list[float]]:
    """A copy of a run's model after a few steps of its optimiser, at a rate.

    Returns:
        The model, and the loss before each step and after the last, on small batches; the first
        and the last on the same one. It ends with the first loss that is not finite.
    """
    model = copy.deepcopy(run.model).train()
    optimizer = make_optimizer(model, run.settings.optimizer, rate)
    clipping = run.settings.gradient_clipping
    seed_default(0)
    losses = []
    for number in range(steps + 1):
        batch = run.batch(0 if number == steps else number).part(slice(0, MOST_IMAGES))
        with torch.set_grad_enabled(number < steps):
            _, values, _ = forward(model, run.objective, *batch, images_seen=0)
            loss = run.objective.final_total(values).mean()
        losses.append(float(loss.detach()))
        if number == steps or not math.isfinite(losses[-1]):
            break
        loss.backward()  # type: ignore[no-untyped-call]
        if clipping is not None and clipping.norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clipping.norm)
        if clipping is not None and clipping.value is not None:
            nn.utils.clip_grad_value_(model.parameters(), clipping.value)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        follow = getattr(model, "after_step", None)
        if follow is not None:
            follow()
    return model, losses

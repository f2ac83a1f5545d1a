"""Checks of a learning-rate schedule over the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from aelab.doctor.checks.subject import BuiltRun
from aelab.findings import Finding
from aelab.train.schedules import ClosedForm, make_schedule

#: Most batches for which a schedule of torch is stepped; longer runs are not checked.
MOST_STEPS = 60_000
#: Number of moments at which the rate is read.
MOMENTS = 400
#: A rate that rises by this factor within 1/50 of the run counts as a jump.
JUMP, WITHIN = 100.0, 50
#: A warm-up is over after this share of the run.
WARM = 0.3
#: A schedule that rises by this factor after its minimum was meant to end at the minimum.
RISE = 10.0
#: A rate below this share of the peak has no effect; reported if it lasts this share of the run.
DEAD, LASTS = 1e-3, 0.15
#: Runs with fewer batches are not checked.
FEW_BATCHES = 50
#: Schedules that rise by design.
CYCLIC = ("CosineAnnealingWarmRestarts", "CyclicLR", "ReduceLROnPlateau")


def schedule(run: BuiltRun) -> Iterator[Finding]:
    """Finds a rate that jumps, rises after its minimum or to the end, or ends before the run."""
    choice = run.settings.scheduler
    if choice is None or choice.name in CYCLIC or run.end is None:
        return
    if run.end.batches < FEW_BATCHES:
        return
    rates = rates_of(run)
    if not rates:
        return
    where = run.place("scheduler")
    peak = max(rates)
    told = f"scheduler {choice.name}"
    jump = _jump(rates)
    if jump is not None:
        at, before, after = jump
        yield Finding(
            "warning",
            "schedule-jumps",
            f"{told}: the learning rate rises {after / before:,.0f}-fold, from {before:.2g} to "
            f"{after:.2g}, at {at:.0%} of the run: weights that were settled are thrown away, and "
            "half precision overflows",
            f"an end rate near the others ({before:.2g}), or ema_decay: 0.999, which averages "
            "weights and leaves the rate alone; gradient_clipping: {norm: 1} limits the harm",
            where,
        )
        return
    rise = _rise(rates)
    if rise is not None:
        at, least, later = rise
        yield Finding(
            "warning",
            "schedule-rises-again",
            f"{told}: the learning rate has its minimum, {least:.2g}, at {at:.0%} of the run and "
            f"then rises to {later:.2g}: the run does not end with the small rate",
            "leave out T_max: without it the schedule ends with the run; torch counts T_max in "
            f"batches, and this run has {run.end.batches:,}",
            where,
        )
        return
    climb = _climb(rates)
    if climb is not None:
        before, last = climb
        yield Finding(
            "warning",
            "schedule-rises-again",
            f"{told}: the learning rate still rises {last / before:,.0f}-fold after {WARM:.0%} of "
            f"the run, from {before:.2g} to {last:.2g} at its end: the run does not end with a "
            "small rate",
            "a schedule that falls at the end, such as WarmupCosine; a gamma below 1",
            where,
        )
        return
    dead = next((n for n in range(len(rates)) if max(rates[n:]) < DEAD * peak), len(rates))
    rest = 1 - dead / len(rates)
    if rest > LASTS:
        yield Finding(
            "warning",
            "schedule-ends-early",
            f"{told}: after {1 - rest:.0%} of the run the learning rate is below a thousandth of "
            f"its peak, {peak:.2g}: the last {rest:.0%} train nothing",
            f"a schedule as long as the run ({run.end.images:,} images, {run.end.batches:,} "
            "batches), such as WarmupCosine, or a shorter run",
            where,
        )


def rates_of(run: BuiltRun) -> list[float]:
    """The learning rate at moments evenly spaced over the run; empty if that takes too long."""
    assert run.end is not None
    settings = run.settings
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=settings.learnrate)
    made = make_schedule(
        optimizer,
        settings.scheduler,
        max_images=settings.max_images,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
    )
    made.plan(run.end)
    if isinstance(made, ClosedForm):
        rates = []
        for moment in range(MOMENTS):
            made.before_batch((run.end.images - settings.batch_size) * moment // MOMENTS)
            rates.append(float(optimizer.param_groups[0]["lr"]))
        return rates
    batches = run.end.batches
    if batches > MOST_STEPS:
        return []
    every, rates = max(1, batches // MOMENTS), []
    for number in range(batches):
        if number % every == 0:
            rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        made.after_batch()
    return rates


def _jump(rates: Sequence[float]) -> tuple[float, float, float] | None:
    """(share of the run, rate before, rate after) of the largest rise after the warm-up."""
    step, begin = max(1, len(rates) // WITHIN), int(WARM * len(rates))
    pairs = [
        (later / before, n, before, later)
        for n in range(begin, len(rates) - step)
        if (before := rates[n]) > 0 and (later := max(rates[n : n + step + 1])) > JUMP * before
    ]
    # Near the end of a cosine the rate is nearly 0, so any rise is a large factor.
    grave = [pair for pair in pairs if pair[3] > 0.1 * max(rates[: pair[1] + 1])]
    if not grave:
        return None
    _, n, before, later = max(grave)
    return n / len(rates), before, later


def _climb(rates: Sequence[float]) -> tuple[float, float] | None:
    """(rate after the warm-up, rate at the end) of a rate that rises far to the end of the run."""
    before, last = rates[int(WARM * len(rates))], rates[-1]
    return (before, last) if 0 < RISE * before < last and last > 0.5 * max(rates) else None


def _rise(rates: Sequence[float]) -> tuple[float, float, float] | None:
    """(share of the run, least rate, highest later rate) of a rate that falls and rises again."""
    peak = max(range(len(rates)), key=lambda n: rates[n])
    least = min(range(len(rates)), key=lambda n: rates[n])
    begin = int(WARM * len(rates))
    if peak > least or peak > begin:  # it rises at first, or falls all the way
        falls = [n for n in range(1, len(rates) - 1) if rates[n] < rates[n - 1]]
        if not falls:
            return None
        least = min(falls, key=lambda n: rates[n])
    later = max(rates[least:])
    before = max(rates[: least + 1])
    if later <= RISE * max(rates[least], 1e-3 * before) or before < RISE * rates[least]:
        return None
    return least / len(rates), rates[least], later

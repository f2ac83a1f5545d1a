"""Chooses the precision of a training with `precision: auto`.

On a CPU without bfloat16 units it is float32, without timing. On one with such units, a step in
each precision is timed: convolutions become faster, tiny networks do not. The choice is stored with
the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from aelab.train.forward import Batch, Task
from aelab.train.machine import prepared_process
from aelab.train.state import State

#: Least gain in speed for bfloat16, which has 8 bits of precision instead of 24.
LEAST_GAIN = 1.2

#: Most timings of each precision, and their total time.
_ROUNDS, _MOST_SECONDS = 7, 4.0


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step in each precision.

    Attributes:
        float32, bfloat16: seconds of processor time.
    """

    float32: float
    bfloat16: float

    @property
    def gain(self) -> float:
        """The speed of bfloat16 relative to float32."""
        return self.float32 / max(self.bfloat16, 1e-9)

    @property
    def choose_bfloat16(self) -> bool:
        """Whether bfloat16 is fast enough to be chosen."""
        return self.gain >= LEAST_GAIN


def time_steps(
    step: Callable[[bool], None], now: Callable[[], float] = time.process_time
) -> StepTimes:
    """Times several alternating steps in each precision and returns the fastest of each.

    Uses processor time, because wall-clock time depends on other programs.

    Args:
        step: makes one training step; True: in bfloat16.
        now: returns the time in seconds.
    """
    least = {False: float("inf"), True: float("inf")}
    began = now()
    for bfloat16 in (False, True):
        step(bfloat16)  # the first step of each also chooses kernels and allocates memory
    for number in range(_ROUNDS):
        for bfloat16 in (False, True):
            before = now()
            step(bfloat16)
            least[bfloat16] = min(least[bfloat16], now() - before)
        if number >= 1 and now() - began > _MOST_SECONDS:
            break
    return StepTimes(least[False], least[True])


def time_precisions(
    state: State,
    tasks: Sequence[Task],
    cut: Callable[[], Sequence[Batch]],
    now: Callable[[], float] = time.process_time,
) -> StepTimes:
    """`time_steps` for a training; restores weights, optimiser and random numbers.

    Args:
        cut: returns the next batch of each run.
    """
    (member,) = state.learner.members
    before = state.learner.snapshot(), torch.get_rng_state(), member.bfloat16

    def step(bfloat16: bool) -> None:
        """Makes a forward pass, a backward pass and an optimiser step."""
        member.bfloat16 = bfloat16
        state.learner.update(tasks, cut(), state.clock, apply=True)

    deterministic = tasks[0].settings.deterministic
    try:
        with prepared_process(member.threads, member.device, deterministic):
            member.model.train()
            return time_steps(step, now)
    finally:
        snapshot, random_state, member.bfloat16 = before
        state.learner.restore(snapshot)
        torch.set_rng_state(random_state)


def settle_precision(
    state: State,
    tasks: Sequence[Task],
    cut: Callable[[], Sequence[Batch]],
    now: Callable[[], float] = time.process_time,
) -> StepTimes | None:
    """Chooses the precision of a training that has not started, if the settings leave it open.

    Returns:
        The timings; None if there was no choice.
    """
    members = state.learner.members
    if len(members) > 1 or not members[0].precision_open or state.clock.batches:
        return None
    times = time_precisions(state, tasks, cut, now)
    members[0].bfloat16, members[0].precision_open = times.choose_bfloat16, False
    return times

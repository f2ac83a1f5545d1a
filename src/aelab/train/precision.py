"""Chooses the precision of a training with `precision: auto`, the default.

Short trainings and devices without bfloat16 units get float32, without a trial. Else the gradient
of one batch is computed in both precisions, and a step of each is timed: large products become
faster, tiny networks do not. The choice is stored with the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aelab.errors import in_words
from aelab.train.forward import Batch, Task, forward
from aelab.train.guard.memory import is_out_of_memory
from aelab.train.horizon import Horizon
from aelab.train.learner import SoloLearner
from aelab.train.machine import prepared_process
from aelab.train.mode import mode_of
from aelab.train.state import State

#: Least gain in speed for bfloat16, which has 8 bits of precision instead of 24.
LEAST_GAIN = 1.2

#: Least cosine between the gradients in both precisions. 45 families of experiments/board.yml,
#: untrained and after 20 batches, have 0.996 or more; a net that multiplies its coordinates by
#: large numbers, which 8 bits cannot resolve, has far less.
LEAST_AGREEMENT = 0.99

#: A training of fewer batches is not worth the trial.
LEAST_BATCHES = 1000

#: Most timings of each precision, and their total time.
_ROUNDS, _MOST_SECONDS = 7, 4.0

#: Steps of a trial at most: two for the gradients, two to warm up, and the timed ones.
STEPS_OF_A_TRIAL = 4 + 2 * _ROUNDS


@dataclass(frozen=True)
class PrecisionTrial:
    """One training step in each precision.

    Attributes:
        float32, bfloat16: seconds of a step: processor time, on a GPU time.
        agreement: cosine between the gradients of the model's weights, -1..1; NaN where one is not
            finite.
        refused: the error of a model that cannot compute in bfloat16; then the numbers are NaN.
    """

    float32: float
    bfloat16: float
    agreement: float
    refused: str = ""

    @property
    def gain(self) -> float:
        """The speed of bfloat16 relative to float32."""
        return self.float32 / max(self.bfloat16, 1e-9)

    @property
    def choose_bfloat16(self) -> bool:
        """Whether bfloat16 is fast enough, and its gradient close enough, to be chosen."""
        return self.gain >= LEAST_GAIN and self.agreement >= LEAST_AGREEMENT


def is_worth_a_trial(state: State, end: Horizon) -> bool:
    """Whether the precision of this training, which ends there, is to be chosen by a trial."""
    members = state.learner.members
    is_open = len(members) == 1 and members[0].precision_open and not state.clock.batches
    return is_open and end.batches >= LEAST_BATCHES


def time_steps(
    step: Callable[[bool], None], now: Callable[[], float] = time.process_time
) -> tuple[float, float]:
    """Times several alternating steps in each precision; seconds of the fastest of each.

    Args:
        step: makes one training step; True: in bfloat16.
        now: returns the time in seconds. Processor time, because wall-clock time depends on other
            programs.

    Returns:
        of float32, of bfloat16
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
    return least[False], least[True]


def try_precisions(
    state: State, tasks: Sequence[Task], cut: Callable[[], Sequence[Batch]]
) -> PrecisionTrial | None:
    """Compares both precisions in the next step of a training, which it leaves as it was.

    Args:
        cut: returns the next batch of each run.

    Returns:
        The trial; None if the step fails in float32, or for lack of memory: the training meets
        the same error, and deals with it.
    """
    (member,) = state.learner.members
    before = state.learner.snapshot(), torch.get_rng_state(), member.bfloat16

    def step(bfloat16: bool, apply: bool = True) -> None:
        """Makes a forward pass, a backward pass and, with `apply`, an optimiser step."""
        member.bfloat16 = bfloat16
        state.learner.update(tasks, cut(), state.clock, apply=apply)

    def gradients(bfloat16: bool) -> list[Tensor | None]:
        """The gradients of the model's weights in one precision."""
        step(bfloat16, apply=False)
        found = [None if p.grad is None else p.grad.clone() for p in member.model.parameters()]
        restore()
        return found

    def restore() -> None:
        """Restores weights, optimiser, gradients and random numbers."""
        snapshot, random_state, member.bfloat16 = before
        state.learner.restore(snapshot)
        torch.set_rng_state(random_state)

    try:
        with prepared_process(member.threads, member.device, tasks[0].settings.deterministic):
            member.model.train()
            exact = gradients(False)
            try:
                agreement = _cosine(exact, gradients(True))
                _validate_in_bfloat16(member, tasks[0], cut()[0])
                return PrecisionTrial(*time_steps(step, _clock(member.device)), agreement)
            except Exception as error:
                if is_out_of_memory(error):
                    return None
                # An operation without bfloat16, or numbers of two types: it works in float32.
                return PrecisionTrial(math.nan, math.nan, math.nan, in_words(error))
    except Exception:
        return None
    finally:
        restore()


def settle_precision(
    state: State,
    tasks: Sequence[Task],
    cut: Callable[[], Sequence[Batch]],
    end: Horizon,
) -> PrecisionTrial | None:
    """Chooses the precision of a training that has not started, if the settings leave it open.

    Args:
        cut: returns the next batch of each run.
        end: of the training.

    Returns:
        The trial; None if there was no choice.
    """
    if not is_worth_a_trial(state, end):
        return None
    trial = try_precisions(state, tasks, cut)
    settle(state, trial)
    return trial


def settle(state: State, trial: PrecisionTrial | None) -> None:
    """Sets the precision of a training of one run to that which its trial chose, else float32."""
    (member,) = state.learner.members
    member.bfloat16 = trial is not None and trial.choose_bfloat16
    member.precision_open = False


def _validate_in_bfloat16(member: SoloLearner, task: Task, batch: Batch) -> None:
    """Passes a batch through the model in evaluation mode, whose operations may be others."""
    with mode_of(member.model, training=False), torch.no_grad():
        forward(member.model, task.objective, *batch, images_seen=0, bfloat16=True)


def _cosine(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> float:
    """The cosine between two gradients over the weights, where None is 0; 1 if both are 0."""
    product = lengths = others = 0.0
    for one, other in zip(first, second, strict=True):
        one, other = (None if g is None else g.double().flatten() for g in (one, other))
        lengths += 0.0 if one is None else float(one @ one)
        others += 0.0 if other is None else float(other @ other)
        product += 0.0 if one is None or other is None else float(one @ other)
    if not lengths or not others:
        return float(lengths == others)
    return product / math.sqrt(lengths * others)


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds that the device has worked: processor time; for a GPU the time when it is done."""
    if device.type == "cpu":
        return time.process_time

    def now() -> float:
        """Waits for the device."""
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return now

"""Warnings about a run whose numbers are all finite, checked at each validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.findings import Finding
from aelab.medium import medium_of
from aelab.settings import FitSettings
from aelab.train.batches import Batches
from aelab.train.bypass import bypassed_code, bypasses
from aelab.train.collapse import LATE_BATCHES, collapses
from aelab.train.evaluate import Evaluation, held_out_batches
from aelab.train.forward import Batch, ObjectiveLike, Task, forward, sums_of
from aelab.train.learner import SoloLearner
from aelab.train.mode import mode_of
from aelab.train.solver import has_solver, solver_diverges
from aelab.train.state import State
from aelab.train.tally import pixel_sums, spreads
from aelab.train.validation import validation_of
from aelab.types import Output

#: Reconstructions count as all the same if their variance over images is below this share of that
#: of the targets.
ALIKE = 0.02
#: Before this many batches running statistics are still close to their initial values.
FIRST_BATCHES = 20


class Mismatch(NamedTuple):
    """A layer whose running statistics differ from those of a batch.

    Attributes:
        layer, kind: its path and class.
        running, batch: (mean, standard deviation) of the channel that differs most.
        distance: 0 where they agree; grows with both means and deviations.
    """

    layer: str
    kind: str
    running: tuple[float, float]
    batch: tuple[float, float]
    distance: float


class _Pass(NamedTuple):
    """One batch in one mode: its mean loss, and how much its images differ; see `spreads`."""

    loss: float
    spread: float
    target_spread: float


@torch.no_grad()
def warnings_of(
    state: State,
    run: int,
    task: Task,
    held_out: Batches,
    found: Evaluation,
) -> tuple[Finding, ...]:
    """The warnings of a validation; usually empty.

    They need only values that the validation has transferred already. More batches are computed
    only where these look suspicious, or for a model with a way beside its code.
    """
    if _looks_broken(state, run, task.settings, found):
        broken = running_statistics(state, run, task, held_out)
        if broken is not None:
            return (broken,)  # a warning of the medium would only follow from it
    finding = medium_of(state.learner.members[run].model).warning(
        found.terms, found.looks, early=state.clock.batches < FIRST_BATCHES
    )
    if finding is not None:
        return (finding,)
    member = state.learner.members[run]
    beside = _bypassed(state, run, task, held_out)
    unsolved = unsolved_equations(state, run, task, held_out)
    collapsed = collapses(member.model, found.terms, found.looks, state.clock.batches)
    more = [finding for finding in (beside, unsolved) if finding is not None]
    return (*collapsed, *more)


def unsolved_equations(state: State, run: int, task: Task, held_out: Batches) -> Finding | None:
    """A warning if a model with a solver does not solve its equations, else None."""
    model = state.learner.members[run].evaluated_model
    if not has_solver(model):
        return None
    now = state.clock.images
    batch = next(held_out_batches(model, task.objective, held_out, task.settings, now))
    found = solver_diverges(model, batch)
    return None if found is None else replace(found, level="warning")


def _bypassed(state: State, run: int, task: Task, held_out: Batches) -> Finding | None:
    """A warning if the pictures of a trained model hardly need its code, else None.

    Only a model that announces a way beside its code is tried, on one batch.
    """
    model = state.learner.members[run].evaluated_model
    if not bypasses(model) or state.clock.batches < LATE_BATCHES:
        return None
    now = state.clock.images
    batch = next(held_out_batches(model, task.objective, held_out, task.settings, now))
    if len(batch.target) < 2:
        return None
    found = bypassed_code(model, task.objective, batch, now)
    return found if found.level == "warning" else None


def running_statistics(state: State, run: int, task: Task, held_out: Batches) -> Finding | None:
    """A warning if evaluation mode is broken and training mode is not, else None.

    The cause is running statistics that do not fit the data. Compares one validation batch in both
    modes, with the same noise or none and without dropout; buffers are restored.
    """
    member, now = state.learner.members[run], state.clock.images
    model = member.evaluated_model
    batch = next(held_out_batches(model, task.objective, held_out, task.settings, now))
    target = batch[1]
    if len(target) < 2 or not any(map(_has_averages, model.modules())):
        return None
    mismatches: list[Mismatch] = []
    evaluation = _one_pass(member, now, task.objective, batch, None)
    training = _one_pass(member, now, task.objective, batch, mismatches)
    alike = evaluation.spread < ALIKE * evaluation.target_spread
    revived = alike and training.spread > 10 * ALIKE * training.target_spread
    better = evaluation.loss - training.loss > abs(training.loss)
    if not mismatches or not (revived or better):
        return None
    worst = max(mismatches, key=lambda mismatch: mismatch.distance)
    picture = "; all its pictures are the same" if alike else ""
    return Finding(
        "warning",
        "evaluation-mode-broken",
        f"evaluation mode is broken: the same images give a loss of {evaluation.loss:.4g} in "
        f"evaluation mode and {training.loss:.4g} in training mode{picture}: running statistics "
        f"are off, most in '{worst.layer}' ({worst.kind}), whose channel has mean "
        f"{worst.running[0]:.3g} and deviation {worst.running[1]:.3g} there, "
        f"{worst.batch[0]:.3g} and {worst.batch[1]:.3g} in this batch",
        "larger batches, gradient_clipping: {norm: 1} or a lower learnrate keep one batch from "
        "spoiling the averages, a larger momentum forgets it sooner; normalising each image by "
        "itself needs no averages (GroupNorm, or statistics='image' where a decoder has it)",
    )


def _looks_broken(state: State, run: int, settings: FitSettings, found: Evaluation) -> bool:
    """Whether all reconstructions are the same although targets differ, or the loss doubled."""
    if validation_of(settings).training_mode or state.clock.batches < FIRST_BATCHES:
        return False
    spread, target = found.looks.get("spread"), found.looks.get("target_spread")
    if spread is not None and target is not None and spread < ALIKE * target:
        return True
    last = state.progress[run].last_loss  # of training, with the present weights
    now = found.terms.get("loss_now", found.terms["loss"])
    return last is not None and now - last > abs(last)


def _one_pass(
    member: SoloLearner,
    images_seen: int,
    objective: ObjectiveLike,
    batch: Batch,
    mismatches: list[Mismatch] | None,
) -> _Pass:
    """One pass in evaluation mode; in training mode if `mismatches` is a list, which is filled."""
    model, training = member.evaluated_model, mismatches is not None
    hooks = []
    with mode_of(model, training=training):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
            elif mismatches is not None and _has_averages(module):
                hooks.append(module.register_forward_pre_hook(_Compare(name, mismatches)))
        try:
            output, values, total = forward(
                model,
                objective,
                *batch,
                images_seen=images_seen,
                bfloat16=member.bfloat16,
            )
        finally:
            for hook in hooks:
                hook.remove()
    return _read(output, batch[1], values, total)


def _read(output: Output, target: Tensor, values: Mapping[str, Tensor], total: Tensor) -> _Pass:
    loss = sums_of(values, total)[:1] / len(target)
    if output.reconstruction.shape != target.shape:
        return _Pass(float(loss), 1.0, 1.0)
    spread = spreads(pixel_sums(output.reconstruction, target), len(target))
    return _Pass(*torch.cat([loss, spread.to(loss.dtype)]).tolist())


def _has_averages(module: nn.Module) -> bool:
    """Whether the module is a normalisation with running statistics."""
    return all(
        isinstance(getattr(module, name, None), Tensor) for name in ("running_mean", "running_var")
    )


class _Compare:
    """A hook that compares a layer's input with its running statistics."""

    def __init__(self, name: str, mismatches: list[Mismatch]) -> None:
        self._name, self._mismatches = name, mismatches

    def __call__(self, module: Any, inputs: tuple[Any, ...]) -> None:
        given = inputs[0].float()
        size = module.running_mean.numel()
        # The channel axis is 1 in images, the last one in tokens. -> (C, everything else)
        channels = given.movedim(1 if given.shape[1] == size else -1, 0).flatten(1)
        mean, variance = channels.mean(1), channels.var(1, correction=0)
        floor = getattr(module, "eps", 1e-5)  # as the layer itself adds to the variance
        apart = (mean - module.running_mean).square() / (variance + floor)
        ratio = ((variance + floor) / (module.running_var + floor)).log().abs()
        distance = (apart + ratio).nan_to_num(nan=float("inf"))
        farthest = distance.argmax()
        # One transfer for all five numbers.
        numbers = torch.stack([
            module.running_mean[farthest],
            module.running_var[farthest].sqrt(),
            mean[farthest],
            variance[farthest].sqrt(),
            distance.max(),
        ])  # fmt: skip
        running_mean, running_std, batch_mean, batch_std, most = numbers.tolist()
        kind = type(module).__name__
        self._mismatches.append(
            Mismatch(self._name, kind, (running_mean, running_std), (batch_mean, batch_std), most)
        )

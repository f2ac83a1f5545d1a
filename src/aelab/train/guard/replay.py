"""Repeats the steps from the latest good state to a failure, to find the step and the layer.

Random numbers depend on the number of images, so the steps are the same, bit for bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aelab.train.forward import Batch, forward, loss_of_step
from aelab.train.guard.diagnosis import Evidence, broken_tensors
from aelab.train.guard.finite import is_finite, non_finite_names
from aelab.train.guard.growth import Growth, Largest
from aelab.train.guard.nonfinite import LARGEST_HALF, Origin, find_in_step, quietly
from aelab.train.guard.ring import Ring
from aelab.train.learner import SoloLearner

#: Most layers and weights that are named.
MOST_NAMED = 5
#: The largest number of float32 and of bfloat16.
LARGEST_FLOAT = 3.4028234663852886e38


@dataclass(frozen=True)
class Found:
    """The result of the repetition.

    Attributes:
        images: images before the first failing step; None: no training step failed.
        short: the cause in a few words: `'decoder.7' overflowed`.
        words: the same with the operation and its numbers.
        in_float64: text on the result of the same step in float64.
        moved: measurements of the kept states and of the last one before the failure, oldest
            first; plain data for `incident.json`.
        half: whether the largest number of half precision was exceeded.
    """

    images: int | None
    short: str
    words: str
    in_float64: str = ""
    moved: list[dict[str, Any]] = field(default_factory=list)
    half: bool = False


def replay_failure(
    evidence: Evidence,
    ring: Ring,
    repeat: Callable[[], None],
    in_evaluation: Origin | None,
    said: str,
) -> Found:
    """Goes back to the newest state of the ring and repeats the steps to the failure.

    Afterwards the training is in any state; the caller must restore one.

    Args:
        evidence: evidence of the run at its failure.
        ring: a ring with at least one state.
        repeat: makes the next step.
        in_evaluation: the origin in evaluation mode, if there is one.
        said: the original message, for a failure that no step shows.
    """
    state, until = evidence.state, evidence.state.clock.images
    growth = Growth(evidence, ring, repeat)
    growth.follow()
    state.restore(ring.newest.snapshot)
    before = state.snapshot()
    while state.clock.images < until:
        before = state.snapshot()
        growth.look()
        repeat()
        if _is_sound(evidence):
            continue
        state.restore(before)
        images = state.clock.images
        short, words, half = _cause_of_step(evidence, growth, repeat)
        state.restore(before)
        told = _in_float64(evidence)
        return Found(images, short, words, told, _moved(evidence, ring, before), half)
    growth.look()
    last = _moved(evidence, ring, before)
    if in_evaluation is not None:
        short = f"{in_evaluation.short()} in evaluation mode"
        if grown := growth.words(in_evaluation.value):
            short = f"{grown}, until {short}"
        words = f"in evaluation mode {in_evaluation.words()}; in training mode all is finite"
        return Found(None, short, words, "", last, in_evaluation.half)
    if grown := growth.words("infinity", passed=True):
        said = f"{grown} ({said})"
    return Found(None, said, f"{said}; every number was finite", "", last)


def _is_sound(evidence: Evidence) -> bool:
    """Whether losses since the last log, weights, buffers and optimiser states are finite."""
    window = evidence.state.window
    member = evidence.state.learner.members[evidence.run]
    sums = [] if window.sums is None else [window.sums]
    # The norm of very large numbers is also infinite, so each tensor is checked then.
    weights = bool(member.finite().all()) or not broken_tensors(member)
    return is_finite(sums) and weights and not broken_slots(member)


def _cause_of_step(
    evidence: Evidence, growth: Growth, repeat: Callable[[], None]
) -> tuple[str, str, bool]:
    """The cause in a few words, in more words, and whether half precision is the cause."""
    state, task = evidence.state, evidence.task
    member = state.learner.members[evidence.run]
    batch, before = evidence.training(), state.snapshot()
    origin = quietly(
        lambda: find_in_step(
            member.model, task.objective, batch, state.clock.images, bfloat16=member.bfloat16
        )
    )
    if origin is not None:
        short = origin.short()
        value = "infinity" if origin.layer is None else origin.value
        if grown := growth.words(value):
            short = f"{grown}, until {short}"  # the last overflow need not be the cause
        return short, origin.words(), origin.half
    weights = [p for player in member.players for p in player.model.parameters()]
    gradients = [p.grad.detach() for p in weights if p.grad is not None]
    grown = f"{words}, until " if (words := growth.words("infinity")) else ""
    largest = max((float(gradient.abs().max()) for gradient in gradients), default=0.0)
    state.restore(before)
    repeat()
    names = non_finite_names(member.watched_weights())
    names += non_finite_names(member.watched_buffers())
    names += broken_slots(member)
    layer = names[0] if names else "a weight"
    return (
        f"{grown}'{layer}' overflowed in the optimiser's step",
        f"loss and gradients are finite (up to {largest:.3g}); after the optimiser's step with a "
        f"learning rate of {member.learnrate:g} '{layer}' is not"
        + (f", nor are {len(names) - 1} others" if len(names) > 1 else ""),
        False,
    )


def _in_float64(evidence: Evidence) -> str:
    """Text on the result of the step in float64; empty if it cannot be tried."""
    member, task = evidence.state.learner.members[evidence.run], evidence.task
    try:
        model, objective = copy.deepcopy((member.model, task.objective))  # which may share modules
        model.double()
        for part in (
            (objective, *vars(objective).values()) if hasattr(objective, "__dict__") else ()
        ):
            if isinstance(part, nn.Module):
                part.double()
        batch = Batch(*evidence.training()).changed(
            lambda tensor: tensor.double() if tensor.is_floating_point() else tensor
        )
        _, values, total = forward(
            model, objective, *batch, images_seen=evidence.state.clock.images
        )
        (loss_of_step(objective, values, total) / len(total)).backward()  # type: ignore[no-untyped-call]
        total = total.detach()
    except Exception as error:  # a device without float64, or user code that needs float32
        return f"the step could not be repeated in float64 ({type(error).__name__})"
    networks = (model, *getattr(objective, "players", {}).values())
    gradients = [p.grad for net in networks for p in net.parameters() if p.grad is not None]
    if not is_finite([total, *gradients]):
        return "in float64 the same step is not finite either: precision is not the cause"
    most = max([float(total.abs().max()), *(float(g.detach().abs().max()) for g in gradients)])
    words = f"in float64 the same step is finite: loss {float(total.mean()):.4g}"
    if most > LARGEST_FLOAT:
        return f"{words}, numbers up to {most:.3g}, beyond {LARGEST_FLOAT:.2g}, the largest float32"
    return f"{words}, largest gradient or loss {most:.3g}: a matter of precision or of range"


def _moved(evidence: Evidence, ring: Ring, last: Any) -> list[dict[str, Any]]:
    """Measurements of the kept states and of the last one before the failure, oldest first."""
    state, rows = evidence.state, []
    snapshots = [kept.snapshot for kept in ring.states]
    if not any(last is snapshot for snapshot in snapshots):
        snapshots.append(last)
    for snapshot in snapshots:
        state.restore(snapshot)
        with Largest(state.learner.members[evidence.run].model) as largest:
            rows.append(_measured(evidence, largest))
    unique = {row["images"]: row for row in rows}
    return [unique[images] for images in sorted(unique)]


def _measured(evidence: Evidence, largest: Largest) -> dict[str, Any]:
    """Measurements of one state on its next training batch."""
    state = evidence.state
    member = state.learner.members[evidence.run]
    row: dict[str, Any] = {"images": state.clock.images, "learnrate": member.learnrate}
    member.model.train()
    member.model.zero_grad(set_to_none=True)
    try:
        _, _, total = forward(
            member.model,
            evidence.task.objective,
            *evidence.training(),
            images_seen=state.clock.images,
            bfloat16=member.bfloat16,
        )
        total.mean().backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        row["note"] = f"one more batch raises {type(error).__name__}"
    else:
        row["loss"] = float(total.detach().mean())
        row["gradient_norm"] = _norm([p.grad for p in member.model.parameters()])
    row["largest_output"] = largest.most()
    row["largest_in_half"] = row["largest_output"][1] > LARGEST_HALF
    norms = {name: _norm([p]) for name, p in member.model.named_parameters()}
    row["weight_norms"] = norms
    return row


def _norm(tensors: list[Any]) -> float:
    squares = [float(t.detach().double().square().sum()) for t in tensors if t is not None]
    return float(sum(squares) ** 0.5)


def named_growth(moved: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """The weights whose norm grew most from the oldest row to the newest: name, then, now."""
    if len(moved) < 2:
        return []
    first, last = moved[0]["weight_norms"], moved[-1]["weight_norms"]

    def ratio(name: str) -> float:
        """The factor of growth; NaN counts as infinite."""
        grown = last[name] / (first.get(name, 0.0) + 1e-12)
        return float("inf") if grown != grown else float(grown)

    names = sorted(last, key=ratio, reverse=True)[:MOST_NAMED]
    return [(name, first.get(name, 0.0), last[name]) for name in names]


def broken_slots(member: SoloLearner) -> list[str]:
    """Text on non-finite optimiser states, in which squares overflow first.

    Adam then divides by infinity: the weights stop changing, and nothing else shows it.
    """
    slots = dict(member.slots())
    bad = [name for name, norm in norms_of(slots).items() if not math.isfinite(norm)]
    return non_finite_names((name, slots[name]) for name in bad)


def norms_of(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The norm of each tensor, in one transfer from the device."""
    if not tensors:
        return {}
    found = torch._foreach_norm(list(tensors.values()))
    stacked = torch.stack([norm.float() for norm in found]).tolist()
    return dict(zip(tensors, stacked, strict=True))

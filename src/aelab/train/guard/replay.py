"""Repeats the steps from the latest good state to a failure, to find the step and the layer.

Random numbers depend on the number of images, so the steps are the same, bit for bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aelab.train.evaluate import held_out_batches, mode_of
from aelab.train.forward import Batch, forward
from aelab.train.guard.diagnosis import Evidence, broken_tensors
from aelab.train.guard.finite import is_finite, non_finite_names, tensors_in
from aelab.train.guard.nonfinite import LARGEST_HALF, Origin, find_in_step, quietly
from aelab.train.guard.ring import Ring
from aelab.train.learner import SoloLearner

#: Most layers and weights that are named.
MOST_NAMED = 5
#: Numbers count as grown if they are this many times as large as in the oldest kept state.
GROWN_MUCH = 20.0
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
    growth = _Growth(evidence, ring)
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
        if growth.words and in_evaluation.value == "infinity":
            short = f"{growth.words}, until {short}"
        words = f"in evaluation mode {in_evaluation.words()}; in training mode all is finite"
        return Found(None, short, words, "", last, in_evaluation.half)
    said = f"{growth.words} ({said})" if growth.words else said
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
    evidence: Evidence, growth: _Growth, repeat: Callable[[], None]
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
        if growth.words and (origin.layer is None or origin.value == "infinity"):
            short = f"{growth.words}, until {short}"  # the last overflow need not be the cause
        return short, origin.words(), origin.half
    gradients = [p.grad.detach() for p in member.model.parameters() if p.grad is not None]
    largest = max((float(gradient.abs().max()) for gradient in gradients), default=0.0)
    state.restore(before)
    repeat()
    names = non_finite_names(member.model.named_parameters())
    names += non_finite_names(member.watched_buffers())
    names += broken_slots(member)
    layer = names[0] if names else "a weight"
    grown = f"{growth.words}, until " if growth.words else ""
    return (
        f"{grown}'{layer}' overflowed in the optimiser's step",
        f"loss and gradients are finite (up to {largest:.3g}); after the optimiser's step with a "
        f"learning rate of {member.learnrate:g} '{layer}' is not"
        + (f", nor are {len(names) - 1} others" if len(names) > 1 else ""),
        False,
    )


class _Growth:
    """Records where numbers first grew much since the oldest kept state.

    Growth in one layer spreads: for outputs to the layers after it, for gradients to those before
    it. So the cause is the first layer that grew much, or for gradients the last.

    Attributes:
        words: text `'decoder.7' grew 31,000-fold`; empty while nothing grew.
    """

    def __init__(self, evidence: Evidence, ring: Ring) -> None:
        self._evidence, self.words = evidence, ""
        evidence.state.restore(ring.states[0].snapshot)
        self._first = self._reaches()

    def _reaches(self) -> _Reaches | None:
        try:
            return _reaches(self._evidence)
        except Exception:  # the user's code may fail on such numbers
            return None

    def look(self) -> None:
        """Measures the present state, unless something grew before; restores the state."""
        if self.words or self._first is None:
            return
        present = self._evidence.state.snapshot()
        found = self._reaches()
        self._evidence.state.restore(present)
        if found is None:
            return
        for kind, (then, now) in enumerate(zip(self._first, found, strict=True)):
            ratios = {name: now[name] / then[name] for name in now if then.get(name, 0.0) > 0}
            ratios = {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}
            most = max(ratios.values(), default=0.0)
            if most < GROWN_MUCH:
                continue
            far = [name for name, ratio in ratios.items() if ratio >= most**0.5]
            name = far[-1] if kind == 2 else far[0]
            self.words = _KINDS[kind].format(name, _times(ratios[name]))
            return


#: Texts for outputs in training, in evaluation, and for gradients: (layer, factor).
_KINDS = ("'{}' grew {}-fold", "'{}' grew {}-fold in evaluation mode",
          "the gradient of '{}' grew {}-fold")  # fmt: skip
_Reaches = tuple[dict[str, float], dict[str, float], dict[str, float]]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.2g}"


def _reaches(evidence: Evidence) -> _Reaches:
    """The largest output of each layer in training and in evaluation mode, and of each gradient."""
    state, task = evidence.state, evidence.task
    member, images = state.learner.members[evidence.run], state.clock.images
    member.model.zero_grad(set_to_none=True)
    batch = evidence.training()
    with mode_of(member.model, training=True), _Largest(member.model) as training:
        hooks = [_Gradients(name, module) for name, module in _leaves(member.model)]
        _, _, total = forward(
            member.model, task.objective, *batch, images_seen=images, bfloat16=member.bfloat16
        )
        total.mean().backward()  # type: ignore[no-untyped-call]
        for hook in hooks:
            hook.handle.remove()
    reached = {hook.name: hook.largest() for hook in hooks}
    gradients = {name: reached[name] for name in training.found if reached[name]}
    held_out = evidence.held_out()
    evaluated = member.evaluated_model
    with torch.no_grad(), mode_of(evaluated, training=False), _Largest(evaluated) as evaluation:
        if held_out is not None:
            batch = next(
                held_out_batches(evaluated, task.objective, held_out, task.settings, images)
            )
            forward(evaluated, task.objective, *batch, images_seen=images, bfloat16=member.bfloat16)
    return training.found, evaluation.found, gradients


class _Gradients:
    """A hook on a layer that records the largest gradient of its inputs and weights."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self._module, self._reach = name, module, 0.0
        self.handle = module.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        for tensor in tensors_in(inputs):
            if tensor.requires_grad:
                tensor.register_hook(self._note)  # type: ignore[no-untyped-call]

    def _note(self, gradient: Tensor) -> None:
        self._reach = max(self._reach, _reach(gradient))

    def largest(self) -> float:
        """The larger of both, after the backward pass."""
        own = [_reach(p.grad) for p in self._module.parameters() if p.grad is not None]
        return max([self._reach, *own])


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if not list(m.children()))


def _in_float64(evidence: Evidence) -> str:
    """Text on the result of the step in float64; empty if it cannot be tried."""
    member, task = evidence.state.learner.members[evidence.run], evidence.task
    try:
        model = copy.deepcopy(member.model).double()
        objective = copy.deepcopy(task.objective)
        for part in (
            (objective, *vars(objective).values()) if hasattr(objective, "__dict__") else ()
        ):
            if isinstance(part, nn.Module):
                part.double()
        batch: Batch = tuple(  # type: ignore[assignment]
            t.double() if isinstance(t, Tensor) and t.is_floating_point() else t
            for t in evidence.training()
        )
        _, _, total = forward(model, objective, *batch, images_seen=evidence.state.clock.images)
        total.mean().backward()  # type: ignore[no-untyped-call]
        total = total.detach()
    except Exception as error:  # a device without float64, or user code that needs float32
        return f"the step could not be repeated in float64 ({type(error).__name__})"
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
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
        with _Largest(state.learner.members[evidence.run].model) as largest:
            rows.append(_measured(evidence, largest))
    unique = {row["images"]: row for row in rows}
    return [unique[images] for images in sorted(unique)]


def _measured(evidence: Evidence, largest: _Largest) -> dict[str, Any]:
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


def _reach(tensor: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    return float(tensor.detach().abs().nan_to_num(nan=float("inf"), posinf=float("inf")).max())


class _Largest:
    """Context manager: records the largest output of each layer."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.found: dict[str, float] = {}

    def __enter__(self) -> _Largest:
        self._hooks = [
            module.register_forward_hook(self._noting(name))
            for name, module in _leaves(self._model)
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _noting(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            """The largest magnitude of this layer's output."""
            found = [_reach(tensor) for tensor in tensors_in(output) if tensor.numel()]
            self.found[name] = max([self.found.get(name, 0.0), *found])

        return note

    def most(self) -> tuple[str, float]:
        """The layer with the largest number, and that number."""
        if not self.found:
            return "", 0.0
        name = max(self.found, key=lambda name: self.found[name])
        return name, self.found[name]


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

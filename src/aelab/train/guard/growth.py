"""Finds the layer whose numbers grew first, before they overflowed somewhere else.

Growth in one layer spreads within few steps: for outputs to the layers after it, for gradients to
those before it, and through the weights everywhere. So the steps since the oldest kept state are
repeated and measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.train.evaluate import held_out_batches, mode_of
from aelab.train.forward import forward
from aelab.train.guard.diagnosis import Evidence
from aelab.train.guard.finite import tensors_in
from aelab.train.guard.ring import Kept, Ring

#: Numbers count as grown if they are this many times as large as in the oldest kept state.
GROWN_MUCH = 20.0
#: Growth by less than this does not explain a NaN: a NaN comes of infinities, which are far away.
GROWN_FAR = 1e3
#: Between two kept states the numbers are measured this many times, and then step by step where
#: they grew. A measurement costs about two steps.
LOOKS = 25


class _Grown(NamedTuple):
    """A layer, the kind of its numbers (an index of `_KINDS`), and their factor."""

    layer: str
    kind: int
    factor: float


class Growth:
    """Records where numbers first grew much since the oldest kept state.

    Args:
        evidence: of the run.
        ring: with at least one state.
        repeat: makes the next step.
    """

    def __init__(self, evidence: Evidence, ring: Ring, repeat: Callable[[], None]) -> None:
        self._evidence, self._ring, self._repeat = evidence, ring, repeat
        self._found: _Grown | None = None
        evidence.state.restore(ring.states[0].snapshot)
        self._first = self._reaches()

    def follow(self) -> None:
        """Looks for growth in the newest kept state, and from the oldest on for its beginning.

        Leaves any state.
        """
        self._evidence.state.restore(self._ring.newest.snapshot)
        late = self._measured()
        if late is None:  # the usual case: whatever grows does so in the steps that follow
            return
        for kept, following in itertools.pairwise(self._ring.states):
            if self._found is None:
                self._between(kept, following)
        self._found = self._found or late

    def look(self) -> None:
        """Measures the present state, unless something grew before; restores the state."""
        if self._found is None:
            self._found = self._measured()

    def words(self, value: str) -> str:
        """Text `'decoder.7' grew 31,000-fold` in the present state, or empty.

        Args:
            value: what it shall explain, `NaN` or `infinity`.
        """
        if self._found is None:
            return ""
        layer, kind, factor = self._found
        present = self._evidence.state.snapshot()
        now = self._reaches()
        self._evidence.state.restore(present)
        ratio = math.inf
        if now is not None and self._first is not None:
            ratio = _ratios(self._first[kind], now[kind]).get(layer, math.inf)
        if value == "NaN" and max(factor, ratio) < GROWN_FAR:
            return ""
        factor = max(factor, ratio) if math.isfinite(ratio) else factor
        return _KINDS[kind].format(layer, f"{factor:,.0f}" if factor < 1e6 else f"{factor:.2g}")

    def _between(self, kept: Kept, following: Kept) -> None:
        """Measures a few states between two kept ones, then each of those where numbers grew."""
        every = max(1, (following.batches - kept.batches) // LOOKS)
        before = self._walked(kept.snapshot, following, every)
        if self._found is not None and every > 1:
            coarse, self._found = self._found, None
            self._walked(before, following, 1)
            self._found = self._found or coarse

    def _walked(self, snapshot: Any, following: Kept, every: int) -> Any:
        """Repeats steps from a state until numbers have grown; returns the state before that."""
        state = self._evidence.state
        state.restore(snapshot)
        number = 0
        while self._found is None and state.clock.images < following.images:
            if number % every == 0:
                self.look()
                if self._found is not None:
                    break
                snapshot = state.snapshot()
            try:
                self._repeat()
            except Exception:  # other than it was: a schedule had reacted to a validation
                return snapshot
            number += 1
        if self._found is None:
            state.restore(following.snapshot)
            self.look()
        return snapshot

    def _measured(self) -> _Grown | None:
        if self._first is None:
            return None
        present = self._evidence.state.snapshot()
        found = self._reaches()
        self._evidence.state.restore(present)
        if found is None:
            return None
        for kind, (then, now) in enumerate(zip(self._first, found, strict=True)):
            ratios = _ratios(then, now)
            grown = sorted(ratio for ratio in ratios.values() if ratio >= GROWN_MUCH)
            if not grown:
                continue
            # Where growth has spread before it was seen, its origin is far beyond the others.
            limit = max(GROWN_MUCH, grown[len(grown) // 2] ** 0.5)
            far = [name for name, ratio in ratios.items() if ratio >= limit]
            # The first layer that grew much, or for gradients the last.
            name = far[-1] if kind == 2 else far[0]
            return _Grown(name, kind, ratios[name])
        return None

    def _reaches(self) -> _Reaches | None:
        try:
            return _reaches(self._evidence)
        except Exception:  # the user's code may fail on such numbers
            return None


#: Texts for outputs in training, in evaluation, and for gradients: (layer, factor).
_KINDS = ("'{}' grew {}-fold", "'{}' grew {}-fold in evaluation mode",
          "the gradient of '{}' grew {}-fold")  # fmt: skip
_Reaches = tuple[dict[str, float], dict[str, float], dict[str, float]]


def _reaches(evidence: Evidence) -> _Reaches:
    """The largest output of each layer in training and in evaluation mode, and of each gradient."""
    state, task = evidence.state, evidence.task
    member, images = state.learner.members[evidence.run], state.clock.images
    member.model.zero_grad(set_to_none=True)
    batch = evidence.training()
    with mode_of(member.model, training=True), Largest(member.model) as training:
        gradients = _Gradients(member.model)
        _, _, total = forward(
            member.model, task.objective, *batch, images_seen=images, bfloat16=member.bfloat16
        )
        total.mean().backward()  # type: ignore[no-untyped-call]
        reached = gradients.found()
    held_out = evidence.held_out()
    evaluated = member.evaluated_model
    with torch.no_grad(), mode_of(evaluated, training=False), Largest(evaluated) as evaluation:
        if held_out is not None:
            batch = next(
                held_out_batches(evaluated, task.objective, held_out, task.settings, images)
            )
            forward(evaluated, task.objective, *batch, images_seen=images, bfloat16=member.bfloat16)
    return training.found, evaluation.found, reached


class _Gradients:
    """Records the largest gradient of each layer's inputs and weights, call by call."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = dict(_leaves(model))
        self._calls: list[tuple[str, list[float]]] = []
        self._hooks = [
            layer.register_forward_hook(self._noting(name)) for name, layer in self._layers.items()
        ]

    def _noting(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            """One call of this layer."""
            reached: list[float] = []
            self._calls.append((name, reached))
            for tensor in tensors_in(inputs):
                if tensor.requires_grad:
                    tensor.register_hook(  # type: ignore[no-untyped-call]
                        lambda gradient: reached.append(_reach(gradient))
                    )

        return note

    def found(self) -> dict[str, float]:
        """The largest gradient by name after the backward pass, in the order of the forward pass.

        A layer that was called several times has the place of the call with the largest one.
        """
        for hook in self._hooks:
            hook.remove()
        largest: dict[str, float] = {}
        for name, reached in self._calls:
            most = max(reached, default=0.0)
            if most >= largest.get(name, 0.0):
                largest.pop(name, None)
                largest[name] = most
        for name in largest:
            weights = self._layers[name].parameters()
            own = [_reach(p.grad) for p in weights if p.grad is not None]
            largest[name] = max([largest[name], *own])
        return {name: most for name, most in largest.items() if most}


def _ratios(then: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """The finite factors of growth, in the order of `now`.

    A layer that starts with zeros, or a bias before a normalisation, has a gradient of rounding
    errors at most, whose growth means nothing. So the least numbers count as the median.
    """
    known = sorted(value for value in then.values() if value > 0)
    median = known[len(known) // 2] if known else 1.0
    before = {name: then.get(name, 0.0) for name in now}
    least = 1e-3 * median
    ratios = {n: now[n] / (value if value > least else median) for n, value in before.items()}
    return {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if not list(m.children()))


def _reach(tensor: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    return float(tensor.detach().abs().nan_to_num(nan=float("inf"), posinf=float("inf")).max())


class Largest:
    """Context manager: records the largest output of each layer, in the order of the calls."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.found: dict[str, float] = {}

    def __enter__(self) -> Largest:
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
            most = max(found, default=0.0)
            if most >= self.found.get(name, 0.0):  # the place of the call with the largest one
                self.found.pop(name, None)
                self.found[name] = most

        return note

    def most(self) -> tuple[str, float]:
        """The layer with the largest number, and that number."""
        if not self.found:
            return "", 0.0
        name = max(self.found, key=lambda name: self.found[name])
        return name, self.found[name]

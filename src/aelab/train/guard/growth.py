"""Finds the layer whose numbers grew first, before they overflowed somewhere else.

Growth in one layer spreads within few steps: for outputs to the layers after it, for gradients to
those before it, and through the weights everywhere. So the steps since the oldest kept state are
repeated and measured.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
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
#: Of all layers of which one has grown so, the origin is the first that has grown this much.
ORIGIN = 10.0
#: Steps after the oldest kept state whose numbers count as usual, too.
FIRST_STEPS = 3
#: A gradient is small at this share of the median.
SMALL = 1e-2
#: Growth by less than this does not explain a NaN: a NaN comes of infinities, which are far away.
GROWN_FAR = 1e3
#: Between two kept states the numbers are measured this many times, and then step by step where
#: they grew. A measurement costs about two steps.
LOOKS = 25


#: A call of a layer: its name, and how many calls of it came before in the same pass.
_Call = tuple[str, int]
_Reach = dict[_Call, float]


class _Grown(NamedTuple):
    """A call of a layer, the kind of its numbers (an index of `_KINDS`), and their factor."""

    call: _Call
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
        self._first = self._usual()

    def _usual(self) -> _Reaches | None:
        """The largest numbers of the oldest kept state and of the first steps from there.

        The very first state is not enough: where layers start with zeros, all gradients do.
        """
        state, kept = self._evidence.state, self._ring.states
        state.restore(kept[0].snapshot)
        usual = self._reaches()
        until = kept[1].images if len(kept) > 1 else state.clock.images
        for _ in range(FIRST_STEPS):
            if usual is None or state.clock.images >= until:
                break
            try:
                self._repeat()
            except Exception:  # other than it was: a schedule had reacted to a validation
                break
            present = state.snapshot()
            found = self._reaches()
            state.restore(present)
            if found is None:
                break
            for before, now in zip(usual, found, strict=True):
                before.update({call: max(now[call], reach) for call, reach in before.items()})
        return usual

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
        call, kind, factor = self._found
        present = self._evidence.state.snapshot()
        now = self._reaches()
        self._evidence.state.restore(present)
        ratio = math.inf
        if now is not None and self._first is not None:
            ratios = _ratios(self._first[kind], now[kind], of_gradients=kind == GRADIENTS)
            ratio = ratios.get(call, math.inf)
        if value == "NaN" and max(factor, ratio) < GROWN_FAR:
            return ""
        factor = max(factor, ratio) if math.isfinite(ratio) else factor
        return _KINDS[kind].format(call[0], f"{factor:,.0f}" if factor < 1e6 else f"{factor:.2g}")

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
            ratios = _ratios(then, now, of_gradients=kind == GRADIENTS)
            if max(ratios.values(), default=0.0) < GROWN_MUCH:
                continue
            far = [call for call, ratio in ratios.items() if ratio >= ORIGIN]
            # The first layer that grew much, or for gradients the last.
            call = far[-1] if kind == GRADIENTS else far[0]
            return _Grown(call, kind, ratios[call])
        return None

    def _reaches(self) -> _Reaches | None:
        try:
            return _reaches(self._evidence)
        except Exception:  # the user's code may fail on such numbers
            return None


#: Texts for outputs in training, in evaluation, and for gradients: (layer, factor).
_KINDS = ("'{}' grew {}-fold", "'{}' grew {}-fold in evaluation mode",
          "the gradient of '{}' grew {}-fold")  # fmt: skip
_Reaches = tuple[_Reach, _Reach, _Reach]
GRADIENTS = 2


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
        self._calls: list[tuple[_Call, list[float]]] = []
        self._count: Counter[str] = Counter()
        self._hooks = [
            layer.register_forward_pre_hook(self._noting(name))
            for name, layer in self._layers.items()
        ]

    def _noting(self, name: str) -> Callable[..., Any]:
        def note(module: nn.Module, inputs: Any) -> Any:
            """One call of this layer, which gets inputs of its own: others may share them."""
            reached: list[float] = []
            self._calls.append(((name, self._count[name]), reached))
            self._count[name] += 1
            return tuple(own(value, reached) for value in inputs)

        def own(value: Any, reached: list[float]) -> Any:
            """A copy that records its gradient."""
            if not (isinstance(value, Tensor) and value.requires_grad):
                return value
            copied = value.clone()
            copied.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: reached.append(_reach(gradient))
            )
            return copied

        return note

    def found(self) -> _Reach:
        """The largest gradient of each call after the backward pass, in their order."""
        for hook in self._hooks:
            hook.remove()
        largest = {call: max(reached, default=0.0) for call, reached in self._calls}
        for name, calls in self._count.items():
            weights = self._layers[name].parameters()
            own = [_reach(p.grad) for p in weights if p.grad is not None]
            # The gradient of a weight is that of all calls; most layers have one.
            most = max(((name, number) for number in range(calls)), key=largest.__getitem__)
            largest[most] = max([largest[most], *own])
        return largest


def _ratios(then: _Reach, now: _Reach, *, of_gradients: bool) -> _Reach:
    """The finite factors of growth, in the order of `now`.

    A layer that starts with zeros, or a bias before a normalisation, has a gradient of rounding
    errors at most, whose growth means nothing. So small gradients count as the largest.
    """
    known = sorted(value for value in then.values() if value > 0)
    if not known:
        return {}
    least = (SMALL if of_gradients else 1e-6) * known[len(known) // 2]
    before = {call: value if value > least else known[-1] for call, value in then.items()}
    ratios = {call: value / before[call] for call, value in now.items() if call in before}
    return {call: ratio for call, ratio in ratios.items() if math.isfinite(ratio)}


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if not list(m.children()))


def _reach(tensor: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    return float(tensor.detach().abs().nan_to_num(nan=float("inf"), posinf=float("inf")).max())


class Largest:
    """Context manager: records the largest output of each call of a layer, in their order."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.found: _Reach = {}
        self._count: Counter[str] = Counter()

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
            """The largest magnitude of this call's output."""
            found = [_reach(tensor) for tensor in tensors_in(output) if tensor.numel()]
            self.found[name, self._count[name]] = max(found, default=0.0)
            self._count[name] += 1

        return note

    def most(self) -> tuple[str, float]:
        """The layer with the largest number, and that number."""
        if not self.found:
            return "", 0.0
        call = max(self.found, key=lambda call: self.found[call])
        return call[0], self.found[call]

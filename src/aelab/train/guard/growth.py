"""Finds the layer whose numbers grew first, before they overflowed somewhere else.

Growth in one layer spreads within few steps: for outputs to the layers after it, for gradients to
those before it, and through the weights everywhere. So the steps since the oldest kept state are
repeated and measured. Of all layers with grown numbers the origin is the one whose gain grew most:
what it gives against what it takes. The others take grown numbers and pass them on.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.ops.layers import leaves
from aelab.train.evaluate import held_out_batches
from aelab.train.forward import forward
from aelab.train.guard.diagnosis import Evidence
from aelab.train.guard.finite import tensors_in
from aelab.train.guard.ring import Ring
from aelab.train.mode import mode_of

#: Numbers count as grown if they are this many times as large as in the oldest kept state.
GROWN_MUCH = 20.0
#: The gain of the origin has grown this much; so many times less than the most is about as much. If
#: no gain has, the origin is the first layer that grew this much, or for gradients the last.
ORIGIN = 10.0
#: Steps after the oldest kept state whose numbers count as usual, too.
FIRST_STEPS = 3
#: A gradient, an input or a gain is small at this share of the median.
SMALL = 1e-2
#: An output is small at this share of the median: activations differ more than gradients.
SMALL_OUTPUT = 1e-4
#: The least gradient that counts as one; below, float32 loses digits.
TINY = 1e-30
#: Growth by less than this does not explain a NaN: a NaN comes of infinities, which are far away.
#: Nor does it last in any case: gradients of a sound training may be large for some batches.
GROWN_FAR = 1e3
#: Between two kept states the numbers are measured this many times, and then step by step where
#: they grew. A measurement costs about two steps.
LOOKS = 25


#: A call of a layer: its name, and how many calls of it came before in the same pass.
_Call = tuple[str, int]


class _Size(NamedTuple):
    """The largest magnitudes of a call of a layer.

    Attributes:
        given: of its outputs; or of the gradients of its inputs and weights.
        taken: of its inputs; or of the gradients of its outputs. 1 if it takes no numbers.
    """

    given: float
    taken: float


_Reach = dict[_Call, _Size]


class _Grown(NamedTuple):
    """What grew: a call of a layer.

    Attributes:
        call: of the layer.
        kind: of its numbers, an index of `_KINDS`.
        factor: by which they grew.
        of_gain: whether its gain grew, or only its numbers.
    """

    call: _Call
    kind: int
    factor: float
    of_gain: bool


class _Place(NamedTuple):
    """A state from which steps are repeated, up to when, and every how many are measured."""

    snapshot: Any
    until_images: int
    every: int


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
        self._passed: _Grown | None = None  # the newest outputs that grew and are usual again
        self._usual_looks = 0  # in a row, after something had grown
        self._first = self._usual()

    def _usual(self) -> list[_Reaches]:
        """The largest numbers of the oldest kept state and of the first steps from there.

        The very first state is not enough: where layers start with zeros, all gradients do. Empty
        if they cannot be measured.
        """
        state, kept = self._evidence.state, self._ring.states
        state.restore(kept[0].snapshot)
        first = self._reaches()
        usual = [] if first is None else [first]
        until = kept[1].images if len(kept) > 1 else state.clock.images
        for _ in range(FIRST_STEPS):
            if not usual or state.clock.images >= until:
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
            usual.append(found)
        return usual

    def follow(self) -> None:
        """Looks for growth in the newest kept state, and from the oldest on for its beginning.

        Leaves any state.
        """
        state, ring = self._evidence.state, self._ring.states
        state.restore(ring[-1].snapshot)
        self.look()
        late, self._found = self._found, None
        if late is None:  # the usual case: whatever grows does so in the steps that follow
            return
        sound: _Place | None = None
        for kept, following in itertools.pairwise(ring):
            every = max(1, (following.batches - kept.batches) // LOOKS)
            sound = self._walked(_Place(kept.snapshot, following.images, every), sound)
        if sound is not None and (self._found is None or sound.every > 1):
            coarse, self._found = self._found, None
            self._walked(sound._replace(every=1), None)
            self._found = self._found or coarse
        self._found = self._found or late

    def look(self) -> None:
        """Measures the present state, and restores it: is the growth new, going on, or over?

        A large gradient that passes, as those of some batches do, is not what ended a run. Outputs
        that grew can change all weights in one step and be small after it: they are the origin of
        what is large then, and forgotten only if all is as usual twice.
        """
        if self._found is not None and self._found.factor >= GROWN_FAR:
            return
        present = self._evidence.state.snapshot()
        now = self._reaches() if self._first else None
        self._evidence.state.restore(present)
        if now is None:
            return
        found = self._going_on(now) or self._grown(now)
        self._usual_looks = 0 if found else self._usual_looks + 1
        before = self._found
        is_kept = (
            before is not None
            and before.kind != GRADIENTS
            and (self._usual_looks == 1 if found is None else found.call != before.call)
        )
        if not is_kept:
            if before is not None and before.kind != GRADIENTS:
                self._passed = before
            self._found = found

    def words(self, value: str, *, passed: bool = False) -> str:
        """Text `'decoder.7' grew 31,000-fold` in the present state, or empty.

        Args:
            value: what it shall explain, `NaN` or `infinity`.
            passed: it may be over: a mean loss of many steps shows what one of them did.
        """
        found = self._found or (self._passed if passed else None)
        if found is None:
            return ""
        call, kind, factor, _ = found
        present = self._evidence.state.snapshot()
        now = self._reaches()
        self._evidence.state.restore(present)
        ratio = math.inf
        if now is not None:
            ratio = _ratios(self._then(kind), now[kind], kind).get(call, math.inf)
        if value == "NaN" and max(factor, ratio) < GROWN_FAR:
            return ""
        factor = max(factor, ratio) if math.isfinite(ratio) else factor
        return _KINDS[kind].format(call[0], f"{factor:,.0f}" if factor < 1e6 else f"{factor:.2g}")

    def _walked(self, place: _Place, sound: _Place | None) -> _Place | None:
        """Repeats steps and looks at them; returns the last place without growth, or `sound`."""
        state = self._evidence.state
        state.restore(place.snapshot)
        for number in itertools.count():
            if state.clock.images >= place.until_images:
                break
            if number % place.every == 0:
                self.look()
                if self._found is None:
                    sound = place._replace(snapshot=state.snapshot())
            try:
                self._repeat()
            except Exception:  # other than it was: a schedule had reacted to a validation
                break
        return sound

    def _then(self, kind: int) -> list[_Reach]:
        return [reaches[kind] for reaches in self._first]

    def _going_on(self, now: _Reaches) -> _Grown | None:
        """What had grown, if it still has; what overflowed has, too."""
        if self._found is None:
            return None
        call, kind, most, of_gain = self._found
        then, reach = self._then(kind), now[kind]
        factors = (_gains if of_gain else _ratios)(then, reach, kind)
        factor = factors.get(call, most)
        if factor < ORIGIN:
            return None
        return self._found._replace(factor=max(factor, most)) if factor < math.inf else self._found

    def _grown(self, now: _Reaches) -> _Grown | None:
        """What has grown: of the first kind of numbers of which one is far from usual."""
        for kind, reach in enumerate(now):
            ratios = _ratios(self._then(kind), reach, kind)
            if max(ratios.values(), default=0.0) < GROWN_MUCH:
                continue
            gains = _gains(self._then(kind), reach, kind)
            if kind != GRADIENTS:
                gains = self._of_usual_inputs(gains, reach, kind) or gains
            most = max(gains.values(), default=0.0)
            # A gain grows of large inputs, too, as that of a leaky ReLU does by their sign. So of
            # outputs that grew about as much it is the first one.
            least = most if kind == GRADIENTS else max(ORIGIN, most / ORIGIN)
            of_gain = most >= ORIGIN
            factors = gains if of_gain else ratios
            least = least if of_gain else ORIGIN
            far = [call for call, factor in factors.items() if least <= factor < math.inf]
            if far:
                call = far[-1] if kind == GRADIENTS else far[0]
                return _Grown(call, kind, max(ratios[call], factors[call]), of_gain)
        return None

    def _of_usual_inputs(
        self, gains: Mapping[_Call, float], now: _Reach, kind: int
    ) -> dict[_Call, float]:
        """Gains that grew though their inputs did not: that of a square grows with its input."""
        usual = _most(self._then(kind), lambda size: size.taken)
        return {
            call: gain
            for call, gain in gains.items()
            if gain >= ORIGIN and now[call].taken < ORIGIN * usual[call]
        }

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
    """Records the largest gradient of each layer's inputs, weights and outputs, call by call."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = dict(leaves(model))
        self._calls: list[tuple[_Call, list[float], list[float]]] = []
        self._count: Counter[str] = Counter()
        self._hooks = []
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_pre_hook(self._noting(name)))
            self._hooks.append(layer.register_forward_hook(self._noting_outputs))

    def _noting(self, name: str) -> Callable[..., Any]:
        def note(module: nn.Module, inputs: Any) -> Any:
            """One call of this layer, which gets inputs of its own: others may share them."""
            given: list[float] = []
            self._calls.append(((name, self._count[name]), given, []))
            self._count[name] += 1
            return tuple(own(value, given) for value in inputs)

        def own(value: Any, given: list[float]) -> Any:
            """A copy that records its gradient."""
            if not (isinstance(value, Tensor) and value.requires_grad):
                return value
            copied = value.clone()
            _record_gradient(copied, given)
            return copied

        return note

    def _noting_outputs(self, module: nn.Module, inputs: object, output: object) -> None:
        taken = self._calls[-1][2]  # a layer that holds no other ends before the next begins
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                _record_gradient(tensor, taken)

    def found(self) -> _Reach:
        """The largest gradients of each call after the backward pass, in their order."""
        for hook in self._hooks:
            hook.remove()
        found = {
            call: _Size(max(given, default=0.0), max(taken, default=0.0))
            for call, given, taken in self._calls
        }
        for name, calls in self._count.items():
            weights = self._layers[name].parameters()
            own = [_reach(p.grad) for p in weights if p.grad is not None]
            # The gradient of a weight is that of all calls; most layers have one.
            most = max(((name, number) for number in range(calls)), key=found.__getitem__)
            found[most] = found[most]._replace(given=max([found[most].given, *own]))
        return found


def _record_gradient(tensor: Tensor, reached: list[float]) -> None:
    """Appends the largest magnitude of this tensor's gradient, once that is known."""
    tensor.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: reached.append(_reach(gradient))
    )


def _ratios(then: list[_Reach], now: _Reach, kind: int) -> dict[_Call, float]:
    """The factors by which what is given has grown, in the order of `now`.

    A layer that starts with zeros, or a bias before a normalisation, has a gradient of rounding
    errors at most, whose growth means nothing. So small numbers count as the largest.
    """
    usual = _most(then, lambda size: size.given)
    known = sorted(value for value in usual.values() if value > 0)
    if not known:
        return {}
    least = (SMALL if kind == GRADIENTS else SMALL_OUTPUT) * known[len(known) // 2]
    before = {call: value if value > least else known[-1] for call, value in usual.items()}
    return {call: now[call].given / before[call] for call in now if call in before}


def _gains(then: list[_Reach], now: _Reach, kind: int) -> dict[_Call, float]:
    """The finite factors by which the gain of a call has grown: what it gives per what it takes.

    A gradient is proportional to the gradient that a layer takes, however small that is. An output
    of tiny inputs is mostly the bias, so small inputs count as `SMALL`. So do small gains: that of
    a layer that starts with zeros is 0.
    """
    takes = [size.taken for reach in then for size in reach.values()]
    least_taken = TINY if kind == GRADIENTS else SMALL * _median(takes)
    usual = _most(then, lambda size: size.given / max(size.taken, least_taken))
    least = SMALL * _median(usual.values())
    if not least:
        return {}
    found = {}
    for call, (given, taken) in now.items():
        if usual.get(call, 0.0) or (call in usual and kind != GRADIENTS):
            found[call] = given / max(taken, least_taken) / max(usual[call], least)
    return {call: gain for call, gain in found.items() if math.isfinite(gain)}


def _most(reaches: list[_Reach], measure: Callable[[_Size], float]) -> dict[_Call, float]:
    """The largest measure of each call."""
    found: dict[_Call, float] = {}
    for reach in reaches:
        for call, size in reach.items():
            found[call] = max(found.get(call, 0.0), measure(size))
    return found


def _median(values: Iterable[float]) -> float:
    """The median of those above 0, or 0."""
    known = sorted(value for value in values if 0 < value < math.inf)
    return known[len(known) // 2] if known else 0.0


def _reach(tensor: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    least, most = torch.aminmax(tensor.detach())
    reach = max(-float(least), float(most))
    return reach if reach == reach else math.inf


def _most_of(values: object) -> float:
    """The largest magnitude of tensors in nested tuples; 0 if there are none."""
    return max((_reach(tensor) for tensor in tensors_in(values) if tensor.numel()), default=0.0)


class Largest:
    """Context manager: records the sizes of each call of a layer, in their order."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.found: _Reach = {}
        self._count: Counter[str] = Counter()
        self._taken = 1.0

    def __enter__(self) -> Largest:
        self._hooks = []
        for name, module in leaves(self._model):
            self._hooks.append(module.register_forward_pre_hook(self._noting_inputs))
            self._hooks.append(module.register_forward_hook(self._noting(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _noting_inputs(self, module: nn.Module, inputs: object) -> None:
        """Before the call, which may change its inputs in place."""
        self._taken = _most_of(inputs) if any(True for _ in tensors_in(inputs)) else 1.0

    def _noting(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            """The largest magnitude of this call's output."""
            self.found[name, self._count[name]] = _Size(_most_of(output), self._taken)
            self._count[name] += 1

        return note

    def most(self) -> tuple[str, float]:
        """The layer with the largest number, and that number."""
        if not self.found:
            return "", 0.0
        call = max(self.found, key=lambda call: self.found[call].given)
        return call[0], self.found[call].given

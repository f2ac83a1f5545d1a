"""Finds where a number stops being finite: layer, operation, and mode.

Checks every operation of one more pass. That pass takes several times as long as a normal one, but
it runs only after a run has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from aelab.train.forward import Batch, ObjectiveLike, forward, loss_of_step
from aelab.train.guard.finite import is_finite, tensors_in, value_words
from aelab.train.mode import mode_of

#: The largest number of IEEE 754 half precision (binary16).
LARGEST_HALF = 65_504


class Origin(NamedTuple):
    """The first layer or operation of a pass with finite input and a result that is not finite.

    Attributes:
        layer: path of the module, empty for the model's own code; None: in the objective.
        kind: its class.
        operation: of torch, such as `convolution`; empty if unknown.
        largest: largest magnitude in the operation's inputs.
        half: whether its result has half precision (float16).
        value: `NaN` or `infinity`.
        backward: whether it is a gradient, made of finite gradients and finite numbers.
    """

    layer: str | None
    kind: str
    operation: str
    largest: float
    half: bool
    value: str
    backward: bool = False

    def words(self) -> str:
        """Text `'decoder.3' (Conv2d) gives infinity from finite input (convolution, ...)`."""
        place = "the objective" if self.layer is None else _layer_words(self.layer, self.kind)
        detail = f"{self.operation} of numbers up to {self.largest:.3g}" if self.operation else ""
        if self.half:
            detail += f", beyond {LARGEST_HALF:,}, the largest number of half precision"
        given = "finite input"
        if self.backward:
            place, given = f"the gradient of {place}", "finite gradients"
        told = f" ({detail})" if detail else ""
        return f"{place} gives {self.value} from {given}{told}"

    def short(self) -> str:
        """Text `'decoder.7' overflowed`, or `the gradient of 'decoder.7' became NaN`."""
        place = "the objective" if self.layer is None else f"'{self.layer}'"
        place = place if self.layer != "" else "the model's own code"
        end = "overflowed" if self.value == "infinity" else f"became {self.value}"
        return f"the gradient of {place} {end}" if self.backward else f"{place} {end}"


@torch.no_grad()
def find_origin(
    model: nn.Module,
    objective: ObjectiveLike,
    batches: Iterable[Batch],
    images_seen: int,
    *,
    training: bool,
    bfloat16: bool = False,
) -> Origin | None:
    """The origin in the first batch whose loss is not finite; None: all are finite.

    Mode and buffers are restored.

    Args:
        batches: inputs and targets (B, C, H, W), and noise or None.
        training: whether to use training mode, else evaluation mode.
    """

    def is_good(batch: Batch) -> bool:
        """Whether the loss and the reconstruction of a batch are finite."""
        output, _, total = forward(
            model, objective, *batch, images_seen=images_seen, bfloat16=bfloat16
        )
        return is_finite([total, output.reconstruction])

    with mode_of(model, training=training):
        for batch in batches:
            # Watching is slow, so a plain pass comes first. Not in training mode: dropout would
            # give another result the second time.
            if not training and is_good(batch):
                continue
            with _Watch(model, _players(objective)) as watch:
                good = is_good(batch)
            if not good:
                return watch.origin()
    return None


def find_in_step(
    model: nn.Module,
    objective: ObjectiveLike,
    batch: Batch,
    images_seen: int,
    *,
    bfloat16: bool = False,
) -> Origin | None:
    """The origin in one step of training, forward and then backward; None: all is finite.

    Mode and buffers are restored; the gradients are those of this batch alone.
    """
    players = _players(objective)
    for network in (model, *players.values()):
        network.zero_grad(set_to_none=True)
    with mode_of(model, training=True), _Watch(model, players, backward=True) as watch:
        output, values, total = forward(
            model, objective, *batch, images_seen=images_seen, bfloat16=bfloat16
        )
        loss = loss_of_step(objective, values, total)
        if not is_finite([loss, output.reconstruction]):
            return watch.origin()
        (loss / len(batch[1])).backward()  # type: ignore[no-untyped-call]
    weights = [*model.named_parameters()]
    for name, network in players.items():
        weights += network.named_parameters(name)
    bad = [n for n, p in weights if p.grad is not None and not is_finite(p.grad)]
    return watch.origin_of_gradient(bad[0]) if bad else None


def _players(objective: ObjectiveLike) -> dict[str, nn.Module]:
    """The networks that learn beside the model, by name."""
    return dict(getattr(objective, "players", {}))


class _Watch(TorchDispatchMode):
    """Context manager: records layers and operations with finite input and a non-finite result.

    Layers decide, in the order in which they end; operations only add detail about the first such
    layer. An operation alone is no fault: attention adds masks of -inf inside of sound layers.

    Args:
        players: further networks that learn, by the name under which their layers are told.
        backward: record gradients too. A layer's backward pass begins where the gradient of its
            output arrives.
    """

    def __init__(
        self, model: nn.Module, players: Mapping[str, nn.Module], *, backward: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {module: name for name, module in model.named_modules()}
        for player, network in players.items():
            self._names |= {m: n for n, m in network.named_modules(prefix=player)}
        self._kinds = {name: type(module).__name__ for module, name in self._names.items()}
        self._inside: list[str] = []
        self._paused = False
        self._backward = backward
        self._arrived: list[str] = []
        self._hooked: dict[int, Tensor] = {}  # kept: a freed tensor's id may be given again
        self._gradients: list[Origin] = []
        self._inner: Origin | None = None  # of a gradient that is part of the forward pass
        self._layers: list[tuple[str, str, str]] = []
        self._operations: list[tuple[str | None, Origin]] = []

    def __enter__(self) -> _Watch:
        self._hooks = []
        for module in self._names:
            self._hooks.append(module.register_forward_pre_hook(self._begins))
            self._hooks.append(module.register_forward_hook(self._ends, with_kwargs=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _begins(self, module: nn.Module, inputs: object) -> None:
        self._inside.append(self._names[module])

    def _ends(self, module: nn.Module, inputs: object, named: object, output: object) -> None:
        layer = self._inside.pop()
        # The checks below are torch operations themselves and must not be recorded.
        self._paused = True
        if not is_finite(output) and is_finite([inputs, named]):
            self._layers.append((layer, type(module).__name__, value_words(output)))
        if self._backward:
            for tensor in tensors_in(output):
                # An output belongs to the innermost layer that made it, which ends first.
                if tensor.requires_grad and id(tensor) not in self._hooked:
                    self._hooked[id(tensor)] = tensor
                    tensor.register_hook(  # type: ignore[no-untyped-call]
                        lambda gradient, at=layer: self._arrived.append(at)
                    )
        self._paused = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the operation; records it where finite inputs give a result that is not finite."""
        if self._paused:
            return func(*args, **(kwargs or {}))
        given = list(tensors_in([args, kwargs or {}]))
        good, largest = is_finite(given), 0.0
        if good:  # before an operation in place has changed it
            largest = max((float(t.detach().abs().max()) for t in given if t.numel()), default=0.0)
        result = func(*args, **(kwargs or {}))
        if given and good and not is_finite(result):
            inside = self._inside[-1] if self._inside else None
            name = func._overloadpacket.__name__.strip("_").replace("to_copy", "conversion")
            half = any(t.dtype == torch.float16 for t in tensors_in(result))
            origin = Origin(inside, "", name, largest, half, value_words(result))
            if self._arrived and torch._C._current_autograd_node() is not None:
                layer = self._arrived[-1]
                kind = self._kinds[layer]
                origin = origin._replace(layer=layer, kind=kind, backward=True)
                self._gradients.append(origin)
                if self._inside and not self._layers:
                    self._inner = self._inner or origin
            else:
                self._operations.append((inside, origin))
        return result

    def origin_of_gradient(self, parameter: str) -> Origin:
        """The origin of a gradient that is not finite.

        Args:
            parameter: the first weight whose gradient is not.
        """
        if self._gradients:
            return self._gradients[0]
        outside = [found for inside, found in self._operations if inside is None]
        if outside:  # before any layer's output had a gradient: the objective
            return outside[0]._replace(backward=True)
        layer = parameter.rpartition(".")[0]
        return Origin(layer, self._kinds.get(layer, ""), "", 0.0, False, "NaN", True)

    def origin(self) -> Origin:
        """The first faulty layer, after the pass; with its first faulty operation if known."""
        if self._inner is not None:
            return self._inner
        if not self._layers:
            outside = [found for inside, found in self._operations if inside is None]
            return outside[0] if outside else Origin(None, "", "", 0.0, False, "NaN")
        layer, kind, value = self._layers[0]
        for inside, found in self._operations:
            if inside == layer:
                return found._replace(kind=kind)
        return Origin(layer, kind, "", 0.0, False, value)


def _layer_words(layer: str, kind: str) -> str:
    return f"'{layer}' ({kind})" if layer else f"the model's own code ({kind})"


def quietly(find: Callable[[], Origin | None]) -> Origin | None:
    """The result of `find`, or None if it raises.

    The search runs the user's code on broken numbers and may fail in any way. That must not hide
    the error which is to be explained.
    """
    try:
        return find()
    except Exception:
        return None

"""Counts the operations of a model on the meta device, without computing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from aelab.errors import in_words
from aelab.ops.layers import leaves

#: (shape, stride, dtype) of a result.
_Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]

#: Cache: operation and kinds of its arguments -> kinds of its results, whether they are a
#: sequence, and FLOPs. The runs of a matrix have mostly equal layers, and torch infers shapes on
#: the meta device in Python, at 0.1 ms per operation. The cache makes a check five times as fast.
_SEEN: dict[Hashable, tuple[list[_Layout], bool, int]] = {}
#: Limit of the cache, for programs that never repeat an operation.
_MOST_SEEN = 20_000
#: Operations that do not consist of others.
_WHOLE: set[Any] = set()


class DryRun(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that counts the FLOPs of the operations inside; records no gradients.

    Attributes:
        flops: so far; a multiplication and an addition count as two. Convolutions, matrix products
            and attention, as in `torch.utils.flop_counter`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's switch: nothing is compiled here, and to shield the mode from the compiler
        torch would import it, which costs 1 s."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs one operation, or takes its result from the cache, and counts its FLOPs."""
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func not in _WHOLE:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            _WHOLE.add(func)
        result, flops = _result(func, args, kwargs, formula)
        self.flops += flops
        return result


#: Text in torch's errors when code reads values of meta tensors, which have none.
_ASKS_FOR_VALUES = re.compile(r"(?<![a-z])meta(?![a-z])", re.IGNORECASE)


def asks_for_values(error: BaseException) -> bool:
    """Whether code failed only because meta tensors have no values."""
    causes = (error, error.__cause__, error.__context__)
    return any(_ASKS_FOR_VALUES.search(in_words(cause)) for cause in causes if cause)


def count_outputs(model: nn.Module, run: Callable[[], Any]) -> tuple[Any, int]:
    """The result of `run()`, and the total size of the outputs of the innermost layers."""
    numbers = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        """Adds the numbers of one layer's output."""
        nonlocal numbers
        if isinstance(output, Tensor):
            numbers += output.numel()

    hooks = [layer.register_forward_hook(count) for _, layer in leaves(model)]
    try:
        return run(), numbers
    finally:
        for hook in hooks:
            hook.remove()


def failing_layer(model: nn.Module, run: Callable[[], Any]) -> str:
    """The layer in which `run()` fails: `in encoder.1 (Linear): `; empty if it is in no layer."""
    entered: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        if module is model:
            continue
        text = f"in {name} ({type(module).__name__}): "
        hooks += [
            module.register_forward_pre_hook(lambda *_, text=text: entered.append(text)),
            module.register_forward_hook(lambda *_: entered.__delitem__(-1)),
        ]
    try:
        run()
    except (RuntimeError, ValueError, IndexError):
        return entered[-1] if entered else ""
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def _result(
    func: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    formula: Callable[..., Any] | None,
) -> tuple[Any, int]:
    """The result of an operation and its FLOPs, from the cache if an equal one was seen.

    Args:
        func, args, kwargs: the operation.
        formula: its FLOPs by its arguments and result; None for an operation that counts as none.
    """
    key = None if func._schema.is_mutable else _key((func, *args, *sorted(kwargs.items())))
    if key is not None and key in _SEEN:
        kinds, many, flops = _SEEN[key]
        made = [torch.empty_strided(s, t, dtype=d, device="meta") for s, t, d in kinds]
        return (tuple(made) if many else made[0]), flops
    result = func(*args, **kwargs)
    flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=result))
    many = isinstance(result, tuple | list)
    results = list(result) if many else [result]
    if key is not None and all(_is_plain(value) for value in results):
        if len(_SEEN) >= _MOST_SEEN:
            _SEEN.clear()
        _SEEN[key] = [(tuple(r.shape), r.stride(), r.dtype) for r in results], many, flops
    return result, flops


def _is_plain(value: Any) -> bool:
    """Whether a value is fully described by shape, stride and type: a plain meta tensor."""
    return type(value) in (Tensor, nn.Parameter) and value.device.type == "meta"


def _key(value: Any) -> Hashable | None:
    """The kind of a value as cache key; None if it cannot be a key."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.stride(), value.dtype) if _is_plain(value) else None
    if isinstance(value, tuple | list):
        keys = tuple(_key(item) for item in value)
        return None if None in keys else keys
    try:
        hash(value)
    except TypeError:
        return None
    return (type(value), value)  # with its type: 1, 1.0 and True are equal as keys

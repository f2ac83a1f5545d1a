"""Checks of tensors for NaN and infinity; each of them waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor, nn

#: At most this many names are listed in a message.
MOST_NAMES = 2


def non_finite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that contain a NaN or an infinity; waits for the device."""
    return [name for name, tensor in tensors if not is_finite(tensor)]


def floating_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and buffers of floating-point type; integer buffers are always finite."""
    return ((n, b) for n, b in model.named_buffers() if b.is_floating_point() and b.numel())


def tensor_words(kind: str, names: Sequence[str]) -> str:
    """Text `a weight is not finite: 'a.weight', 'a.bias' and 3 more`."""
    listed = ", ".join(f"'{name}'" for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{kind} is not finite: {listed}{more}"


def tensors_in(values: object) -> Iterator[Tensor]:
    """The floating-point tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


def is_finite(values: object) -> bool:
    """Whether no tensor in `values` contains a NaN or an infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors_in(values))


def value_words(values: object) -> str:
    """The text `NaN` if there is one, else `infinity`."""
    return "NaN" if any(bool(t.isnan().any()) for t in tensors_in(values)) else "infinity"

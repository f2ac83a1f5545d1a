"""Results that several terms of an objective need for the same batch, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

#: Results for the current batch by key; None outside of `sharing`.
_shared: ContextVar[dict[tuple[int, ...], Tensor] | None] = ContextVar("_shared", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Context manager: inside, calls of `once` with the same key share one result."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def once(key: tuple[int, ...], compute: Callable[[], Tensor]) -> Tensor:
    """The result of `compute()`; inside of `sharing` it is computed once for each key.

    Args:
        key: the `id`s of all objects that the result depends on.
        compute: returns the result.
    """
    shared = _shared.get()
    if shared is None:
        return compute()
    if key not in shared:
        shared[key] = compute()
    return shared[key]

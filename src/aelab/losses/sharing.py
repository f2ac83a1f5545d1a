"""What several terms of an objective compute of the same batch, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

#: What was computed of the batch at hand, only inside of `sharing`.
_shared: ContextVar[dict[tuple[int, ...], Tensor] | None] = ContextVar("_shared", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Inside, terms share what they compute by `once`."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def once(key: tuple[int, ...], compute: Callable[[], Tensor]) -> Tensor:
    """`compute()`, or what it gave before under the same key inside of `sharing`.

    Args:
        key: the `id` of everything that the result depends on.
        compute: makes it.
    """
    shared = _shared.get()
    if shared is None:
        return compute()
    if key not in shared:
        shared[key] = compute()
    return shared[key]

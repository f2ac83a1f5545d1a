"""Progress reports of slow loading, by calling a function of the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

#: Called as report(what, done, total); the caller displays it.
Report = Callable[[str, int, int], None]

#: Shorter work is not reported.
QUIET_SECONDS = 2.0
_INTERVAL_SECONDS = 0.2

_reports: list[Report] = []


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Context manager: loading that lasts more than two seconds calls `report`.

    Args:
        report: called as `report(what, done, total)`, at most five times a second, and once more
            with done = total at the end of something that was reported before.
    """
    _reports.append(report)
    try:
        yield
    finally:
        _reports.remove(report)


def track(
    items: Iterable[Item], what: str, total: int, weight: int | Callable[[Item], int] = 1
) -> Iterator[Item]:
    """Yields the items, and reports their number.

    Args:
        items: anything.
        what: description, for instance `rendering kali`.
        total: the number at the end.
        weight: count of one item, or a function that returns it for each.
    """
    started = told = time.monotonic()
    spoke, done = False, 0
    for item in items:
        yield item
        done += weight(item) if callable(weight) else weight
        now = time.monotonic()
        if _reports and now - started > QUIET_SECONDS and now - told > _INTERVAL_SECONDS:
            told, spoke = now, True
            _reports[-1](what, min(done, total), total)
    if spoke and _reports:
        _reports[-1](what, total, total)

"""What a set did not take of a folder: counted for the screen, named for the record."""

from __future__ import annotations

from collections.abc import Iterable

#: Names that are told on a screen, and that a record keeps, for each reason.
TOLD, KEPT = 5, 100

#: Reasons, in the words of a message.
UNREADABLE = "unreadable"
OUTSIDE = "links out of the folders that may be read"
TWICE = "links to folders that are already read"
BROKEN = "links to nothing"
IRREGULAR = "pipes, sockets or devices"
CLOSED = "folders that may not be read"
HIDDEN = "hidden"
OTHER = "of other endings"

#: What is usual in a folder of pictures and nobody need be told of.
_USUAL = (HIDDEN, OTHER)


class LeftOut:
    """Files by the reason why they are not in a set."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """One more file or folder, by its name relative to the set's folder."""
        self.files.setdefault(reason, []).append(name)

    def plus(self, reason: str, names: Iterable[str]) -> LeftOut:
        """The same and further ones; this stays as it is."""
        more = LeftOut()
        more.files = {known: list(found) for known, found in self.files.items()}
        names = list(names)
        if names:
            more.files.setdefault(reason, []).extend(names)
        return more

    def counts(self) -> dict[str, int]:
        """Reason -> how many."""
        return {reason: len(names) for reason, names in self.files.items()}

    def note(self) -> str:
        """What a reader of a comparison must know; empty if nothing but the usual is missing."""
        told = self.told(without=_USUAL)
        return f"left out: {told}" if told else ""

    def told(self, without: tuple[str, ...] = ()) -> str:
        """`reason: how many (some names)` of each reason."""
        return "; ".join(
            f"{reason}: {len(names):,} ({listed(names, TOLD)})"
            for reason, names in self.files.items()
            if reason not in without
        )

    def record(self) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
        """(reason, how many, the first names) of each reason."""
        return tuple(
            (reason, len(names), tuple(names[:KEPT])) for reason, names in self.files.items()
        )


def listed(names: list[str], most: int) -> str:
    """`a, b, c and 7 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")

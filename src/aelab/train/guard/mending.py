"""Reactions to non-finite numbers (`on_nan`), as plain data at numbers of images.

A checkpoint holds the list, so that a run which is stopped or killed later continues with the same
changes, bit for bit. Random numbers depend on the number of images, so without a change the same
failure would repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class StateChange(NamedTuple):
    """Changes of the settings from some image on.

    Attributes:
        factor: factor of the learning rate.
        clip: the gradient's norm is clipped to this, unless the settings clip to less.
        float32: the model computes in float32.
    """

    factor: float = 1.0
    clip: float | None = None
    float32: bool = False


#: No change.
UNCHANGED = StateChange()


class Intervention(NamedTuple):
    """One reaction.

    Attributes:
        action: `skip` or `rollback`.
        images: images before the batch that is left out, or of the state that training went back
            to.
        found_at: images when the failure was found.
        cause: the cause in a few words, such as `'decoder.7' overflowed`.
        change: the settings from `images` on, including all earlier changes.
    """

    action: str
    images: int
    found_at: int
    cause: str
    change: StateChange = UNCHANGED

    def as_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {**self._asdict(), "change": self.change._asdict()}

    def words(self) -> str:
        """Text `rolled back from 1,203,000 to 1,200,000 images: 'decoder.7' overflowed`."""
        if self.action == "skip":
            return f"left out the batch at {self.images:,} images: {self.cause}"
        return f"rolled back from {self.found_at:,} to {self.images:,} images: {self.cause}"


def from_json(entries: Iterable[dict[str, Any]]) -> list[Intervention]:
    """The inverse of `as_json`, for a list."""
    return [
        Intervention(**{**entry, "change": StateChange(**entry["change"])}) for entry in entries
    ]


def in_force(done: Iterable[Intervention]) -> list[Intervention]:
    """The reactions still valid: going back further cancels later ones."""
    kept: list[Intervention] = []
    for each in done:
        if each.action == "rollback":
            kept = [other for other in kept if other.images <= each.images]
        kept.append(each)
    return kept


def change_at(done: Sequence[Intervention], images: int) -> StateChange:
    """The change that applies to the batch starting at `images`."""
    changes = [e.change for e in in_force(done) if e.action == "rollback" and e.images <= images]
    return changes[-1] if changes else UNCHANGED


def is_skipped(done: Sequence[Intervention], images: int) -> bool:
    """Whether the batch starting at `images` is left out."""
    return any(each.action == "skip" and each.images == images for each in in_force(done))


def mending_words(count: int, last: Intervention) -> str:
    """Text `rolled back twice, the last time to 1,200,000 images: 'decoder.7' overflowed`.

    Args:
        count: number of reactions so far.
        last: the newest one.
    """
    times = {1: "once", 2: "twice"}.get(count, f"{count} times")
    comma = "" if count == 1 else ", the last time"
    if last.action == "skip":
        return f"left out a batch {times}{comma} at {last.images:,} images: {last.cause}"
    return f"rolled back {times}{comma} to {last.images:,} images: {last.cause}"

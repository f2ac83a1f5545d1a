"""The last good states of a training, in memory on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Number of kept states, and of batches between two of them. A copy costs about as much as one step
#: of the optimiser (it reads and writes weights and their averages). So far apart, all copies and
#: looks take under 2 % in the worst case, linear layers with batches of 16 (benchmarks/guard.py).
LENGTH, APART = 3, 400
#: Weights count as exploded if their norm is this multiple of the oldest state's, and of ones.
GROWN = 1e3
#: The same for running statistics, which are squares.
STATISTICS_GROWN = 1e6


class Kept(NamedTuple):
    """A state with only finite numbers within bounds.

    Attributes:
        images, batches: images and batches at this state.
        norms: norm of each weight and buffer, by name.
        snapshot: argument for `State.restore`.
    """

    images: int
    batches: int
    norms: dict[str, float]
    snapshot: Any


@dataclass
class Ring:
    """The latest good states, oldest first.

    They are chosen by the number of batches and by validations, never by time, so a continued run
    keeps the same ones.
    """

    states: list[Kept] = field(default_factory=list)

    @property
    def newest(self) -> Kept:
        """The latest good state."""
        return self.states[-1]

    def is_due(self, batches: int, *, validated: bool) -> bool:
        """Whether the state after this number of batches is to be kept."""
        if self.states and self.newest.batches == batches:
            return False
        # After a validation, too: schedules may have reacted to it, which a replay would not
        # repeat.
        return not self.states or batches % APART == 0 or validated

    def add(self, kept: Kept) -> None:
        """Keeps a state; drops the previous one if it is too near to the one before it."""
        if len(self.states) >= 2 and self.states[-1].batches - self.states[-2].batches < APART:
            self.states.pop()
        self.states = [*self.states, kept][-LENGTH:]

    def go_back(self, failed_since: int | None) -> Kept:
        """The state to return to; a state from which training failed before is dropped.

        Args:
            failed_since: images of the state to which the last failure went back.
        """
        if len(self.states) > 1 and self.newest.images == failed_since:
            self.states.pop()
        return self.newest

    def grown(self, norms: dict[str, float], sizes: dict[str, int]) -> str:
        """Text on a far too large weight or running statistic: `weights of 'decoder.7' grew ...`.

        Args:
            norms: present norms, by name.
            sizes: numbers of elements.
        """
        before = self.states[0].norms if self.states else {}
        beyond = {}
        for name, norm in norms.items():
            limit = STATISTICS_GROWN if is_statistic(name) else GROWN
            known = max(before.get(name, 0.0), sizes[name] ** 0.5)
            if norm > limit * known:
                # Running statistics follow the weights, so weights are named first.
                beyond[name] = (not is_statistic(name), norm / known)
        if not beyond:
            return ""
        worst = max(beyond, key=lambda name: beyond[name])
        return f"'{worst}' grew from a norm of {before.get(worst, 0.0):.3g} to {norms[worst]:.3g}"


def is_statistic(name: str) -> bool:
    """Whether a buffer is a running statistic of normalisation."""
    return name.rpartition(".")[2].startswith("running_")

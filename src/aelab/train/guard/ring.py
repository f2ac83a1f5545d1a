"""The last good states of a training, in memory on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: States that are kept, and how many batches lie between two of them. A copy costs about as much as
#: one step of the optimiser (it reads and writes weights and their averages), so at most 1 %.
LENGTH, APART = 3, 100
#: Weights have exploded whose norm is so many times that of the oldest state, and of elements of 1.
GROWN = 1e3
#: So have running statistics, which are squares.
STATISTICS_GROWN = 1e6


class Kept(NamedTuple):
    """A state whose every number was finite and in bounds.

    Attributes:
        images, batches: of its clock.
        norms: of each weight and buffer, by name.
        snapshot: `State.restore` takes it.
    """

    images: int
    batches: int
    norms: dict[str, float]
    snapshot: Any


@dataclass
class Ring:
    """The latest good states, oldest first.

    Which states these are follows from the count of batches and from validations, never from the
    moment: a run that continues has the same ones.
    """

    states: list[Kept] = field(default_factory=list)

    @property
    def newest(self) -> Kept:
        """The latest good state."""
        return self.states[-1]

    def is_due(self, batches: int, *, validated: bool) -> bool:
        """Whether the state after so many batches is to be kept."""
        if self.states and self.newest.batches == batches:
            return False
        # After a validation too: schedules may have answered it, which a replay would not.
        return not self.states or batches % APART == 0 or validated

    def add(self, kept: Kept) -> None:
        """Keeps a state; the newest one goes where it is too near to the one before it."""
        if len(self.states) >= 2 and self.states[-1].batches - self.states[-2].batches < APART:
            self.states.pop()
        self.states = [*self.states, kept][-LENGTH:]

    def go_back(self, failed_since: int | None) -> Kept:
        """The state to return to; one that training has failed from before is given up.

        Args:
            failed_since: images at the state that the last failure went back to.
        """
        if len(self.states) > 1 and self.newest.images == failed_since:
            self.states.pop()
        return self.newest

    def grown(self, norms: dict[str, float], sizes: dict[str, int]) -> str:
        """Which weight or running statistic is far too large: `weights of 'decoder.7' grew ...`.

        Args:
            norms: of now, by name.
            sizes: numbers of elements.
        """
        before = self.states[0].norms if self.states else {}
        beyond = {}
        for name, norm in norms.items():
            limit = STATISTICS_GROWN if is_statistic(name) else GROWN
            known = max(before.get(name, 0.0), sizes[name] ** 0.5)
            if norm > limit * known:
                # Statistics only follow the weights before them.
                beyond[name] = (not is_statistic(name), norm / known)
        if not beyond:
            return ""
        worst = max(beyond, key=lambda name: beyond[name])
        return f"'{worst}' grew from a norm of {before.get(worst, 0.0):.3g} to {norms[worst]:.3g}"


def is_statistic(name: str) -> bool:
    """Whether a buffer is a running statistic of normalisation."""
    return name.rpartition(".")[2].startswith("running_")

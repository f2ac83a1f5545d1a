"""What one run has reached: its best and latest losses, and how it began."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from aelab.train.forward import Losses

#: How the best state is chosen. 1: by the loss with the weights of that moment; 2: see
#: `aelab.train.judging`.
JUDGING = 2


@dataclass
class Progress:
    """The results of one run so far. A checkpoint holds every field by its name.

    Attributes:
        best_loss, best_images: the lowest validation loss, as `aelab.train.judging` has it.
        judging: which way of judging they are of.
        last_loss, last_loss_images: the latest finite training loss that was read.
        last_terms: it and its terms.
        start: loss and terms of the first batch, by an untrained model; empty where they are not
            known.
        exploded_since: images at the first of the latest validations that were all out of hand.
    """

    best_loss: float | None = None
    best_images: int | None = None
    judging: int = JUDGING
    last_loss: float | None = None
    last_loss_images: int = 0
    last_terms: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    exploded_since: int | None = None


@dataclass
class Window:
    """Losses since the last log, summed over images on the device.

    Attributes:
        terms: names of the T terms.
        images: how many images are summed.
        sums: (K, 1 + T) float64: the loss and its terms, by run; None: empty.
    """

    terms: list[str] = field(default_factory=list)
    images: int = 0
    sums: Tensor | None = None

    @property
    def names(self) -> list[str]:
        """Of the columns of `sums`."""
        return ["loss", *self.terms]

    def means(self) -> Tensor | None:
        """(K, 1 + T) on the device: per image; None: empty."""
        return None if self.sums is None else self.sums / self.images

    def add(self, losses: Losses, images: int) -> None:
        """Adds those of one batch of so many images."""
        if self.sums is None:
            self.sums, self.terms = losses.sums, losses.terms
        else:
            self.sums += losses.sums
        self.images += images

    def clear(self) -> None:
        """Begins the next window."""
        self.terms, self.images, self.sums = [], 0, None


def means_by_name(names: list[str], means: Tensor) -> list[dict[str, float]]:
    """(K, 1 + T) means -> one dictionary a run; waits for the device."""
    rows: list[list[float]] = means.tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]

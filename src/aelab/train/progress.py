"""The progress of one run: its best and latest losses, and its first."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from aelab.train.forward import Losses

#: Version of the rule that chooses the best state. 1: by the loss with the weights of that moment;
#: 2: see `aelab.train.judging`.
JUDGING = 2


@dataclass
class Progress:
    """The results of one run so far. A checkpoint holds every field by its name.

    Attributes:
        best_loss, best_images: the lowest comparable validation loss, see `aelab.train.judging`.
        judging: version of the rule that chose it, see `JUDGING`.
        last_loss, last_loss_images: the latest finite training loss that was logged.
        last_terms: the loss and its terms at that log.
        start: loss and terms of the first batch, of the untrained model; empty if unknown.
        exploded_since: image count from which all validations were far too high, or None.
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
        images: number of images in the sums.
        sums: (K, 1 + T) float64: the loss and its terms, by run; None: no batch yet.
    """

    terms: list[str] = field(default_factory=list)
    images: int = 0
    sums: Tensor | None = None

    @property
    def names(self) -> list[str]:
        """Names of the columns of `sums`."""
        return ["loss", *self.terms]

    def means(self) -> Tensor | None:
        """Means per image, (K, 1 + T) on the device; None if no batch was added."""
        return None if self.sums is None else self.sums / self.images

    def add(self, losses: Losses, images: int) -> None:
        """Adds the losses of one batch of `images` images."""
        if self.sums is None:
            self.sums, self.terms = losses.sums, losses.terms
        else:
            self.sums += losses.sums
        self.images += images

    def clear(self) -> None:
        """Empties the window."""
        self.terms, self.images, self.sums = [], 0, None


def means_by_name(names: list[str], means: Tensor) -> list[dict[str, float]]:
    """Means (K, 1 + T) as one dictionary for each run; waits for the device."""
    rows: list[list[float]] = means.tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]

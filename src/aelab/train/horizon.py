"""The end of a run in images, epochs and batches, from its settings and the set sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aelab.settings import FitSettings

#: Images, epochs and batches of a run that only a loss ends: more than any run reaches.
NEVER = 1 << 40


class Horizon(NamedTuple):
    """The counters of a run at its end, unless it is stopped or `min_loss` ends it earlier.

    All are `NEVER` where only `min_loss` ends it.

    Attributes:
        images: images seen; the last batch may pass `max_images`.
        epoch: completed passes.
        batches: training batches, the partial ones at the end of epochs included.
        batches_to_first_step: batches until the optimiser's first step.
    """

    images: int
    epoch: int
    batches: int
    batches_to_first_step: int

    @property
    def is_known(self) -> bool:
        """Whether images or epochs end the run."""
        return self.images < NEVER


def horizon(settings: FitSettings, sizes: Sequence[tuple[int, int]]) -> Horizon:
    """Computes the counters of a run at its end.

    Args:
        sizes: (first epoch, images) of each training set, ascending; the first starts at 0.
    """
    size = settings.batch_size
    images = epoch = batches = 0
    to_first = min(settings.gradient_accumulation, -(-sizes[0][1] // size))
    ends = [first for first, _ in sizes[1:]]
    for (_, count), until in zip(sizes, [*ends, None], strict=True):
        count = max(count, 1)  # an empty set is refused where it is used
        a_pass = -(-count // size)  # batches of one epoch: ceil(count / size)
        limits = [limit for limit in (until, settings.max_epochs) if limit is not None]
        passes = min(limits) - epoch if limits else None
        if settings.max_images is not None:
            whole = (settings.max_images - images) // count
            if passes is None or whole < passes:
                images, epoch, batches = (
                    images + whole * count,
                    epoch + whole,
                    batches + whole * a_pass,
                )
                rest = -(-(settings.max_images - images) // size)
                ends_pass = rest == a_pass  # then the last batch is the remainder of the set
                images += min(rest * size, count)
                return Horizon(images, epoch + ends_pass, batches + rest, to_first)
        if passes is None:
            return Horizon(NEVER, NEVER, NEVER, to_first)
        images, epoch, batches = images + passes * count, epoch + passes, batches + passes * a_pass
        if epoch == settings.max_epochs:
            break
    return Horizon(images, epoch, batches, to_first)

"""Reads the images of small sets for `check`, within a time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aelab.assembly.parts import Scheduled, located
from aelab.data import MEMORY

if TYPE_CHECKING:
    from aelab.types import Images

#: Number of images for trying a model if reading all would take too long.
FEW = 256
#: Estimated seconds of reading, at most, for one set; less for uint8, which has fewer faults.
READ_SECONDS = 3.0
READ_BYTES_SECONDS = 0.3
#: Estimated seconds of reading, at most, for all sets of one `check`.
READ_IN_ALL = 10.0


class Reader:
    """Reads sets for `check` while the time limit allows.

    Attributes:
        left: estimated seconds that are left for reading.
    """

    def __init__(self) -> None:
        self.left = READ_IN_ALL

    def read(self, entry: Scheduled) -> Images | None:
        """The images of a set if they are cached or can be read quickly, else None.

        Raises:
            DataError: they cannot be read, or a function fails on one of them.
        """
        dataset = entry.dataset
        with located(entry.where):
            found = MEMORY.get(dataset.fingerprint())
            if found is not None:
                return found
            seconds = dataset.reading_seconds()
            most = READ_BYTES_SECONDS if dataset.is_bytes() else READ_SECONDS
            if seconds is None or seconds > min(most, self.left):
                return None
            self.left -= seconds
            return dataset.load()

    def look(self, entry: Scheduled) -> Images | None:
        """Images of a set for trying a model: all, or a few similar ones; None if not possible.

        Unlike `read`, it may read uint8 images for seconds, although they have few faults.
        """
        dataset = entry.dataset
        with located(entry.where):
            found = MEMORY.get(dataset.fingerprint())
            if found is not None:
                return found
            seconds = dataset.reading_seconds()
            if seconds is not None and seconds <= READ_SECONDS:
                return dataset.load()
            few = dataset.few(FEW, READ_SECONDS)
            images = None if few is None else few.load()
            return images if images is not None and len(images) else None

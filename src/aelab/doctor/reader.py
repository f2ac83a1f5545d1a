"""Reading images for `check`: what takes a moment, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aelab.assembly.parts import Scheduled, located
from aelab.data import MEMORY

if TYPE_CHECKING:
    from aelab.types import Images

#: Seconds that `check` reads a set for, by estimate; of bytes there is less to find out.
READ_SECONDS = 3.0
READ_BYTES_SECONDS = 0.3
#: Seconds that one `check` reads sets for in all.
READ_IN_ALL = 10.0


class Reader:
    """Reads for `check` what takes a moment, and no more.

    Attributes:
        left: seconds that reading may still take, by estimate.
    """

    def __init__(self) -> None:
        self.left = READ_IN_ALL

    def read(self, entry: Scheduled) -> Images | None:
        """The images of a set if they are quickly read, else None.

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

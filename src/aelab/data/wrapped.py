"""Sets made of one other set."""

from __future__ import annotations

from aelab.data.base import Dataset
from aelab.errors import DataError
from aelab.medium import Medium


class Wrapped(Dataset):
    """A set made of one other; what is not said here is as in the other."""

    def __init__(self, source: Dataset) -> None:
        super().__init__()
        if not isinstance(source, Dataset):
            raise DataError(
                f"{type(self).__name__} needs a data set, got {type(source).__name__}",
                hint="wrap a tensor: TensorDataset(tensor)",
            )
        self.source = source
        self.name = source.name
        self.raw = source.raw

    @property
    def medium(self) -> Medium:
        """As in the other set."""
        return self.source.medium

    def item_shape(self) -> tuple[int, ...]:
        """As in the other set."""
        return self.source.item_shape()

    def count(self) -> int | None:
        """As in the other set."""
        return self.source.count()

    def verify(self) -> None:
        """Raise DataError if files of the other set are missing."""
        self.source.verify()

    def reading_seconds(self) -> float | None:
        """As in the other set."""
        return self.source.reading_seconds()

    def is_bytes(self) -> bool:
        """As in the other set."""
        return self.source.is_bytes()

    def sources(self) -> list[tuple[str, str]]:
        """As in the other set."""
        return self.source.sources()

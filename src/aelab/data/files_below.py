"""Sets read from the files of a folder."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path

from aelab.data import roots
from aelab.data.base import Dataset, file_stamp


class FilesBelow(Dataset):
    """A set of all files of one kind below a path.

    Args:
        path: a folder, or what `_list` takes besides.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self._files: list[Path] | None = None

    @abstractmethod
    def _list(self) -> list[Path]:
        """The files of this kind; a DataError if there are none, or a link leads out."""

    def files(self) -> list[Path]:
        """All files in a stable order; listed once.

        Raises:
            DataError: there is no such path, or no file of this kind in it, or a link leads out.
        """
        if self._files is None:
            with roots.entering(self._roots):
                self._files = self._list()
        return self._files

    def _files_digest(self) -> str:
        """Hexadecimal; of path, size and time of every file."""
        digest = hashlib.sha256()
        for file in self.files():
            digest.update(f"{file_stamp(file)}\n".encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Raise DataError if the path is missing or holds no such file."""
        self.files()

    def sources(self) -> list[tuple[str, str]]:
        """The path."""
        return [(self.name, str(self.path))]

"""Sets read from the files of a folder."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from pathlib import Path

from aelab.data import roots
from aelab.data.base import Source, file_stamp
from aelab.data.left_out import (
    BROKEN,
    CLOSED,
    HIDDEN,
    IRREGULAR,
    OTHER,
    OUTSIDE,
    TWICE,
    LeftOut,
)
from aelab.paths import real


class FilesBelow(Source):
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


def files_below(folder: Path, endings: tuple[str, ...]) -> tuple[list[Path], LeftOut]:
    """Regular files of some endings below a folder, and what was left out.

    Each folder's files come before its folders, each sorted. Links are followed where they lead
    into folders that may be read; a folder that is read already is not read again, so that loops
    end. Hidden files, pipes, sockets and devices are left out.
    """
    walk = _Walk(folder, endings)
    walk.through(folder)
    return walk.found, walk.left_out


class _Walk:
    """One way through a folder and what its links lead to."""

    def __init__(self, root: Path, endings: tuple[str, ...]) -> None:
        self.root, self.endings = root, endings
        self.left_out = LeftOut()
        self.found: list[Path] = []
        # Folders themselves come before links to them, whatever their names.
        self.known = {_identity(root)}
        for place, folders, _ in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            self.known.update(_identity(Path(place) / name) for name in folders
                              if not (Path(place) / name).is_symlink())  # fmt: skip

    def through(self, folder: Path, linked: bool = False) -> None:
        """Files first, then folders, each sorted; `linked`: a link led here."""
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            self._leave_out(CLOSED, folder)
            return
        folders = [entry for entry in entries if _leads_to_folder(entry)]
        inner = {entry.name for entry in folders}
        for entry in entries:
            if entry.name not in inner:
                self._take(Path(entry.path), entry)
        for entry in folders:
            path, is_link = Path(entry.path), entry.is_symlink()
            if entry.name.startswith("."):
                self._leave_out(HIDDEN, path)
            elif is_link and not roots.allowed(path):
                self._leave_out(OUTSIDE, path)
            elif (is_link or linked) and _identity(path) in self.known:
                self._leave_out(TWICE, path)
            else:
                self.known.add(_identity(path))
                self.through(path, linked or is_link)

    def _take(self, path: Path, entry: os.DirEntry[str]) -> None:
        if entry.name.startswith("."):
            self._leave_out(HIDDEN, path)
        elif not entry.name.lower().endswith(self.endings):
            self._leave_out(OTHER, path)
        elif entry.is_symlink() and not roots.allowed(path):
            self._leave_out(OUTSIDE, path)
        elif entry.is_symlink() and not os.path.exists(path):
            self._leave_out(BROKEN, path)
        elif not entry.is_file():
            self._leave_out(IRREGULAR, path)
        else:
            self.found.append(path)

    def _leave_out(self, reason: str, path: Path) -> None:
        name = path.relative_to(self.root).as_posix()
        if reason == OUTSIDE:
            name += f" (a link to {roots.shown_path(str(real(path)))})"
        self.left_out.add(reason, name)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        state = folder.stat()
    except OSError:
        return -1, -1
    return state.st_dev, state.st_ino

"""Sets read from the files of a folder: listing the files, and recording those left out."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from aelab import roots
from aelab.data.base import Source, file_stamp
from aelab.roots import real

#: Most names shown on a screen, and kept in a record, for each reason.
TOLD, KEPT = 5, 100

#: Reasons for leaving a file out, as messages show them.
UNREADABLE = "unreadable"
OUTSIDE = "links out of the folders that may be read"
TWICE = "links to folders that are already read"
BROKEN = "links to nothing"
IRREGULAR = "pipes, sockets or devices"
CLOSED = "folders that may not be read"
HIDDEN = "hidden"
OTHER = "of other endings"

#: Reasons that are normal in a folder of pictures and are not reported.
_USUAL = (HIDDEN, OTHER)


class FilesBelow(Source):
    """A set of all files of one kind below a path.

    Args:
        path: a folder, or another path that `_list` accepts.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self._files: list[Path] | None = None

    @abstractmethod
    def _list(self) -> list[Path]:
        """Lists the files of this kind; DataError if there are none, or a link leads out."""

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
        """A hexadecimal digest of path, size and time of every file."""
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
    """Regular files with some endings below a folder, and the files left out.

    The files of a folder come before its subfolders, each sorted. Links are followed if they lead
    into folders that may be read. A folder is read only once, so that loops of links end. Hidden
    files, pipes, sockets and devices are left out.
    """
    walk = _Walk(folder, endings)
    walk.through(folder)
    return walk.found, walk.left_out


class _Walk:
    """One walk through a folder and the folders that its links lead to."""

    def __init__(self, root: Path, endings: tuple[str, ...]) -> None:
        self.root, self.endings = root, endings
        self.left_out = LeftOut()
        self.found: list[Path] = []
        # Real folders are entered first, so that a link to one of them counts as the second
        # reading.
        self.known = {_identity(root)}
        for place, folders, _ in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            self.known.update(_identity(Path(place) / name) for name in folders
                              if not (Path(place) / name).is_symlink())  # fmt: skip

    def through(self, folder: Path, linked: bool = False) -> None:
        """Walks a folder: files, then subfolders, each sorted. `linked`: reached through a link."""
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
            # Device and inode identify a folder under any name, so loops of links end here.
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


class LeftOut:
    """Names of files that are not in a set, by reason."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Adds a file or folder, by its name relative to the set's folder."""
        self.files.setdefault(reason, []).append(name)

    def plus(self, reason: str, names: Iterable[str]) -> LeftOut:
        """Returns a copy with further names; this object is not changed."""
        more = LeftOut()
        more.files = {known: list(found) for known, found in self.files.items()}
        names = list(names)
        if names:
            more.files.setdefault(reason, []).extend(names)
        return more

    def counts(self) -> dict[str, int]:
        """Reason -> number of files."""
        return {reason: len(names) for reason, names in self.files.items()}

    def note(self) -> str:
        """A note for readers of a comparison; empty if only the usual files are left out."""
        reasons = self.told(without=_USUAL)
        return f"left out: {reasons}" if reasons else ""

    def told(self, without: tuple[str, ...] = ()) -> str:
        """Text with `reason: count (some names)` for each reason."""
        return "; ".join(
            f"{reason}: {len(names):,} ({first_names(names, TOLD)})"
            for reason, names in self.files.items()
            if reason not in without
        )

    def record(self) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
        """(reason, count, the first names) for each reason."""
        return tuple(
            (reason, len(names), tuple(names[:KEPT])) for reason, names in self.files.items()
        )


def first_names(names: list[str], most: int) -> str:
    """Text such as `a, b, c and 7 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")

"""The folders that may be read, and the search for data files.

A block of an experiment file may name paths. Unless the caller is Python itself, reading is allowed
only in the experiment's folder, `AELAB_DATA`, the cache and folders given on the command line.
Symbolic links are resolved first, so that a link cannot lead outside.

`Path.resolve` raises a RuntimeError for a link to itself, `Path.expanduser` for an unknown user.
`real` and `from_home` return such a path unchanged; opening it then reports a missing file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from aelab.errors import DataError


@dataclass(frozen=True)
class Roots:
    """Folders that may be read, besides `AELAB_DATA` and the cache.

    Attributes:
        folders: folders that may be read.
        base: base of relative paths.
        further: folders to search next for a relative path that is not in `base`.
        way_out: hint if a path is not found; empty: the hint of the data set.
        runs: the folder of runs, whose latents may be read too; None: the usual one.
        trust: whether runs that were made with trust may be opened for that.
        planned: the `RunSpec`s of the command, which may not be trained yet.
    """

    folders: tuple[Path, ...]
    base: Path | None = None
    further: tuple[Path, ...] = ()
    way_out: str = ""
    runs: Path | None = None
    trust: bool = False
    planned: tuple[Any, ...] = ()


# A global list, not a context variable: a new thread would start without restrictions.
_stack: list[Roots | None] = []


@contextmanager
def using(paths: Iterable[str | os.PathLike[str]], base: Path | None = None) -> Iterator[None]:
    """Context manager: allows reading only in `paths`, `AELAB_DATA` and the cache.

    Args:
        paths: the experiment's folder and those of the command line.
        base: base of relative paths; by default the first of `paths`.
    """
    folders = tuple(real(path) for path in paths)
    with entering(Roots(folders, base or (folders[0] if folders else None))):
        yield


@contextmanager
def entering(roots: Roots | None) -> Iterator[None]:
    """Context manager: uses given roots, for instance an earlier `current()`; None: no limits."""
    _stack.append(roots)
    try:
        yield
    finally:
        _stack.pop()


def current() -> Roots | None:
    """The roots in use; None without restrictions, when Python is the caller."""
    return _stack[-1] if _stack else None


def data_folders() -> tuple[Path, ...]:
    """The folders of `AELAB_DATA`, which are separated as in PATH."""
    parts = os.environ.get("AELAB_DATA", "").split(os.pathsep)
    return tuple(real(from_home(part)) for part in parts if part)


def cache_folder() -> Path:
    """The folder of downloads and rendered sets: `AELAB_CACHE`, else the system's cache folder."""
    given = os.environ.get("AELAB_CACHE")
    if given:
        return real(from_home(given))

    return real(platformdirs.user_cache_dir("aelab"))


def shown_path(source: str) -> str:
    """A path as shown in records and reports, without personal folders.

    `$AELAB_DATA/...`, `cache/...`, else relative to the experiment's folder or to home.
    """
    if not os.path.isabs(source):
        return source
    path = Path(source)
    roots = current()
    base = roots.base if roots is not None else None
    places = [(folder, "$AELAB_DATA/") for folder in data_folders()]
    places += [(cache_folder(), "cache/")]
    places += [(base, "")] if base is not None else []
    for folder, name in [*places, (Path.home(), "~/")]:
        for root in {folder, real(folder)}:
            if path.is_relative_to(root):
                below = path.relative_to(root).as_posix()
                return f"{name}{below}" if below != "." else name or path.name
    return source


def allowed(path: str | os.PathLike[str]) -> bool:
    """Whether `path` may be read, after resolving its symbolic links."""
    roots = current()
    if roots is None:
        return True
    place = real(path)
    open_folders = (*roots.folders, *data_folders(), cache_folder())
    return any(place == folder or folder in place.parents for folder in open_folders)


def allowed_path(path: str | os.PathLike[str]) -> Path:
    """The path with links resolved.

    Raises:
        DataError: it is outside of the folders that may be read; the hint says how to allow it.
    """
    place = real(path)
    if allowed(place):
        return place
    roots = current()
    places = [str(folder) for folder in (roots.folders if roots else ())]
    folder = place.parent if place.suffix else place  # the smallest folder to allow
    link = f" (a link to {place})" if Path(os.path.abspath(path)) != place else ""
    raise DataError(
        f"{path}{link} is outside the folders that this experiment may read: "
        + ", ".join([*places, "AELAB_DATA", "the cache"]),
        hint=f"add --data {folder}, or set AELAB_DATA to a folder above it",
    )


def resolve(path: str | os.PathLike[str]) -> Path:
    """A path of an experiment file as an absolute, allowed path; it need not exist.

    Relative paths are searched in the folder of the file (for a stored run: its folder at training,
    then those of `--data`), then in `AELAB_DATA`, then in the cache.
    """
    given = from_home(path)
    if given.is_absolute():
        return allowed_path(given)
    roots = current()
    base = roots.base if roots and roots.base else Path.cwd()
    further = roots.further if roots else ()
    for folder in (base, *further, *data_folders(), cache_folder()):
        if (folder / given).exists():
            return allowed_path(folder / given)
    if roots is not None and roots.way_out and not allowed(base / given):
        raise DataError(f"there is no {path} in {base}", hint=roots.way_out)
    return allowed_path(base / given)


def find_elsewhere(path: str | os.PathLike[str]) -> Path | None:
    """The file at a path of an experiment file, else one of its name in the folders of data.

    For paths of another machine, `~/pictures/sheet.png`: `sheet.png` is searched beside the
    experiment file, in `AELAB_DATA` and in the cache. Only files that may be read are found.
    """
    given = from_home(path)
    roots = current()
    base = roots.base if roots and roots.base else Path.cwd()
    folders = (base, *(roots.further if roots else ()), *data_folders(), cache_folder())
    names = [given.name] if given.is_absolute() else [str(given), given.name]
    places = [given] if given.is_absolute() else []
    for place in [*places, *(folder / name for name in names for folder in folders)]:
        if allowed(place) and place.is_file():
            return allowed_path(place)
    return None


def missing_file(path: str | os.PathLike[str], what: str, roots: Roots | None = None) -> DataError:
    """The error for a file that `find_elsewhere` does not find.

    Args:
        path: as given in the file.
        what: what to put there, for instance `a picture`.
        roots: those of a data set; by default those in use.
    """
    name = Path(path).name
    usual = f"put {what} called {name} into the folder AELAB_DATA, or beside the experiment file"
    if from_home(path).is_absolute():
        usual += f"; or, if the file is there: add --data {Path(path).parent}"
    return DataError(f"there is no file {path} that may be read", hint=way_out(usual, roots))


def way_out(usual: str, roots: Roots | None = None) -> str:
    """The hint for a path that is not found: `usual`, except while a stored run is opened.

    Args:
        usual: hint while the experiment file itself is read.
        roots: those of a data set; by default those in use.
    """
    roots = roots or current()
    return roots.way_out if roots is not None and roots.way_out else usual


def find(
    candidates: Sequence[str], path: str | os.PathLike[str] | None = None
) -> tuple[Path | None, list[Path]]:
    """The first existing candidate in the given path, else in `AELAB_DATA` or the cache.

    Args:
        candidates: relative names in order of preference.
        path: a folder, or the file itself; then no other place is searched.

    Returns:
        The file, or None; and all searched places, for a message.
    """
    if path is not None:
        given = resolve(path)
        if given.is_file():
            return given, [given]
        folders: tuple[Path, ...] = (given,)
    else:
        folders = (*data_folders(), cache_folder())
    names = list(candidates)
    if path is not None:
        names += [Path(name).name for name in candidates if Path(name).name not in candidates]
    places = [folder / name for folder in folders for name in names]
    for place in places:
        if place.is_file():
            return allowed_path(place), places
    return None, places


def real(path: str | os.PathLike[str]) -> Path:
    """The absolute path with links resolved as far as possible."""
    return Path(os.path.realpath(path))


def from_home(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~user` replaced, if there is such a home folder."""
    return Path(os.path.expanduser(path))


def lies_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a path, with links resolved, is inside of a folder; False for a loop of links."""
    place = real(path)
    return real(folder) in place.parents and not place.is_symlink()

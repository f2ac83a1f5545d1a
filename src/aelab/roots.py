"""Which folders may be read, and where data lies.

A block of an experiment file may name paths. Unless the caller is Python itself, reading is allowed
only under the experiment's folder, `AELAB_DATA`, the cache and folders given on the command line.
Symbolic links are resolved first, so that a link cannot lead out.

`Path.resolve` raises a RuntimeError for a link that leads to itself, `Path.expanduser` for a user
that there is not. `real` and `from_home` leave such a path as it is, and whoever opens it says that
there is no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from aelab.errors import DataError


@dataclass(frozen=True)
class Roots:
    """Folders open besides `AELAB_DATA` and the cache; relative paths start at `base`.

    Attributes:
        folders: what may be read.
        base: where relative paths start.
        further: where a relative path is looked for next, if it is not below `base`.
        way_out: what to type where a path is not found; empty for what the data part says.
    """

    folders: tuple[Path, ...]
    base: Path | None = None
    further: tuple[Path, ...] = ()
    way_out: str = ""


# One list for the process, not a context variable: a thread must not find itself unrestricted.
_stack: list[Roots | None] = []


@contextmanager
def using(paths: Iterable[str | os.PathLike[str]], base: Path | None = None) -> Iterator[None]:
    """Allow reading only under `paths`, `AELAB_DATA` and the cache.

    Args:
        paths: the experiment's folder and what the command line gives.
        base: where relative paths start; the first of `paths` if left out.
    """
    folders = tuple(real(path) for path in paths)
    with entering(Roots(folders, base or (folders[0] if folders else None))):
        yield


@contextmanager
def entering(roots: Roots | None) -> Iterator[None]:
    """The roots that were `current()` at another time; None allows everything."""
    _stack.append(roots)
    try:
        yield
    finally:
        _stack.pop()


def current() -> Roots | None:
    """The roots in force; None where Python is the caller and nothing was restricted."""
    return _stack[-1] if _stack else None


def data_folders() -> tuple[Path, ...]:
    """The existing folders of `AELAB_DATA`, several being separated as in PATH."""
    parts = os.environ.get("AELAB_DATA", "").split(os.pathsep)
    return tuple(real(from_home(part)) for part in parts if part)


def cache_folder() -> Path:
    """Where downloads and rendered sets lie: `AELAB_CACHE`, else the system's cache folder."""
    given = os.environ.get("AELAB_CACHE")
    if given:
        return real(from_home(given))

    return real(platformdirs.user_cache_dir("aelab"))


def shown_path(source: str) -> str:
    """A path as records and reports show it: without the folders of whoever ran it.

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
        DataError: if it lies outside what may be read; the message tells the ways out.
    """
    place = real(path)
    if allowed(place):
        return place
    roots = current()
    places = [str(folder) for folder in (roots.folders if roots else ())]
    folder = place.parent if place.suffix else place  # the least that would do
    link = f" (a link to {place})" if Path(os.path.abspath(path)) != place else ""
    raise DataError(
        f"{path}{link} is outside the folders that this experiment may read: "
        + ", ".join([*places, "AELAB_DATA", "the cache"]),
        hint=f"add --data {folder}, or set AELAB_DATA to a folder above it",
    )


def resolve(path: str | os.PathLike[str]) -> Path:
    """A path of an experiment file as a real, allowed path; it need not exist.

    Relative paths are looked for beside the file (of a stored run: where it stood, then in the
    folders given by `--data`), then under `AELAB_DATA`, then in the cache.
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


def way_out(usual: str, roots: Roots | None = None) -> str:
    """What to type where a path is not found: `usual`, unless a stored run is being opened.

    Args:
        usual: what helps while the experiment file itself is read.
        roots: those of a data set; left out, those in force.
    """
    roots = roots or current()
    return roots.way_out if roots is not None and roots.way_out else usual


def find(
    candidates: Sequence[str], path: str | os.PathLike[str] | None = None
) -> tuple[Path | None, list[Path]]:
    """The first existing candidate, looked for in the path given, `AELAB_DATA`, then the cache.

    Args:
        candidates: relative names in order of preference.
        path: a folder, or the file itself; then nowhere else is looked.

    Returns:
        the file, or None; and every place looked at, for a message.
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
    """The absolute path with its links followed, as far as they lead somewhere."""
    return Path(os.path.realpath(path))


def from_home(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~user` replaced, where there is such a home folder."""
    return Path(os.path.expanduser(path))


def lies_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a path, its links followed, is below a folder; one that is a loop is nowhere."""
    place = real(path)
    return real(folder) in place.parents and not place.is_symlink()

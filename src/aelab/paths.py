"""Paths as people give them and as links make them: neither a loop of links nor a home raises.

`Path.resolve` raises a RuntimeError for a link that leads to itself, `Path.expanduser` for a user
that there is not. Here such a path stays as it is, and whoever opens it says that there is no file.
"""

from __future__ import annotations

import os
from pathlib import Path


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

"""The stored files of a run at each moment: reproductions, texts, and their names."""

from __future__ import annotations

import re
from pathlib import Path

from aelab.runs.files import is_regular
from aelab.runs.record import Run

#: Name of the stored split -> its name in texts.
SPLITS = {"heldout": "held-out images", "train": "training images"}

_MOMENT = re.compile(r"(heldout|train)-(\d+)(\.png|\.txt)")


def stored_moments(run: Run, folder: str, split: str, suffix: str) -> dict[int, Path]:
    """Images trained on -> file in a folder of the run, ascending."""
    found = {}
    for path in files_in(run, folder):
        match = _MOMENT.fullmatch(path.name)
        if match and match.group(1, 3) == (split, suffix):
            found[int(match[2])] = path
    return dict(sorted(found.items()))


def files_in(run: Run, folder: str) -> list[Path]:
    """The regular files in a folder of the run, by name; empty if it cannot be read."""
    try:
        paths = sorted((run.path / folder).iterdir())
    except OSError:
        return []
    return [path for path in paths if is_regular(path, run.path)]

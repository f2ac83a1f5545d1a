"""Which paths mean ASCII art."""

from __future__ import annotations

from pathlib import Path

#: Endings that texts have; files without any count too.
ENDINGS = (".txt", ".asc", ".art", "")


def is_text(path: Path) -> bool:
    """Whether a path means ASCII art: a file by its ending, a folder that holds texts only."""
    if path.is_file():
        return path.suffix.lower() in ENDINGS
    endings = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    return ".txt" in endings and endings <= set(ENDINGS)

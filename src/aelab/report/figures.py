"""The figures stored in runs by `aelab figure`, embedded in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aelab.report.pictures import files_in
from aelab.runs.record import Run

#: Most bytes of all figures of a page, before base64 makes them a third longer.
FIGURE_BYTES = 6_000_000
_TYPES = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}


def stored_figures(run: Run) -> list[Path]:
    """The pictures in the run's `figures` folder, by name."""
    return [path for path in files_in(run, "figures") if path.suffix in _TYPES]


def embedded_figures(runs: Sequence[Run]) -> tuple[list[list[dict[str, Any]]], int]:
    """For each run, its figures as `name` and data `address`, smallest files first.

    Returns:
        The figures, and the number left out because the page would become too large.
    """
    stored = [(path, number) for number, run in enumerate(runs) for path in stored_figures(run)]
    found: list[list[dict[str, Any]]] = [[] for _ in runs]
    left_out, room = 0, FIGURE_BYTES
    for path, number in sorted(stored, key=lambda entry: (entry[0].stat().st_size, str(entry[0]))):
        if path.stat().st_size > room:
            left_out += 1
            continue
        content = path.read_bytes()
        room -= len(content)
        address = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
        found[number].append({"name": path.stem, "address": address})
    return [sorted(figures, key=lambda entry: str(entry["name"])) for figures in found], left_out

"""Reproductions and figures of many runs as data addresses, as many as fit a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aelab.errors import DataError, StoreError
from aelab.report.moments import SPLITS, files_in
from aelab.report.pictures import (
    ENCODINGS,
    PictureEncoding,
    choose_steps,
    data_url,
    encode_row,
    image_width,
    inputs,
    open_row,
    originals,
    steps,
)
from aelab.runs.files import LARGEST_PICTURE, read
from aelab.runs.record import Run

#: Most bytes of all pictures, before base64 makes them a third longer.
PICTURE_BYTES = 1_050_000

#: Most bytes of all figures of a page, before base64 makes them a third longer.
FIGURE_BYTES = 6_000_000
_TYPES = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}


class Pictures:
    """Reproductions of all runs in the best quality that fits.

    Args:
        runs: in the order of the page.

    Attributes:
        addresses: data addresses, each picture once.
        splits: `heldout` and `train` -> `steps` and `groups` of runs with the same originals.
        encoding: the chosen encoding.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        for encoding in ENCODINGS:
            self.encoding = encoding
            self.addresses: list[str] = []
            self._places: dict[bytes, int | None] = {}
            self._bytes = 0
            self.splits = {split: self._split(split, encoding) for split in SPLITS}
            if self._bytes <= PICTURE_BYTES:
                return

    def _split(self, split: str, encoding: PictureEncoding) -> dict[str, Any]:
        stored = [steps(run, split) for run in self.runs]
        chosen = choose_steps(stored, encoding.steps)
        groups: dict[int, dict[str, Any]] = {}
        for number, (run, files) in enumerate(zip(self.runs, stored, strict=True)):
            first = originals(run, split)
            if self._bytes > PICTURE_BYTES and encoding is not ENCODINGS[-1]:
                break  # too large already: try the next encoding
            place = (
                self._add(first, run, PictureEncoding(encoding.images, 1, None)) if first else None
            )
            if place is None:
                continue
            group = groups.setdefault(place, {"originals": place, **self._sizes(run, first)})
            wanted = {moment: files[moment] for moment in chosen if moment in files}
            if files:
                wanted[max(files)] = files[max(files)]
            frames = [
                [moment, picture]
                for moment, path in sorted(wanted.items())
                if (picture := self._add(path, run, encoding)) is not None
            ]
            seen = inputs(run, split)
            entry = {"run": number, "frames": frames}
            if seen is not None:  # of a model that hides parts of its images
                entry["inputs"] = self._add(seen, run, encoding)
            group["runs"].append(entry)
        moments = sorted({f[0] for g in groups.values() for r in g["runs"] for f in r["frames"]})
        return {"steps": moments, "groups": list(groups.values())}

    def _sizes(self, run: Run, path: Path | None) -> dict[str, Any]:
        row = open_row(path) if path else None
        width = image_width(run, row.size) if row else 1
        count = min(self.encoding.images, row.width // width) if row else 0
        return {"width": width, "height": row.height if row else 1, "count": count, "runs": []}

    def _add(self, path: Path, run: Run, encoding: PictureEncoding) -> int | None:
        """The index of a picture in `addresses`; None if the file is damaged or missing."""
        try:
            stored = read(path, run.path, LARGEST_PICTURE)
            key = stored + repr(encoding.quality).encode()
            if key not in self._places:
                row = open_row(path)
                kind, data = encode_row(row, image_width(run, row.size), encoding)
                self._bytes += len(data)
                self._places[key] = len(self.addresses)
                self.addresses.append(data_url(data, kind))
            return self._places[key]
        except (DataError, StoreError, OSError):
            return None


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
        address = data_url(content, _TYPES[path.suffix])
        found[number].append({"name": path.stem, "address": address})
    return [sorted(figures, key=lambda entry: str(entry["name"])) for figures in found], left_out

"""Follows the files of runs from their beginning and exports new entries."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aelab.errors import DataError
from aelab.runs.files import is_regular
from aelab.runs.record import BrokenRun, Run
from aelab.runs.status import STATES

if TYPE_CHECKING:
    from PIL import Image

#: States after which nothing is written any more.
_ENDED = frozenset(STATES) - {"waiting", "running"}
#: Stored name of a set of pictures -> its tag in the documents.
_TAGS = {"heldout": "validation_reconstruction", "train": "train_reconstruction"}


class Bridge(Protocol):
    """The interface of a bridge. The clock is always the number of images trained on."""

    def begin(self, run: Run) -> None:
        """Starts a run, with its name and settings."""

    def scalars(self, run: Run, images: int, row: Mapping[str, Any]) -> None:
        """Exports one row of the run's metrics, with its `split`."""

    def picture(self, run: Run, images: int, tag: str, picture: Image.Image) -> None:
        """Exports originals and reproductions at one moment."""

    def rewound(self, run: Run, images: int) -> None:
        """The run was continued from an earlier state: entries after it are no longer valid."""

    def end(self, run: Run) -> None:
        """Ends a run: nothing more will be exported now."""


@dataclass
class HandedOver:
    """Counts of exported rows and pictures, and the reasons for pictures left out."""

    runs: int = 0
    rows: int = 0
    pictures: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass
class _Place:
    """The position up to which one run has been read."""

    rows: int = 0
    images: int = -1
    pictures: set[Path] = field(default_factory=set)
    ended: bool = False


def follow(
    runs: Sequence[Run],
    bridge: Bridge,
    *,
    live: bool = False,
    seconds_between: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[HandedOver]:
    """Exports all entries, and with `live` also new ones until every run has ended.

    Args:
        runs: stored runs, finished or not.
        bridge: the tool.
        live: continue until no run is waiting or training.
        seconds_between: seconds between two readings of the files.
        sleep: function that waits.

    Yields:
        The counts so far, after every reading.
    """
    runs = [run for run in runs if not isinstance(run, BrokenRun)]  # the caller has reported them
    places = {run.folder: _Place() for run in runs}
    counts = HandedOver(runs=len(runs))
    for run in runs:
        bridge.begin(run)
    try:
        while True:
            for run in runs:
                _hand_over(run, bridge, places[run.folder], counts)
            yield counts
            if not live or all(place.ended for place in places.values()):
                return
            sleep(seconds_between)
    finally:
        for run in runs:
            bridge.end(run)


def _hand_over(run: Run, bridge: Bridge, place: _Place, counts: HandedOver) -> None:
    # The state first: entries written afterwards belong to the next reading.
    place.ended = run.refresh().state in _ENDED
    rows = run.metrics()
    if len(rows) < place.rows:
        place.rows = len(rows)
        place.images = max((int(row["images"]) for row in rows), default=-1)
        bridge.rewound(run, place.images + 1)
    for row in rows[place.rows :]:
        bridge.scalars(run, int(row["images"]), row)
        place.images = int(row["images"])
        counts.rows += 1
    place.rows = len(rows)
    for images, tag, path in _stored_pictures(run):
        if path not in place.pictures:
            place.pictures.add(path)
            try:
                bridge.picture(run, images, tag, _picture(run, path))
                counts.pictures += 1
            except DataError as error:
                counts.left_out.append(error.message)


def _stored_pictures(run: Run) -> list[tuple[int, str, Path]]:
    """(images, tag, file) of every stored row of reproductions, sorted by images."""
    found = []
    for path in (run.path / "images").glob("*-*.png"):
        split, _, number = path.stem.rpartition("-")
        if split in _TAGS and re.fullmatch(r"\d{1,18}", number, re.ASCII):
            found.append((int(number), _TAGS[split], path))
    return sorted(found)


def _picture(run: Run, path: Path) -> Image.Image:
    """Two blocks of eight originals above their reproductions.

    Raises:
        DataError: a file is damaged, no picture, or lies outside the run.
    """
    from PIL import Image

    from aelab.report.pictures import image_width, open_row, originals

    split = path.stem.rpartition("-")[0]
    original = originals(run, split)
    if original is None:
        raise DataError(f"{path.with_name(f'{split}-originals.png')} is no file of the run")
    if not is_regular(path, run.path):
        raise DataError(f"{path} is no file of the run")
    above, below = (open_row(file).convert("RGB") for file in (original, path))
    half = max(1, min(above.width, 8 * image_width(run, above.size)))
    rows = -(-above.width // half)
    picture = Image.new("RGB", (half, 2 * rows * above.height), "white")
    for number in range(rows):
        for offset, source in enumerate((above, below)):
            part = source.crop(
                (number * half, 0, min((number + 1) * half, above.width), above.height)
            )
            picture.paste(part, (0, (2 * number + offset) * above.height))
    return picture


def settings_of(run: Run) -> dict[str, Any]:
    """The settings of a run as flat values: matrix, seed, parameters, data."""
    record = run.record
    values: dict[str, Any] = dict(record.get("matrix") or {})
    values |= {key: record.get(key) for key in ("seed", "max_inputs", "experiment")}
    values["parameters"] = (record.get("parameters") or {}).get("model")
    values["legacy"] = bool(record.get("legacy"))
    return {key: value for key, value in values.items() if value is not None}

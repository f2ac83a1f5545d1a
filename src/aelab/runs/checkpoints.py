"""The stored states of a run: for each a pair of files, tensors and numbers.

The pair is replaced as one: both new files are written beside the old ones with the ending `.new`,
numbers last, then both are renamed. A numbers file with `.new` means that the new pair is complete:
a reader then reads the new pair, and a writer finishes the renaming.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aelab.errors import StoreError, UserError
from aelab.runs import disk
from aelab.runs.atomic import (
    explain,
    make_folder,
    sync_folder,
    with_numbers,
    write_bytes,
    write_json,
)
from aelab.runs.files import (
    LARGEST_JSON,
    LARGEST_TENSORS,
    is_regular,
    open_regular,
    read,
    read_json,
)
from aelab.runs.foreign import LARGEST

FORMAT = 1
_OTHER_STATE = "use another checkpoint of the run (RUN@images), or train again with --restart"
_ATTEMPTS = 5
_KEPT = re.compile(r"images-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """One stored state.

    Attributes:
        name: `latest`, `best`, or `images-000100000`.
        folder: where its two files are.
    """

    name: str
    folder: Path

    @property
    def tensors_path(self) -> Path:
        """The safetensors file."""
        new = self.folder / f"{self.name}.safetensors.new"
        promised = (self.folder / f"{self.name}.json.new").exists()
        return new if promised and new.exists() else self.folder / f"{self.name}.safetensors"

    @property
    def json_path(self) -> Path:
        """The file with the numbers."""
        new = self.folder / f"{self.name}.json.new"
        return new if new.exists() else self.folder / f"{self.name}.json"

    @property
    def images(self) -> int:
        """The number of images trained on."""
        kept = _KEPT.fullmatch(self.name)
        return int(kept.group(1)) if kept else int(self.about()["images"])

    def about(self) -> dict[str, Any]:
        """The JSON file: `images`, `metrics_offset` in bytes, `tensors` {bytes, sha256}, `numbers`.

        Raises:
            StoreError: if it is missing, damaged, or of a newer format.
        """
        about: dict[str, Any] = with_numbers(read_json(self.json_path, self.folder.parent))
        version = about.get("format", 0)
        if not isinstance(version, int):
            raise StoreError(f"{self.json_path}: `format` is {version!r}, expected a number")
        if version > FORMAT:
            raise StoreError(
                f"{self.json_path} has checkpoint format {about['format']}; this aelab reads up "
                f"to {FORMAT}",
                hint="pip install --upgrade aelab",
            )
        missing = {"images", "metrics_offset", "numbers"} - set(about)
        if missing:
            raise StoreError(f"{self.json_path} lacks {', '.join(sorted(missing))}")
        counts = (about["images"], about["metrics_offset"])
        if not all(type(count) is int and 0 <= count <= LARGEST for count in counts) or not (
            isinstance(about["numbers"], dict) and isinstance(about.get("tensors", {}), dict)
        ):
            raise StoreError(f"{self.json_path} is damaged: it holds values of the wrong kind")
        return about

    def read(self) -> tuple[bytes, dict[str, Any]]:
        """The tensors file's bytes, checked against their hash, and the caller's `numbers`.

        Raises:
            StoreError: if a file is missing or damaged.
        """
        for attempt in range(_ATTEMPTS):
            try:
                about, path = self.about(), self.tensors_path
                data = read(path, self.folder.parent, LARGEST_TENSORS)
            except (OSError, StoreError) as error:
                if attempt + 1 < _ATTEMPTS:  # a writer may be replacing the pair at this moment
                    time.sleep(0.02)
                    continue
                if isinstance(error, OSError):
                    raise explain(error, self.tensors_path, "read") from error
                raise
            if hashlib.sha256(data).hexdigest() == about.get("tensors", {}).get("sha256"):
                return data, about["numbers"]
            time.sleep(0.02)
        raise StoreError(
            f"{path} is damaged: its {len(data):,} bytes do not have the hash noted when they "
            "were written",
            hint=_OTHER_STATE,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name of each tensor -> its shape, from the header of the safetensors file alone.

        Raises:
            StoreError: if the file is missing, or no safetensors file.
        """
        path = self.tensors_path
        try:
            head = json.loads(self._head(path))
            return {
                str(name): tuple(int(size) for size in entry["shape"])
                for name, entry in head.items()
                if name != "__metadata__"
            }
        except OSError as error:
            raise explain(error, path, "read") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{path} is damaged: it is not a safetensors file ({error})", hint=_OTHER_STATE
            ) from error

    def _head(self, path: Path) -> bytes:
        """The JSON header of a safetensors file, which follows eight bytes with its length."""
        if not is_regular(path, self.folder.parent):
            raise StoreError(f"{path} is not a file inside the run", hint=_OTHER_STATE)
        descriptor = open_regular(path, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LARGEST_JSON:
                raise ValueError(f"its head would have {length:,} bytes")
            return file.read(length)


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """All states in `folder`: kept ones by images, then `best`, then `latest`."""
    try:
        names = {entry.name.removesuffix(".new") for entry in os.scandir(folder)}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, folder, "read") from error
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    found = [name for name in found if name in ("best", "latest") or _KEPT.fullmatch(name)]
    order = {"best": 1, "latest": 2}
    found.sort(key=lambda name: (order.get(name, 0), name))
    return [Checkpoint(name, folder) for name in found]


def save_checkpoint(
    folder: Path, name: str, images: int, tensors: bytes, numbers: Mapping[str, Any], offset: int
) -> Checkpoint:
    """Write one state; a crash or a full disk at any moment leaves the old pair or the new one.

    Args:
        folder: the run's `checkpoints`; made if missing.
        name: `latest`, `best`, or `images-000100000`.
        images: images seen.
        tensors: a safetensors file's bytes.
        numbers: values for JSON.
        offset: length of the metrics in bytes at this moment.
    """
    make_folder(folder)
    settle(folder)
    about = about_state(images, tensors, numbers, offset)
    try:
        write_bytes(folder / f"{name}.safetensors.new", tensors)
        write_json(folder / f"{name}.json.new", about)
    finally:
        settle(folder)  # also after a failure: it frees the space of the half-written pair
    return Checkpoint(name, folder)


def about_state(
    images: int, tensors: bytes, numbers: Mapping[str, Any], offset: int
) -> dict[str, Any]:
    """The content of the JSON file of a state; arguments as for `save_checkpoint`."""
    return {
        "format": FORMAT,
        "images": images,
        "metrics_offset": offset,
        "tensors": {"bytes": len(tensors), "sha256": hashlib.sha256(tensors).hexdigest()},
        "numbers": dict(numbers),
    }


def copy_checkpoint(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Copies a state under another name, by a hard link if the file system has them."""
    folder = checkpoint.folder
    settle(folder)
    if checkpoint.name == name:
        return checkpoint
    for ending in ("safetensors", "json"):
        _link(folder / f"{checkpoint.name}.{ending}", folder / f"{name}.{ending}.new")
    sync_folder(folder)
    settle(folder)
    return Checkpoint(name, folder)


def delete_checkpoint(checkpoint: Checkpoint) -> None:
    """Remove both files; numbers first, so that numbers never exist without tensors."""
    for ending in ("json", "safetensors"):
        path = checkpoint.folder / f"{checkpoint.name}.{ending}"
        try:
            disk.unlink(path)
            sync_folder(checkpoint.folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise explain(error, path, "remove") from error


def settle(folder: Path) -> None:
    """Finish or discard half-replaced pairs. Only the run's writer may call this."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".new"))
        promised = {name.removesuffix(".json.new") for name in names if name.endswith(".json.new")}
        for ending in (".safetensors.new", ".json.new", ""):  # tensors before numbers
            some = [name for name in names if name.endswith(ending)]
            for name in some:
                if name.removesuffix(".new").rpartition(".")[0] in promised:
                    disk.replace(folder / name, folder / name.removesuffix(".new"))
                elif not (folder / name).is_dir():
                    disk.unlink(folder / name)
            if some:  # otherwise a power cut could keep the second rename and lose the first
                sync_folder(folder)
            names = [name for name in names if name not in some]
        _remove_orphans(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, folder) from error


def _remove_orphans(folder: Path) -> None:
    """Removes tensors without numbers, left by an interrupted deletion."""
    present = {entry.name for entry in os.scandir(folder)}
    for name in present:
        stem = name.removesuffix(".safetensors")
        if stem != name and _KEPT.fullmatch(stem) and f"{stem}.json" not in present:
            disk.unlink(folder / name)


def superfluous(images: Iterable[int], keep: str | int) -> list[int]:
    """The kept states to delete by the rule `keep`; `best` and `latest` always stay.

    Args:
        images: number of images of each kept state.
        keep: `best+latest` (no others), `all`, a number N (N states spread evenly over the images
            so far, including the newest), `last N` (the N newest) or `every N` (the first at or
            after each multiple of N images).

    Raises:
        UserError: for any other rule.
    """
    have = sorted(set(images))
    kind, count = _parse_keep(keep)
    if kind == "all":
        return []
    if kind == "last":
        stay = set(have[-count:]) if count else set()
    elif kind == "every":
        firsts: dict[int, int] = {}
        for number in have:
            firsts.setdefault(number // count, number)
        stay = set(firsts.values())
    else:
        stay = set(_evenly(have, count))
    return [number for number in have if number not in stay]


def _parse_keep(keep: str | int) -> tuple[str, int]:
    if keep == "all":
        return "all", 0
    if keep == "best+latest":
        return "last", 0
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0:
        return "evenly", keep
    match = re.fullmatch(r"(last|every) +([\d_,]+)", str(keep))
    count = int(re.sub("[_,]", "", match.group(2)) or 0) if match else 0
    if match is None or (match.group(1) == "every" and count < 1):
        raise UserError(
            f"keep_checkpoints: {keep!r} is no rule",
            hint="possible: best+latest, all, a number N (spread evenly), `last N`, "
            "`every N` (images)",
        )
    return match.group(1), count


def _evenly(have: list[int], count: int) -> list[int]:
    """Thins `have` to `count`, removing where neighbours are nearest; keeps the newest."""
    stay = list(have)
    while len(stay) > count:
        if len(stay) == 1:
            return []
        gaps = [
            (stay[i + 1] - (stay[i - 1] if i else 0), i) for i in range(len(stay) - 1)
        ]  # the gap that would remain without state i
        del stay[min(gaps)[1]]
    return stay


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(temporary)
        try:
            disk.link(source, temporary)
        except OSError:  # a file system without hard links
            write_bytes(target, source.read_bytes())
            return
        disk.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise explain(error, target) from error

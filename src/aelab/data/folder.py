"""Folders of pictures: PNG, JPEG, WebP, GIF and others; as large as the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aelab.data import roots
from aelab.data.base import Dataset, Shape, content_sha256, make_images
from aelab.data.decode import EXTENSIONS, Frames, decode, image_shape
from aelab.data.files_below import FilesBelow
from aelab.data.prepare import checked_shape, prepare
from aelab.data.progress import track
from aelab.data.split import content_keys, is_validation
from aelab.errors import DataError
from aelab.ops.crops import center_crop
from aelab.ops.resize import filter_name
from aelab.types import Images, Provenance

Fit = Literal["crop", "pad", "stretch"]


class Folder(FilesBelow):
    """The pictures of a folder and its subfolders, see `image_folder_dataset`."""

    name = "folder"

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, ...] | None = None,
        interpolation: bool | str = True,
        *,
        fit: Fit = "crop",
        frames: Frames = "first",
        validation: bool | None = None,
        skip_corrupt: bool = False,
        memory_limit_mb: float = 2048,
    ) -> None:
        super().__init__(path)
        self.wanted = checked_shape(shape) if shape is not None else None
        self.resize_filter = filter_name(interpolation)
        if fit not in ("crop", "pad", "stretch"):
            raise DataError(f"fit is 'crop', 'pad' or 'stretch', got {fit!r}")
        if frames not in ("first", "all"):
            raise DataError(f"frames is 'first' or 'all', got {frames!r}")
        self.fit, self.frames = fit, frames
        self.validation = None if validation is None else bool(validation)
        self.skip_corrupt = bool(skip_corrupt)
        self.memory_limit_mb = float(memory_limit_mb)

    def _list(self) -> list[Path]:
        return list_pictures(self.path)

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as wanted, or of the first file."""
        return self.wanted or image_shape(self.files()[0])

    def fingerprint(self) -> str:
        """Path, size and time of every file, and how they are read."""
        values = (self.wanted, self.resize_filter, self.fit, self.frames, self.skip_corrupt)
        return f"folder {self.path} {self._files_digest()} {values} {self.validation}"

    def _read(self) -> Images:
        shape = checked_shape(self.item_shape())
        bytes_needed = len(self.files()) * shape[0] * shape[1] * shape[2]
        mapped = bytes_needed > self.memory_limit_mb * (1 << 20)
        if mapped:
            pixels, rows, skipped, resized, sha256 = self._mapped(shape)
        else:
            pixels, rows, skipped, resized = self._gathered(shape)
            sha256 = content_sha256(pixels)
        labels, names = self._labels(rows)
        source = Provenance(self.name, str(self.path), len(pixels), sha256)
        facts = {"resized": resized, "memory_mapped": mapped, "skipped_files": skipped}
        if resized:
            facts["filter"] = self.resize_filter
        if names:
            facts["label_names"] = names
        return make_images(pixels, labels=labels, provenance=[source], facts=facts, sha256=sha256)

    def _pictures(self, shape: Shape, skipped: list[str]) -> Iterator[tuple[int, Tensor, bool]]:
        """(file number, (1, C, H, W) at `shape`, whether it was resized) of the wished side."""
        files = self.files()
        for number, file in enumerate(track(files, f"reading {self.path.name}", len(files))):
            try:
                pictures = list(decode(file, self.frames))
            except DataError:
                if not self.skip_corrupt:
                    raise
                skipped.append(str(file))
                continue
            for picture in pictures:
                if self.validation is not None:
                    side = bool(is_validation(content_keys(picture[None]))[0])
                    if side != self.validation:
                        continue
                fitting = fit_picture(picture[None], shape, self.resize_filter, self.fit)
                yield number, fitting, tuple(picture.shape[1:]) != shape[1:]

    def _gathered(self, shape: Shape) -> tuple[Tensor, list[int], list[str], bool]:
        skipped: list[str] = []
        entries = list(self._pictures(shape, skipped))
        self._not_empty(len(entries), skipped)
        pixels = torch.cat([picture for _, picture, _ in entries])
        resized = any(changed for _, _, changed in entries)
        return pixels, [number for number, _, _ in entries], skipped, resized

    def _mapped(self, shape: Shape) -> tuple[Tensor, list[int], list[str], bool, str]:
        """A file of pixels in the cache, written once and then mapped into memory."""
        key = hashlib.sha256(f"{self.fingerprint()} {shape}".encode()).hexdigest()[:24]
        target = roots.cache_folder() / "folders" / f"{key}.u8"
        record = target.with_suffix(".json")
        if not record.is_file():
            _write_mapped(target, record, self, shape)
        known = json.loads(record.read_text(encoding="utf-8"))
        pixels = map_pixels(target, (len(known["rows"]), *shape))
        return pixels, known["rows"], known["skipped"], known["resized"], known["sha256"]

    def _labels(self, rows: list[int]) -> tuple[Tensor | None, list[str]]:
        """The subfolder of each picture, if all lie in subfolders."""
        parts = [self.files()[row].relative_to(self.path).parts for row in rows]
        if any(len(part) < 2 for part in parts):
            return None, []
        names = sorted({part[0] for part in parts})
        number = {name: i for i, name in enumerate(names)}
        return torch.tensor([number[part[0]] for part in parts]), names

    def _not_empty(self, count: int, skipped: list[str]) -> None:
        if count == 0:
            side = {None: "", True: "validation ", False: "training "}[self.validation]
            raise DataError(
                f"{self.path} gives no {side}pictures: {len(self.files())} files, "
                f"{len(skipped)} of them corrupt",
                hint="with few pictures leave `validation` out and use .limit and .skip",
            )


def map_pixels(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A file of bytes as a uint8 tensor that stays on disk.

    Raises:
        DataError: if the file has another size.
    """
    expected = int(np.prod(shape))
    if path.stat().st_size != expected:
        raise DataError(
            f"the pixel cache {path} has {path.stat().st_size:,} bytes, expected {expected:,}",
            hint=f"delete {path.with_suffix('.*')}; it is made again",
        )
    # Mode "c": changes stay in memory and never reach the file.
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", shape=shape))


def list_pictures(folder: Path) -> list[Path]:
    """Picture files below a folder, sorted; hidden ones left out.

    Raises:
        DataError: see `Folder.files`.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}",
            hint=roots.way_out(
                "give path=... relative to the experiment file, to AELAB_DATA, or absolute"
            ),
        )
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                file = Path(place) / name
                if file.is_symlink():
                    roots.check(file)
                found.append(file)
    if not found:
        raise DataError(
            f"{folder} holds no pictures", hint=f"files ending with {', '.join(EXTENSIONS)} count"
        )
    return found


def fit_picture(picture: Tensor, shape: Shape, filter: str, fit: Fit) -> Tensor:
    """(1, C', H', W') at `shape`: stretched, or scaled and cropped, or scaled and padded black."""
    height, width = picture.shape[-2:]
    if fit == "stretch" or (height, width) == shape[1:]:
        return prepare(picture, shape, filter)
    pick = max if fit == "crop" else min
    factor = pick(shape[1] / height, shape[2] / width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return center_crop(prepare(picture, (shape[0], *size), filter), shape[1:]).contiguous()


def _write_mapped(target: Path, record: Path, folder: Folder, shape: Shape) -> None:
    """Pixels first, then the record that says they are complete."""
    rows: list[int] = []
    skipped: list[str] = []
    resized = False
    partial = target.with_suffix(f".{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for number, picture, changed in folder._pictures(shape, skipped):
                file.write(picture.numpy().tobytes())
                rows.append(number)
                resized = resized or changed
            file.flush()
            os.fsync(file.fileno())
        folder._not_empty(len(rows), skipped)
        partial.replace(target)
        sha256 = content_sha256(map_pixels(target, (len(rows), *shape)))
        known = {"rows": rows, "skipped": skipped, "resized": resized, "sha256": sha256}
        partial.write_text(json.dumps(known))
        partial.replace(record)
    except OSError as error:
        raise DataError(
            f"cannot write the pixel cache {target}: {error.strerror or error}",
            hint="free space there, set AELAB_CACHE to another folder, or raise memory_limit_mb",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def image_folder_dataset(
    path: str,
    shape: tuple[int, int, int] | None = None,
    interpolation: bool | str = True,
    *,
    fit: Fit = "crop",
    frames: Frames = "first",
    validation: bool | None = None,
    skip_corrupt: bool = False,
    memory_limit_mb: float = 2048,
) -> Dataset:
    """The pictures of a folder and its subfolders; transparency is composited on black.

    Labels are the first subfolders, if every picture lies in one.

    Args:
        path: relative to the experiment file, to `AELAB_DATA`, or absolute.
        shape: (C, H, W) wanted; the first picture's if left out.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        fit: for another aspect: `crop` the middle, `pad` with black, or `stretch`.
        frames: of animations: the `first`, or `all` as pictures of their own.
        validation: None for all pictures; True or False for one side of a 20 : 1 split by content.
        skip_corrupt: leave unreadable files out (they are listed in the set's facts).
        memory_limit_mb: a larger set is kept in a memory-mapped file in the cache.
    """
    return Folder(
        path,
        shape,
        interpolation,
        fit=fit,
        frames=frames,
        validation=validation,
        skip_corrupt=skip_corrupt,
        memory_limit_mb=memory_limit_mb,
    )

"""Folders of pictures: PNG, JPEG, WebP, GIF and others; as large as the disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Shape, content_sha256, make_images
from aelab.data.memory import refuse_full_disk, refuse_too_large
from aelab.data.pixel_room import NEVER, PixelRoom
from aelab.data.prepare import checked_shape, prepare
from aelab.data.sources.background import BLACK, Background, background_of
from aelab.data.sources.decode import EXTENSIONS, Frames, Noticed, decode, file_shape
from aelab.data.sources.files_below import (
    TOLD,
    UNREADABLE,
    FilesBelow,
    LeftOut,
    files_below,
    first_names,
)
from aelab.data.split import content_keys, is_validation
from aelab.errors import DataError
from aelab.files import DAMAGED
from aelab.ops.color import convert_channels
from aelab.ops.crops import center_crop, crop_window
from aelab.ops.resize import filter_name
from aelab.preparation import track
from aelab.types import Images, Provenance

Fit = Literal["crop", "pad", "stretch"]
Made = TypeVar("Made")

#: Most files that one message names; the others are counted.
MOST_ERRORS = 10


class _Read(NamedTuple):
    """Pixels (N, C, H, W), the file number of each, and counts for the provenance."""

    pixels: Tensor
    rows: list[int]
    resized: bool
    sha256: str
    skipped: list[str]
    animated: list[str]
    transparent_share: float


@dataclass
class FolderSeen(Noticed):
    """Counts kept while files are read, and the files that could not be read."""

    skipped: list[str] = field(default_factory=list)

    def told(self) -> tuple[list[str], list[str], float]:
        """Files left out, animated ones, and the share of transparent pixels."""
        return self.skipped, self.animated, self.transparent_share()


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
        background: Any = "black",
        validation: bool | None = None,
        skip_corrupt: bool = False,
        memory_limit_mb: float = 2048,
        every: int = 1,
    ) -> None:
        super().__init__(path)
        self.wanted = checked_shape(shape) if shape is not None else None
        self.resize_filter = filter_name(interpolation)
        if fit not in ("crop", "pad", "stretch"):
            raise DataError(f"fit is 'crop', 'pad' or 'stretch', got {fit!r}")
        if frames not in ("first", "all"):
            raise DataError(f"frames is 'first' or 'all', got {frames!r}")
        self.fit, self.frames = fit, frames
        self.background = background_of(background)
        #: Four channels keep the transparency.
        self.alpha = self.wanted is not None and self.wanted[0] == 4
        self.validation = None if validation is None else bool(validation)
        self.skip_corrupt = bool(skip_corrupt)
        self.memory_limit_mb = float(memory_limit_mb)
        if every != int(every) or every < 1:
            raise DataError(f"every is a whole number from 1 up, got {every!r}")
        self.every = int(every)
        self.left_out = LeftOut()

    def _list(self) -> list[Path]:
        found, self.left_out = walk_pictures(self.path)
        return found

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as wanted, or of the first readable file.

        Raises:
            DataError: no file is readable; gives the reasons for the first ones.
        """
        if self.wanted is not None:
            return self.wanted
        bad: list[DataError] = []
        for file in self.files():
            try:
                return self._shape_of(file)
            except DataError as error:
                bad.append(error)
        raise _all_bad(self.path, bad, len(bad))

    def stored_shapes(self) -> Iterator[tuple[int, ...]]:
        """(C, H, W) of each picture, from the header of its file."""
        for file in self.files():
            try:
                yield self._shape_of(file)
            except DataError:
                if not self.skip_corrupt:
                    raise

    def fingerprint(self) -> str:
        """Path, size and time of every file, and the arguments of reading."""
        values = (self.wanted, self.resize_filter, self.fit, self.frames, self.skip_corrupt)
        behind = "" if self.background == BLACK else f" {self.background}"
        if self.every > 1:
            behind += f" every {self.every}"
        return f"folder {self.path} {self._files_digest()} {values} {self.validation}{behind}"

    def _shape_of(self, file: Path) -> tuple[int, int, int]:
        """(C, H, W) of one file from its header."""
        return file_shape(file)

    def read(self) -> Images:
        shape = checked_shape(self.item_shape())
        bytes_needed = len(self.files()) * shape[0] * shape[1] * shape[2]
        mapped = bytes_needed > self.memory_limit_mb * (1 << 20)
        # One picture is made in double precision, also where the set lies on disk.
        at_once = shape[0] * shape[1] * shape[2] * 8
        refuse_too_large(
            at_once if mapped else max(bytes_needed, at_once),
            f"{self.path} at {'x'.join(map(str, shape))}",
        )
        read = self._mapped(shape) if mapped else self._gathered(shape)
        labels, names = self._labels(read.rows, read.skipped)
        left_out = self.left_out.plus(UNREADABLE, map(self._named, read.skipped))
        note = "; ".join(filter(None, (left_out.note(), self._animated_note(read.animated))))
        source = Provenance(
            self.name, str(self.path), len(read.pixels), read.sha256, note, left_out.record()
        )
        facts = {
            "resized": read.resized,
            "memory_mapped": mapped,
            "skipped_files": read.skipped,
            "left_out": left_out.counts(),
            "animated_files": read.animated,
            "transparent_share": read.transparent_share,
        }
        if self.alpha:
            facts["alpha"] = True
        if read.resized:
            facts["filter"] = self.resize_filter
        if names:
            facts["label_names"] = names
        return make_images(
            read.pixels,
            labels=labels,
            provenance=[source],
            facts=facts,
            sha256=read.sha256,
            file_names=self._names(read.rows),
        )

    def _names(self, rows: list[int]) -> list[str]:
        """The file name of each image below the folder, with `#frame` if all frames are read."""
        names = [self._named(str(file)) for file in self.files()]
        if self.frames == "first":
            return [names[row] for row in rows]
        first: dict[int, int] = {}
        return [f"{names[row]}#{i - first.setdefault(row, i)}" for i, row in enumerate(rows)]

    def _animated_note(self, animated: list[str]) -> str:
        if not animated:
            return ""
        names = list(map(self._named, animated))
        return f"the first frame of {len(names):,} animated files ({first_names(names, TOLD)})"

    def _named(self, file: str) -> str:
        return Path(file).relative_to(self.path).as_posix()

    def _pictures(self, shape: Shape, seen: FolderSeen) -> Iterator[tuple[int, Tensor, bool]]:
        """Yields (file number, (1, C, H, W) at `shape`, whether resized) for the chosen side.

        Raises:
            DataError: at the end, naming all files that cannot be read.
        """
        for number, fitting in self.each_file(lambda picture: self._fitted(picture, shape), seen):
            for entry in fitting:
                if entry is not None:
                    yield (number, *entry)

    def each_file(
        self, make: Callable[[Tensor], Made], seen: FolderSeen
    ) -> Iterator[tuple[int, list[Made]]]:
        """Yields (file number, what `make` makes of each of its pictures) of the readable files.

        Args:
            make: gets one picture (C, H, W) uint8 in its own size. Pictures are not kept: all
                frames of an animation in full size may not fit into memory.
            seen: counts, and the files left out because of `skip_corrupt`.

        Raises:
            DataError: at the end, naming all files that cannot be read, without `skip_corrupt`.
        """
        files = self.files()
        bad: list[DataError] = []
        for number, file in enumerate(track(files, f"reading {self.path.name}", len(files))):
            try:
                made = [make(picture) for picture in self._decoded(file, seen)]
            except DataError as error:
                if not self.skip_corrupt:
                    bad.append(error)
                seen.skipped.append(str(file))
                continue
            yield number, made
        if bad:
            raise _all_bad(self.path, bad, len(files))

    def _decoded(self, file: Path, seen: FolderSeen) -> Iterator[Tensor]:
        frames = decode(file, self.frames, self.background, alpha=self.alpha, noticed=seen)
        return itertools.islice(frames, 0, None, self.every)

    def _fitted(self, picture: Tensor, shape: Shape) -> tuple[Tensor, bool] | None:
        """The picture at `shape`, and whether it was resized; None if it is of the other side."""
        if self.validation is not None:
            side = bool(is_validation(content_keys(picture[None]))[0])
            if side != self.validation:
                return None
        fitting = fit_picture(picture[None], shape, self.resize_filter, self.fit, self.background)
        return fitting, tuple(picture.shape[1:]) != shape[1:]

    def _gathered(self, shape: Shape) -> _Read:
        seen = FolderSeen()
        # An animation has any number of frames.
        count = len(self.files()) if self.frames == "first" else None
        room = PixelRoom(count, str(self.path), mapped=NEVER)  # `memory_limit_mb` decides
        rows: list[int] = []
        resized = False
        for number, picture, changed in self._pictures(shape, seen):
            room.add(picture)
            rows.append(number)
            resized = resized or changed
        self._not_empty(len(rows), seen.skipped)
        pixels = room.done()
        return _Read(pixels, rows, resized, content_sha256(pixels), *seen.told())

    def _mapped(self, shape: Shape) -> _Read:
        """Maps a file of pixels in the cache into memory; writes it first if needed."""
        # The fingerprint contains size and time of every file: a changed folder gets a new cache.
        key = hashlib.sha256(f"{self.fingerprint()} {shape}".encode()).hexdigest()[:24]
        target = roots.cache_folder() / "folders" / f"{key}.u8"
        record = target.with_suffix(".json")
        if not record.is_file():
            _write_mapped(target, record, self, shape)
        known = json.loads(record.read_text(encoding="utf-8"))
        pixels = map_pixels(target, (len(known["rows"]), *shape))
        return _Read(
            pixels, known["rows"], known["resized"], known["sha256"], known["skipped"],
            known.get("animated", []), known.get("transparent_share", 0.0),
        )  # fmt: skip

    def _labels(self, rows: list[int], skipped: list[str]) -> tuple[Tensor | None, list[str]]:
        """Labels by subfolder and the class names, if all pictures lie in subfolders.

        Classes are numbered over the whole folder, not only the side that is read: otherwise a
        class without a picture on one side would shift all later numbers.
        """
        left_out = set(skipped)
        folders = {
            number: file.relative_to(self.path).parts[:-1]
            for number, file in enumerate(self.files())
            if str(file) not in left_out
        }
        classes = self._classes(folders)
        if not all(classes.values()):
            return None, []
        names = sorted(set(classes.values()))
        number_of = {name: i for i, name in enumerate(names)}
        return torch.tensor([number_of[classes[row]] for row in rows]), names

    def _classes(self, folders: dict[int, tuple[str, ...]]) -> dict[int, str]:
        """The class of each file by the folders above it; empty for a file in none."""
        return {number: parts[0] if parts else "" for number, parts in folders.items()}

    def _not_empty(self, count: int, skipped: list[str]) -> None:
        if count == 0:
            side = {None: "", True: "validation ", False: "training "}[self.validation]
            raise DataError(
                f"{self.path} gives no {side}pictures: {len(self.files())} files, "
                f"{len(skipped)} of them corrupt",
                hint="with few pictures leave `validation` out and use .limit and .skip",
            )


def map_pixels(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Maps a file of bytes as a uint8 tensor that stays on disk.

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
    """Picture files below a folder, sorted; see `walk_pictures`."""
    return walk_pictures(folder)[0]


def walk_pictures(folder: Path) -> tuple[list[Path], LeftOut]:
    """Picture files below a folder, sorted, and the files left out.

    Links are followed if they lead into folders that may be read. A folder is read only once, so
    that loops of links end. Pipes, sockets and devices are left out.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}",
            hint=roots.way_out(
                "give path=... relative to the experiment file, to AELAB_DATA, or absolute"
            ),
        )
    found, left_out = files_below(folder, EXTENSIONS)
    if not found:
        others = left_out.told()
        raise DataError(
            f"{folder} holds no pictures{f'; it holds: {others}' if others else ''}",
            hint=f"files ending with {', '.join(EXTENSIONS)} count",
        )
    return found, left_out


def _all_bad(folder: Path, errors: list[DataError], count: int) -> DataError:
    """One error that names all files that cannot be read."""
    if len(errors) == 1:
        return errors[0]
    lines = [
        "\n  ".join(filter(None, (error.message, error.hint if error.hint != DAMAGED else "")))
        for error in errors[:MOST_ERRORS]
    ]
    more = len(errors) - len(lines)
    lines += [f"and {more:,} more"] if more else []
    return DataError(
        f"{len(errors):,} of the {count:,} files of {folder} cannot be read:\n  "
        + "\n  ".join(lines),
        hint="repair or remove them; skip_corrupt=True leaves such files out and lists them",
    )


def fit_picture(
    picture: Tensor, shape: Shape, filter: str, fit: Fit, background: Background = BLACK
) -> Tensor:
    """Fits (1, C', H', W') to `shape`: stretched, or scaled and cropped, or scaled and padded.

    Padding has the colour `background`; black for a checkerboard, transparent with 4 channels.
    """
    height, width = picture.shape[-2:]
    if fit == "stretch" or (height, width) == shape[1:]:
        return prepare(picture, shape, filter, alpha=True)
    # The larger factor covers the whole shape, the smaller one fits inside it.
    pick = max if fit == "crop" else min
    factor = pick(shape[1] / height, shape[2] / width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    # Only the middle is computed: a picture of 20,000 x 1 would become 640,000 x 32 in full.
    inner = min(size[0], shape[1]), min(size[1], shape[2])
    middle = prepare(picture, (shape[0], *size), filter, crop_window(size, inner), alpha=True)
    if isinstance(background, str) or shape[0] == 4 or max(background) == 0:
        return center_crop(middle, shape[1:]).contiguous()
    colour = torch.tensor(background, dtype=torch.uint8).view(1, 3, 1, 1)
    canvas = convert_channels(colour, shape[0]) if shape[0] != 3 else colour
    inked = center_crop(torch.ones_like(middle[:, :1]), shape[1:]).bool()
    return torch.where(inked, center_crop(middle, shape[1:]), canvas).contiguous()


def _write_mapped(target: Path, record: Path, folder: Folder, shape: Shape) -> None:
    """Writes the pixels, then the record, whose existence means that the pixels are complete."""
    rows: list[int] = []
    seen = FolderSeen()
    resized = False
    bytes_needed = len(folder.files()) * shape[0] * shape[1] * shape[2]
    refuse_full_disk(target, bytes_needed)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for number, picture, changed in folder._pictures(shape, seen):
                file.write(picture.numpy().tobytes())
                rows.append(number)
                resized = resized or changed
            file.flush()
            os.fsync(file.fileno())
        folder._not_empty(len(rows), seen.skipped)
        partial.replace(target)
        sha256 = content_sha256(map_pixels(target, (len(rows), *shape)))
        skipped, animated, share = seen.told()
        known = {
            "rows": rows, "skipped": skipped, "resized": resized, "sha256": sha256,
            "animated": animated, "transparent_share": share,
        }  # fmt: skip
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

"""Pictures in one file: ZIP and tar archives, Parquet tables, films, animations.

Each is a `Folder` whose files lie inside of the file: `pictures.zip/cats/1.png` is the picture
`cats/1.png` of `pictures.zip`. Nothing is unpacked to the place that a name tells, so names cannot
lead out. Sizes are bounded before anything is unpacked.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import file_stamp
from aelab.data.memory import refuse_full_disk
from aelab.data.sources.decode import EXTENSIONS, decode, file_shape
from aelab.data.sources.files_below import HIDDEN, OTHER, LeftOut
from aelab.data.sources.folder import Folder, FolderSeen
from aelab.errors import DataError, MissingExtra
from aelab.files import open_file
from aelab.types import Images

#: Most files in one archive, and most bytes of one packed picture and of an unpacked archive.
MOST_MEMBERS = 5_000_000
MOST_PICTURE_BYTES = 256 << 20
MOST_ARCHIVE_BYTES = 64 << 30
#: Packed pictures and text shrink by less than this; more is a decompression bomb.
MOST_RATIO = 200
#: Below this size the ratio says nothing: a few kilobytes of one colour shrink well.
_SMALL = 16 << 20

#: Reasons for leaving a member of an archive out.
LEADS_OUT = "names that lead out of the archive"
NO_FILE = "links, devices or folders"
TOO_LARGE = "larger than a picture can be"

_PART = 1 << 20


class Packed(Folder):
    """Pictures inside of one file; see `image_folder_dataset` for the arguments."""

    #: What the file is, in words.
    what: ClassVar[str]

    @abstractmethod
    def _members(self) -> Iterator[tuple[str, int, str]]:
        """(name, size in bytes, reason to leave it out or "") of every file inside."""

    @abstractmethod
    def _content(self, name: str) -> IO[bytes]:
        """The bytes of one picture, bounded."""

    def close(self) -> None:  # not every kind keeps its file open
        """Closes the file; it is opened again when it is needed."""

    def files(self) -> list[Path]:
        """All pictures in a stable order; listed once."""
        if self._files is not None:
            return self._files
        try:
            return super().files()
        finally:
            self.close()

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as wanted, or of the first readable picture."""
        try:
            return super().item_shape()
        finally:
            self.close()

    def stored_shapes(self) -> Iterator[tuple[int, ...]]:
        """(C, H, W) of each picture, from its header."""
        try:
            yield from super().stored_shapes()
        finally:
            self.close()

    def read(self) -> Images:
        try:
            return super().read()
        finally:
            self.close()

    def _list(self) -> list[Path]:
        found, self.left_out = [], LeftOut()
        for number, (name, size, reason) in enumerate(self._members()):
            if number >= MOST_MEMBERS:
                raise self._refused(f"holds more than {MOST_MEMBERS:,} files")
            reason = reason or _reason(name, size)
            if reason:
                self.left_out.add(reason, _plain(name))
            else:
                found.append(name)
        if not found:
            others = self.left_out.told()
            raise DataError(
                f"{self.path}, {self.what}, holds no pictures"
                + (f"; it holds: {others}" if others else ""),
                hint=f"files ending with {', '.join(EXTENSIONS)} count",
            )
        return [self.path / name for name in sorted(found, key=_order)]

    def _files_digest(self) -> str:
        return file_stamp(self.path)

    def _shape_of(self, file: Path) -> tuple[int, int, int]:
        with self._opened(file) as content:
            return file_shape(file, content)

    def _decoded(self, file: Path, seen: FolderSeen) -> Iterator[Tensor]:
        with self._opened(file) as content:
            yield from decode(
                file, self.frames, self.background, alpha=self.alpha, noticed=seen, content=content
            )

    def _classes(self, folders: dict[int, tuple[str, ...]]) -> dict[int, str]:
        """The first folder below those that hold everything: archives often hold one folder."""
        first = next(iter(folders.values()), ())
        common = 0
        while common < len(first) and all(parts[: common + 1] == first[: common + 1]
                                          for parts in folders.values()):  # fmt: skip
            common += 1
        return super()._classes({number: parts[common:] for number, parts in folders.items()})

    def _opened(self, file: Path) -> IO[bytes]:
        try:
            return self._content(self._named(str(file)))
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(
                f"cannot read {file}: {error or type(error).__name__}",
                hint=f"{self.path} may be damaged; skip_corrupt=True leaves such pictures out",
            ) from None

    def _refused(self, what: str) -> DataError:
        return DataError(f"{self.path}, {self.what}, {what}", hint="unpack it, and give the folder")


_DAMAGE = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


class ZipPictures(Packed):
    """The pictures of a ZIP archive."""

    name, what = "zip", "a ZIP archive"
    _archive: zipfile.ZipFile | None = None
    _file: IO[bytes]

    def close(self) -> None:
        """Closes the archive and its file."""
        if self._archive is not None:
            self._archive.close()
            self._file.close()
            self._archive = None

    def _zip(self) -> zipfile.ZipFile:
        if self._archive is None:
            file = open_file(self.path)
            try:
                self._archive, self._file = zipfile.ZipFile(file), file
            except _DAMAGE as error:
                file.close()
                raise DataError(
                    f"cannot read the ZIP archive {self.path}: {error}", hint="copy it again"
                ) from None
        return self._archive

    def _members(self) -> Iterator[tuple[str, int, str]]:
        for entry in self._zip().infolist():
            if entry.is_dir():
                continue
            # The upper 16 bits are the Unix mode; a link's content is a path.
            link = (entry.external_attr >> 16) & 0o170000 == 0o120000
            if entry.flag_bits & 1:
                raise self._refused("is encrypted")
            yield entry.filename, entry.file_size, NO_FILE if link else ""

    def _content(self, name: str) -> IO[bytes]:
        archive = self._zip()
        entry = archive.getinfo(name)
        bomb = entry.file_size > max(_SMALL, MOST_RATIO * entry.compress_size)
        if bomb:
            raise DataError(
                f"{self.path}/{name} unpacks to {entry.file_size:,} bytes from "
                f"{entry.compress_size:,}: it is no picture",
                hint="remove it from the archive; skip_corrupt=True leaves it out",
            )
        with archive.open(entry) as member:
            # A header may tell too small a size: never more than the bound is read.
            return io.BytesIO(member.read(MOST_PICTURE_BYTES))


class TarPictures(Packed):
    """The pictures of a tar archive, packed or not.

    A packed one is unpacked into a temporary file of the cache, as one file, since pictures are
    read in the order of their names.
    """

    name, what = "tar", "a tar archive"
    _tar: tarfile.TarFile | None = None
    _file: IO[bytes] | None = None

    def close(self) -> None:
        """Closes the archive; what was unpacked of a packed one is removed with it."""
        if self._tar is not None and self._file is not None:
            self._tar.close()
            self._file.close()
            self._tar = self._file = None

    def _archive(self) -> tarfile.TarFile:
        if self._tar is None:
            try:
                self._file = self._plain_tar()
                self._tar = tarfile.open(fileobj=self._file, mode="r:")
            except DataError:
                raise
            except _DAMAGE as error:
                if self._file is not None:
                    self._file.close()
                    self._file = None
                raise DataError(
                    f"cannot read the tar archive {self.path}: {error}", hint="copy it again"
                ) from None
        return self._tar

    def _plain_tar(self) -> IO[bytes]:
        file = open_file(self.path)
        unpack = _unpacker(file.read(6))
        file.seek(0)
        if unpack is None:
            return file
        folder = roots.cache_folder() / "unpacked"
        folder.mkdir(parents=True, exist_ok=True)
        packed_bytes = self.path.stat().st_size
        most = min(MOST_ARCHIVE_BYTES, max(_SMALL, MOST_RATIO * packed_bytes))
        refuse_full_disk(folder / "archive", packed_bytes)
        made = tempfile.TemporaryFile(dir=folder)
        try:
            with file, unpack(file) as content:
                while part := content.read(_PART):
                    made.write(part)
                    if made.tell() > most:
                        raise self._refused(f"unpacks to more than {most:,} bytes")
        except BaseException:
            made.close()
            raise
        made.seek(0)
        return made

    def _members(self) -> Iterator[tuple[str, int, str]]:
        try:
            for entry in self._archive():
                if not entry.isdir():
                    yield entry.name, entry.size, "" if entry.isreg() else NO_FILE
        except _DAMAGE as error:
            raise DataError(
                f"cannot read the tar archive {self.path}: {error}", hint="copy it again"
            ) from None

    def _content(self, name: str) -> IO[bytes]:
        content = self._archive().extractfile(name)
        if content is None:
            raise DataError(f"{self.path}/{name} is no file")
        with content:
            return io.BytesIO(content.read(MOST_PICTURE_BYTES))


def _unpacker(head: bytes) -> Callable[[IO[bytes]], Any] | None:
    if head[:2] == b"\x1f\x8b":
        return gzip.open
    if head[:3] == b"BZh":
        return bz2.open
    return lzma.open if head == b"\xfd7zXZ\x00" else None


def _reason(name: str, size: int) -> str:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0] or "\0" in name:
        return LEADS_OUT
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return HIDDEN
    if not name.lower().endswith(EXTENSIONS):
        return OTHER
    return TOO_LARGE if size > MOST_PICTURE_BYTES else ""


def _order(name: str) -> list[tuple[int, str]]:
    """The order of a folder: its files before its subfolders, each sorted."""
    *folders, file = PurePosixPath(name).parts
    return [*((1, folder) for folder in folders), (0, file)]


def _plain(name: str) -> str:
    """A name without control characters, for records."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)[:200]


class ParquetPictures(Packed):
    """The pictures of a Parquet table, as Hugging Face publishes them.

    Picture bytes are in a column of bytes, or of structs with `bytes` and `path`; labels are whole
    numbers in the column `label` (or `labels`, `fine_label`), whose names may be in the metadata.
    """

    name, what = "parquet", "a Parquet table"
    _LABELS: ClassVar = ("label", "labels", "fine_label", "class")
    _table: Any = None
    _group: tuple[int, Any] = (-1, None)
    _file: IO[bytes]

    def close(self) -> None:
        """Closes the table and its file."""
        if self._table is not None:
            self._table.close()
            self._file.close()
            self._table, self._group = None, (-1, None)

    def _parquet(self) -> Any:
        if self._table is None:
            try:
                import pyarrow
                import pyarrow.parquet
            except ImportError:
                raise MissingExtra("Parquet tables", "pyarrow", "files") from None
            self._file = open_file(self.path)
            try:
                self._table = pyarrow.parquet.ParquetFile(self._file)
            except (OSError, pyarrow.ArrowException) as error:
                self._file.close()
                raise DataError(
                    f"cannot read the Parquet table {self.path}: {str(error)[:120]}",
                    hint="copy it again",
                ) from None
        return self._table

    def _picture_column(self) -> str:
        """The path of the column of bytes: `image.bytes`, or `image`.

        Raises:
            DataError: there is no such column.
        """
        import pyarrow

        schema = self._parquet().schema_arrow
        for column in schema:
            if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                return f"{column.name}.bytes"
        for column in schema:
            if pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type):
                return str(column.name)
        raise DataError(
            f"{self.path} has no column of picture bytes; its columns: {', '.join(schema.names)}",
            hint="pictures are expected as PNG or JPEG bytes, in `image` or `image.bytes`",
        )

    def _members(self) -> Iterator[tuple[str, int, str]]:
        self._picture_column()
        count = self._parquet().metadata.num_rows
        # Named by row, with an ending that stands for any format: the content decides.
        for row in range(count):
            yield f"{row:09d}.png", 0, ""

    def _content(self, name: str) -> IO[bytes]:
        row = int(name.removesuffix(".png"))
        table = self._parquet()
        start = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if row < start + rows:
                break
            start += rows
        if self._group[0] != group:
            column = self._picture_column()
            read = table.read_row_group(group, columns=[column]).column(0).combine_chunks()
            values = read.field("bytes") if column.endswith(".bytes") else read
            self._group = group, values
        content = self._group[1][row - start].as_py()
        if content is None:
            raise DataError(f"row {row:,} of {self.path} has no picture")
        return io.BytesIO(content[:MOST_PICTURE_BYTES])

    def _labels(self, rows: list[int], skipped: list[str]) -> tuple[Tensor | None, list[str]]:
        import pyarrow

        schema = self._parquet().schema_arrow
        for name in self._LABELS:
            where = schema.get_field_index(name)
            if where >= 0 and pyarrow.types.is_integer(schema.field(where).type):
                values = self._parquet().read(columns=[name]).column(0).to_numpy()
                about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
                feature = about.get("info", {}).get("features", {}).get(name, {})
                names = feature.get("names") or []
                return torch.from_numpy(values.astype(np.int64)[rows]), [str(n) for n in names]
        return None, []


class OnePicture(Folder):
    """The pictures of a single file: the frames of an animation, the pages of a TIFF."""

    name = "frames"

    def _list(self) -> list[Path]:
        with open_file(self.path):
            return [self.path]

    def _named(self, file: str) -> str:
        return Path(file).name

    def _labels(self, rows: list[int], skipped: list[str]) -> tuple[Tensor | None, list[str]]:
        return None, []


class Film(OnePicture):
    """The frames of a film, each `every`-th."""

    name = "film"

    def _shape_of(self, file: Path) -> tuple[int, int, int]:
        with _film(file) as container:
            stream = container.streams.video[0]
            return 3, stream.codec_context.height, stream.codec_context.width

    def _decoded(self, file: Path, seen: FolderSeen) -> Iterator[Tensor]:
        with _film(file) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % self.every:
                    continue
                # (H, W, 3) -> (3, H, W)
                colours = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                seen.count(None, colours[0].numel())
                yield colours.contiguous()
                if self.frames == "first":
                    return


class _film:
    """A film opened by PyAV from an open file, so that it opens no further address."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            import av
        except ImportError:
            raise MissingExtra("films", "av", "video") from None
        self.file = open_file(self.path)
        try:
            self.container = av.open(self.file)
        except Exception as error:
            self.file.close()
            raise self._cannot(error) from None
        if not self.container.streams.video:
            raise DataError(f"{self.path} holds no pictures: it is a sound", hint="leave it out")
        return self.container

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.container.close()
        self.file.close()
        if error is not None and type(error).__module__.startswith("av"):
            raise self._cannot(error) from None

    def _cannot(self, error: Exception) -> DataError:
        reason = getattr(error, "strerror", None) or str(error)[:100]
        return DataError(f"cannot read the film {self.path}: {reason}", hint="convert it to MP4")

"""Sets of pictures from whatever holds them: folders, archives, tables, films, animations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aelab import roots
from aelab.data.dataset import Dataset
from aelab.data.sources.decode import Frames, file_shape
from aelab.data.sources.file_types import file_type_of
from aelab.data.sources.folder import Fit, Folder
from aelab.data.sources.packed import (
    Film,
    OnePicture,
    ParquetPictures,
    TarPictures,
    ZipPictures,
)
from aelab.errors import DataError
from aelab.files import NoPicture

#: How a file is read, by the group of its type, see `FileType`.
_READERS: dict[str, type[Folder]] = {
    "zip": ZipPictures,
    "tar": TarPictures,
    "parquet": ParquetPictures,
    "film": Film,
}


def reader_of(path: Path) -> type[Folder] | None:
    """The class that reads the pictures of a file that holds several; None for other files."""
    known = file_type_of(path)
    if known is None:
        return None
    if known.group == "packed":
        # A packed file holds pictures if it is a packed tar archive, which the name tells.
        endings = [ending.lower() for ending in path.suffixes[-2:]]
        is_tar = endings[-1:] in (["tgz"], [".tgz"], [".tbz2"], [".txz"]) or endings[:1] == [".tar"]
        return TarPictures if is_tar else None
    return _READERS.get(known.group)


def _kind(path: str) -> type[Folder]:
    """The class that reads a path; a folder if there is nothing, which then says so.

    Raises:
        DataError: it is a file that holds no pictures; says what it is and what reads it.
    """
    place = roots.resolve(path)
    if not place.is_file():
        return Folder
    found = reader_of(place)
    if found is not None:
        return found
    try:
        file_shape(place)
    except NoPicture:
        known = file_type_of(place)
        raise DataError(
            f"{path} holds no pictures: it is {known.name if known else 'of no known kind'}",
            hint=known.way_out if known else "give a folder, an archive, a Parquet table or a film",
        ) from None
    return OnePicture


def folder_of(path: str, *values: Any, frames: Frames = "first", **options: Any) -> Folder:
    """The source of the pictures of a path, with the arguments of `Folder`."""
    kind = _kind(path)
    return kind(path, *values, frames="all" if kind in (OnePicture, Film) else frames, **options)


def image_folder_dataset(
    path: str,
    shape: tuple[int, int, int] | None = None,
    interpolation: bool | str = True,
    *,
    fit: Fit = "crop",
    frames: Frames = "first",
    background: str | tuple[int, int, int] = "black",
    validation: bool | None = None,
    skip_corrupt: bool = False,
    memory_limit_mb: float = 2048,
    every: int = 1,
) -> Dataset:
    """The pictures of a folder, a ZIP or tar archive, a Parquet table, or a film.

    Transparency is composited on `background`.

    Labels are the first subfolders, if every picture lies in one; of an archive, those below the
    folders that hold everything; of a table, its column `label`. Links are followed within the
    folders that may be read. Files left out are counted and named in the set's provenance.

    Args:
        path: relative to the experiment file, to `AELAB_DATA`, or absolute: a folder; a ZIP or tar
            archive (also packed with gzip, bzip2 or xz); a Parquet table with picture bytes (extra
            `files`); a film (extra `video`); one animation.
        shape: (C, H, W) wanted; the first picture's if left out. C = 4 keeps the transparency as
            a fourth channel: red, green, blue, alpha. Resizing weights colours by alpha, so that
            invisible colours do not mix in.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        fit: for another aspect: `crop` the middle, `pad` with black, or `stretch`.
        frames: of an animation: the `first`, or `all` as separate pictures. A film, or an
            animation given as `path`, always gives all.
        background: behind transparent pixels: a name (`white`), `#rrggbb`, (red, green, blue) in
            0..255, or `checker`.
        validation: None for all pictures; True or False for one side of a 20 : 1 split by content.
        skip_corrupt: leave unreadable files out (they are listed in the set's provenance).
        memory_limit_mb: a larger set is kept in a memory-mapped file in the cache.
        every: of a film or animation: take each `every`-th frame.
    """
    source = folder_of(
        path,
        shape,
        interpolation,
        fit=fit,
        frames=frames,
        background=background,
        validation=validation,
        skip_corrupt=skip_corrupt,
        memory_limit_mb=memory_limit_mb,
        every=every,
    )
    return Dataset(source)

"""Role-playing-game tiles: the author's tensor files if present, else RLTiles, else a folder.

The provenance records which of them was read: nothing is silently substituted.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch
from torch import Tensor

from aelab import roots
from aelab.data.augment import RandomFlip, RandomShift
from aelab.data.base import Change, Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.prepare import ToShape
from aelab.data.rows import Repeat
from aelab.data.sources.atlas import Atlas
from aelab.data.sources.folder import Folder
from aelab.errors import DataError
from aelab.files import read_file
from aelab.types import Images, Provenance

_AUTHOR = {
    False: "rpg-3x32x32-uint-train.pt",
    True: "rpg-3x32x32-uint-test.pt",
}
_SHEETS = ("rpg-tiles/rltiles-32x32.png", "rltiles-32x32.png")
NOT_THE_AUTHORS = "not the author's tiles: published RPG numbers are not comparable"


class RpgTiles(Source):
    """RPG tiles as stored, see `rpg_tile_dataset_3x32x32`."""

    name = "rpg"

    def __init__(self, validation: bool | None, path: str | None = None) -> None:
        super().__init__()
        self.validation = bool(validation)
        self.path = str(roots.resolve(path)) if path is not None else None

    def item_shape(self) -> tuple[int, ...]:
        """(3, 32, 32)."""
        return (3, 32, 32)

    def fingerprint(self) -> str:
        """The file that was found, the half, and the given path."""
        found, _ = self._find()
        return f"rpg {file_stamp(found)} {self.validation} {self.path}"

    def few(self, count: int) -> Source | None:
        """Itself: the one file of tiles takes two seconds; not a folder, which may be large."""
        found, _ = self._find()
        return self if found is not None and found.is_file() else None

    def verify(self) -> None:
        """Raise DataError if no file is found in any of the places."""
        found, places = self._find()
        if found is None:
            raise _missing(places)

    def sources(self) -> list[tuple[str, str]]:
        """The place of the file that was found."""
        found, _ = self._find()
        return [(self.name, str(found) if found else "not here; set AELAB_DATA")]

    def _find(self) -> tuple[Path | None, list[Path]]:
        """Finds the author's file, the RLTiles sheet, or the folder given as `path`."""
        author = _AUTHOR[self.validation]
        names = [f"{folder}{author}" for folder in ("", "rpg-tiles/", "datasets/")]
        with roots.entering(self._roots):
            found, places = roots.find([*names, *_SHEETS], self.path)
        if found is None and self.path is not None and Path(self.path).is_dir():
            return Path(self.path), places
        return found, places

    def read(self) -> Images:
        found, places = self._find()
        if found is None:
            raise _missing(places)
        if found.suffix == ".pt":
            return self._author_file(found)
        if found.is_dir():
            pictures: Source = Folder(found, (3, 32, 32), "nearest", validation=self.validation)
            note = f"pictures of {found.name}, {NOT_THE_AUTHORS}"
        else:
            beside = found.with_suffix(".txt")
            pictures = Atlas(
                found,
                (32, 32),
                drop_duplicates=False,
                names=beside if beside.is_file() else None,
                validation=self.validation,
            )
            title = "RLTiles" if found.name in {Path(s).name for s in _SHEETS} else found.name
            note = f"{title}, {NOT_THE_AUTHORS}"
        images = Dataset(pictures).load()
        (read,) = images.provenance
        note = "; ".join(filter(None, (note, read.note)))
        source = read._replace(name=self.name, note=note)
        return Images(**{**vars(images), "provenance": (source,)})

    def _author_file(self, path: Path) -> Images:
        pixels = load_tensor(path)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (3, 32, 32):
            raise DataError(
                f"{path} holds {pixels.dtype} {tuple(pixels.shape)}, expected uint8 (N, 3, 32, 32)",
                hint="it is not the author's tile file; remove it, or give path=... to another set",
            )
        source = Provenance(self.name, str(path), len(pixels), content_sha256(pixels))
        return make_images(pixels, provenance=[source])


def load_tensor(path: Path) -> Tensor:
    """Reads one tensor of a `.pt` file without running pickled code.

    Raises:
        DataError: the file holds something else or is damaged.
    """
    try:
        content = io.BytesIO(read_file(path))
        loaded = torch.load(content, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"cannot read a tensor from {path}: {reason[0] if reason else type(error).__name__}",
            hint="a file written by torch.save(tensor, path) is expected",
        ) from None
    if not isinstance(loaded, Tensor):
        raise DataError(f"{path} holds a {type(loaded).__name__}, expected one tensor")
    return loaded


def _missing(places: list[Path]) -> DataError:
    looked = "\n    ".join(map(str, places)) or "nothing: AELAB_DATA is not set"
    return DataError(
        f"no RPG tiles were found; looked at\n    {looked}",
        hint="put rpg-3x32x32-uint-train.pt and -test.pt, or rpg-tiles/rltiles-32x32.png, into the "
        "folder that AELAB_DATA names; or give path=... of any folder of pictures",
    )


@listed("rpg", {"validation": False}, {"validation": True})
def rpg_tile_dataset_3x32x32(
    shape: tuple[int, int, int] = (3, 32, 32),
    validation: bool | None = None,
    random_shift: int = 0,
    random_flip: bool = False,
    num_repeat: int = 1,
    interpolation: bool | str = True,
    path: str | None = None,
) -> Dataset:
    """Role-playing-game tiles, 32 x 32.

    If the author's files are present (47,579 training and 2,505 validation images, never
    published), they are used with their own split. Otherwise the RLTiles sheet or the pictures of
    a folder are used, split 20 : 1 by content; tables then note that the tiles differ.

    Args:
        shape: (C, H, W) wanted.
        validation: the validation images if true, else the training ones.
        random_shift: greatest shift in pixels, drawn anew each time; the uncovered border is black.
        random_flip: flip left-right with probability 0.4, top-bottom with 0.2.
        num_repeat: how often each image appears.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        path: a folder or file; otherwise `AELAB_DATA`, then the cache.
    """
    changes: list[Change] = [ToShape(shape, interpolation)]
    if random_shift:
        changes.append(RandomShift(int(random_shift)))
    if random_flip:
        changes.append(RandomFlip())
    return Dataset(RpgTiles(validation, path), [*changes, Repeat(num_repeat)])

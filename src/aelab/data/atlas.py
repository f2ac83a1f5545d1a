"""Sprite sheets: one picture that holds many tiles."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from aelab.data import roots
from aelab.data.base import Dataset, content_sha256, file_stamp, make_images
from aelab.data.decode import decode_rgba
from aelab.data.prepare import Prepared
from aelab.data.split import PARTS, first_of_each, split_rows
from aelab.errors import DataError, ShapeError
from aelab.files import read_file
from aelab.ops.color import composite_on_black
from aelab.types import Images, Provenance


class Atlas(Dataset):
    """The tiles of one sheet, see `atlas_dataset`."""

    name = "atlas"

    def __init__(
        self,
        path: str | Path,
        tile: tuple[int, int],
        offset: tuple[int, int] = (0, 0),
        stride: tuple[int, int] | None = None,
        skip_empty: bool = True,
        drop_duplicates: bool = True,
        names: str | Path | None = None,
        validation: bool | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self.names_path = roots.resolve(names) if names is not None else None
        self.tile, self.start = _pair(tile, "tile", 1), _pair(offset, "offset", 0)
        self.stride = _pair(stride or tile, "stride", 1)
        self.skip_empty, self.drop_duplicates = bool(skip_empty), bool(drop_duplicates)
        self.validation = None if validation is None else bool(validation)
        self.first_cells = limit

    def item_shape(self) -> tuple[int, ...]:
        """(3, height, width) of a tile."""
        return (3, *self.tile)

    def verify(self) -> None:
        """Raise DataError if the sheet or the file of names is missing."""
        for path in (self.path, self.names_path):
            if path is not None and not path.is_file():
                raise DataError(
                    f"there is no file {path}",
                    hint=roots.way_out("give the path of a sprite sheet", self._roots),
                )

    def fingerprint(self) -> str:
        """The files and everything that decides which tiles are cut."""
        values = (self.tile, self.start, self.stride, self.skip_empty, self.drop_duplicates)
        files = f"{file_stamp(self.path)} {file_stamp(self.names_path)}"
        return f"atlas {files} {values} {self.validation} {self.first_cells}"

    def sources(self) -> list[tuple[str, str]]:
        """The sheet's path."""
        return [(self.name, str(self.path))]

    def _read(self) -> Images:
        self.verify()
        rgba = cut_tiles(decode_rgba(self.path), self.tile, self.start, self.stride, self.path)
        names = self._names(len(rgba))
        cells = torch.arange(len(rgba))[: self.first_cells]
        tiles = composite_on_black(rgba)
        if self.skip_empty:
            # As the old reader: what has one colour only, transparent or not, shows nothing.
            flat = tiles.flatten(2)
            varied = (flat.amax(2) != flat.amin(2)).any(1)
            cells = cells[varied[cells]]
        if self.drop_duplicates:
            cells = cells[first_of_each(tiles[cells])]
        sha256 = content_sha256(tiles[cells])
        # Numbered before the split, so that a class has one number on both sides.
        labels, label_names = _categories([names[cell] for cell in cells.tolist()])
        side = split_rows(tiles[cells], self.validation, PARTS)
        cells, labels = cells[side], None if labels is None else labels[side]
        source = Provenance(self.name, str(self.path), len(cells), sha256)
        facts = {"label_names": label_names} if label_names else {}
        return make_images(tiles[cells], labels=labels, provenance=[source], facts=facts)

    def _names(self, count: int) -> list[str]:
        if self.names_path is None:
            return [""] * count
        try:
            lines = read_file(self.names_path).decode("utf-8").split()
        except UnicodeDecodeError:
            raise DataError(
                f"{self.names_path} is no text of names (UTF-8)", hint="one name a line"
            ) from None
        if len(lines) > count:
            raise DataError(
                f"{self.names_path} names {len(lines):,} tiles, {self.path} has {count:,} cells",
                hint="check tile, offset and stride",
            )
        return lines + [""] * (count - len(lines))


def cut_tiles(
    sheet: Tensor,
    tile: tuple[int, int],
    offset: tuple[int, int],
    stride: tuple[int, int],
    path: Path,
) -> Tensor:
    """(N, C, height, width) of a (C, H, W) sheet, row by row.

    Raises:
        ShapeError: if not one tile fits.
    """
    sheet = sheet[:, offset[0] :, offset[1] :]
    if sheet.shape[1] < tile[0] or sheet.shape[2] < tile[1]:
        raise ShapeError(
            f"{path}: no tile of {tile[0]}x{tile[1]} fits into the {sheet.shape[1]}x"
            f"{sheet.shape[2]} pixels after the offset {offset}",
            hint="sizes are (height, width)",
        )
    windows = sheet.unfold(1, tile[0], stride[0]).unfold(2, tile[1], stride[1])
    return windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def _categories(names: list[str]) -> tuple[Tensor | None, list[str]]:
    """Labels are the first parts of names such as `monster/undead/ghost`."""
    if not any(names):
        return None, []
    parts = [name.split("/")[0] for name in names]
    known = sorted(set(parts))
    number = {part: i for i, part in enumerate(known)}
    return torch.tensor([number[part] for part in parts]), known


def _pair(value: int | tuple[int, int], name: str, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(v, int) or v < least for v in pair):
        raise ShapeError(f"{name} is a number or (height, width) from {least} up, got {value!r}")
    return pair[0], pair[1]


def atlas_dataset(
    path: str,
    tile: int | tuple[int, int] = 32,
    shape: tuple[int, int, int] | None = None,
    *,
    offset: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] | None = None,
    skip_empty: bool = True,
    drop_duplicates: bool = True,
    names: str | None = None,
    validation: bool | None = None,
    limit: int | None = None,
    interpolation: bool | str = False,
) -> Dataset:
    """The tiles of a sprite sheet; transparency is composited on black.

    Args:
        path: the picture.
        tile: side, or (height, width), of one tile in pixels.
        shape: (C, H, W) wanted; (3, height, width) of a tile if left out.
        offset: where the first tile starts.
        stride: from tile to tile; the tile's size if left out.
        skip_empty: leave out tiles of one colour.
        drop_duplicates: keep only the first of equal tiles.
        names: a text file naming each tile in order, one a line; the part before the first `/` is
            its label.
        validation: None for all tiles; True or False for one side of a 20 : 1 split by content.
        limit: look at the first so many tiles only.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
    """
    pairs = [_pair(tile, "tile", 1), _pair(offset, "offset", 0)]
    step = None if stride is None else _pair(stride, "stride", 1)
    sheet = Atlas(
        path, pairs[0], pairs[1], step, skip_empty, drop_duplicates, names, validation, limit
    )
    return Prepared(sheet, shape, interpolation)

"""Sprite sheets: one picture that holds many tiles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.memory import refuse_too_large
from aelab.data.prepare import ToShape, checked_shape
from aelab.data.sources.background import BLACK, background_of, over
from aelab.data.sources.decode import decode_rgba
from aelab.data.split import PARTS, first_of_each, split_rows
from aelab.errors import DataError, ShapeError
from aelab.files import read_file
from aelab.ops.color import over_colour
from aelab.types import Images, Provenance


class Atlas(Source):
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
        background: Any = "black",
        alpha: bool = False,
    ) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self.names_path = roots.resolve(names) if names is not None else None
        self.tile, self.start = _pair(tile, "tile", 1), _pair(offset, "offset", 0)
        self.stride = _pair(stride or tile, "stride", 1)
        self.skip_empty, self.drop_duplicates = bool(skip_empty), bool(drop_duplicates)
        self.validation = None if validation is None else bool(validation)
        self.first_cells = limit
        self.background, self.alpha = background_of(background), bool(alpha)

    def item_shape(self) -> tuple[int, ...]:
        """(3, height, width) of a tile; 4 channels if the transparency is kept."""
        return (4 if self.alpha else 3, *self.tile)

    def verify(self) -> None:
        """Raise DataError if the sheet or the file of names is missing."""
        for path in (self.path, self.names_path):
            if path is not None and not path.is_file():
                raise DataError(
                    f"there is no file {path}",
                    hint=roots.way_out("give the path of a sprite sheet", self._roots),
                )

    def fingerprint(self) -> str:
        """The files and all arguments that decide which tiles are cut."""
        values = (self.tile, self.start, self.stride, self.skip_empty, self.drop_duplicates)
        files = f"{file_stamp(self.path)} {file_stamp(self.names_path)}"
        behind = "" if self.background == BLACK else f" {self.background}"
        kept = " alpha" if self.alpha else ""
        return f"atlas {files} {values} {self.validation} {self.first_cells}{behind}{kept}"

    def sources(self) -> list[tuple[str, str]]:
        """The sheet's path."""
        return [(self.name, str(self.path))]

    def read(self) -> Images:
        self.verify()
        sheet = decode_rgba(self.path)
        rgba = cut_tiles(sheet, self.tile, self.start, self.stride, self.path)
        names = self._names(len(rgba))
        cells = torch.arange(len(rgba))[: self.first_cells]
        looked_at = len(cells)
        tiles = rgba if self.alpha else over(rgba, self.background)
        if self.skip_empty:
            cells = cells[_varied(rgba, tiles, black=self._is_on_black())[cells]]
        empty = looked_at - len(cells)
        if self.drop_duplicates:
            cells = cells[first_of_each(tiles[cells])]
        left_out = {"empty tiles": empty, "equal tiles": looked_at - empty - len(cells)}
        if not len(cells):
            raise DataError(
                f"{self.path}: all {looked_at:,} tiles are of one colour",
                hint="look at tile and offset, or give skip_empty=False",
            )
        sha256 = content_sha256(tiles[cells])
        # Numbered before the split, so that a class has one number on both sides.
        labels, label_names = _categories([names[cell] for cell in cells.tolist()])
        side = split_rows(tiles[cells], self.validation, PARTS)
        cells, labels = cells[side], None if labels is None else labels[side]
        rest = not_divided((sheet.shape[1], sheet.shape[2]), self.tile, self.start, self.stride)
        source = Provenance(
            self.name, str(self.path), len(cells), sha256, rest,
            tuple((reason, count, ()) for reason, count in left_out.items() if count),
        )  # fmt: skip
        facts: dict[str, Any] = {
            "left_out": {reason: count for reason, count in left_out.items() if count},
            "transparent_share": float((rgba[:, 3] < 255).float().mean()),
        }
        facts |= {"label_names": label_names} if label_names else {}
        facts |= {"alpha": True} if self.alpha else {}
        named = [f"{self.path.name}#{cell}" for cell in cells.tolist()]
        return make_images(
            tiles[cells], labels=labels, provenance=[source], facts=facts, file_names=named
        )

    def _is_on_black(self) -> bool:
        return not self.alpha and self.background == BLACK

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
    """Cuts a (C, H, W) sheet into (N, C, height, width) tiles, row by row.

    Raises:
        ShapeError: no tile fits.
    """
    sheet = sheet[:, offset[0] :, offset[1] :]
    if sheet.shape[1] < tile[0] or sheet.shape[2] < tile[1]:
        raise ShapeError(
            f"{path}: no tile of {tile[0]}x{tile[1]} fits into the {sheet.shape[1]}x"
            f"{sheet.shape[2]} pixels after the offset {offset}",
            hint="sizes are (height, width)",
        )
    count = math.prod(
        (side - size) // step + 1
        for side, size, step in zip(sheet.shape[1:], tile, stride, strict=True)
    )
    # Twice the tiles: overlapping windows are copied once, and then composited.
    refuse_too_large(
        2 * count * sheet.shape[0] * math.prod(tile),
        f"{path}: {count:,} tiles of {tile[0]}x{tile[1]}",
        "give a larger stride or a smaller sheet",
    )
    # A view (C, rows, columns, height, width), then (rows * columns, C, height, width).
    windows = sheet.unfold(1, tile[0], stride[0]).unfold(2, tile[1], stride[1])
    return windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def _varied(rgba: Tensor, tiles: Tensor, *, black: bool) -> Tensor:
    """(N,) bool: tiles that are not of one colour."""
    # As the old reader: on black, a tile of one colour is empty, transparent or not.
    seen = tiles if black else torch.cat([over_colour(rgba, (0, 0, 0)), rgba[:, 3:]], 1)
    # (N, C, H * W): a tile varies if any channel has two different values.
    flat = seen.flatten(2)
    return (flat.amax(2) != flat.amin(2)).any(1)


def not_divided(
    size: tuple[int, int], tile: tuple[int, int], offset: tuple[int, int], stride: tuple[int, int]
) -> str:
    """Describes the rows and columns of a sheet that lie in no tile; empty if there are none.

    Args:
        size: (H, W) of the sheet.
        tile, offset, stride: (height, width) each, as for `cut_tiles`.

    Returns:
        A sentence that also names strides and offsets that would fit.
    """
    rest = [
        (side - start - length) % step
        for side, length, start, step in zip(size, tile, offset, stride, strict=True)
    ]
    if not any(rest):
        return ""
    left = " and ".join(
        f"{count} {name}" for count, name in zip(rest, ("rows", "columns"), strict=True) if count
    )
    fitting = [
        f"stride={_sides(tile, gutter)}" + (f", offset={margin}" if margin else "")
        for gutter, margin in _GUTTERS
        if all(_divides(s, t, gutter, margin) for s, t in zip(size, tile, strict=True))
    ]
    way_out = f"; what fits: {' or '.join(fitting[:3])}" if fitting else ""
    return (
        f"the sheet of {size[1]}x{size[0]} pixels is not a multiple of the tiles: {left} at its "
        f"end are in no tile{way_out}"
    )


def _divides(side: int, tile: int, gutter: int, margin: int) -> bool:
    inner = side - 2 * margin
    return inner >= tile and (inner + gutter) % (tile + gutter) == 0


def _sides(tile: tuple[int, int], gutter: int) -> str:
    height, width = tile[0] + gutter, tile[1] + gutter
    return str(height) if height == width else f"({height}, {width})"


#: Common (pixels between tiles, pixels around the sheet), the most usual first.
_GUTTERS = ((0, 0), (1, 0), (2, 0), (1, 1), (2, 2), (2, 1), (4, 0), (3, 0), (4, 4), (8, 0), (0, 1))


def _categories(names: list[str]) -> tuple[Tensor | None, list[str]]:
    """Labels (N,) and class names: the first parts of names such as `monster/undead/ghost`."""
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
    background: str | tuple[int, int, int] = "black",
) -> Dataset:
    """The tiles of a sprite sheet; transparency is composited on `background`.

    If the sheet's size is no multiple of the tiles, the set's provenance records which rows and
    columns lie in no tile, and which gutters would fit.

    Args:
        path: the picture.
        tile: side, or (height, width), of one tile in pixels.
        shape: (C, H, W) wanted; (3, height, width) of a tile if left out. C = 4 keeps the
            transparency: red, green, blue, alpha.
        offset: the place of the first tile: the margin of the sheet.
        stride: the distance from tile to tile; the tile's size if left out. With a gutter of 1
            pixel between tiles of 32 it is 33.
        skip_empty: leave out tiles of one colour.
        drop_duplicates: keep only the first of equal tiles.
        names: a text file naming each tile in order, one a line; the part before the first `/` is
            its label.
        validation: None for all tiles; True or False for one side of a 20 : 1 split by content.
        limit: use only this number of tiles, from the first on.
        interpolation: True `bilinear`, False `nearest`, or a filter's name.
        background: as for `image_folder_dataset`.
    """
    pairs = [_pair(tile, "tile", 1), _pair(offset, "offset", 0)]
    step = None if stride is None else _pair(stride, "stride", 1)
    alpha = shape is not None and checked_shape(shape)[0] == 4
    sheet = Atlas(
        path, pairs[0], pairs[1], step, skip_empty, drop_duplicates, names, validation, limit,
        background, alpha,
    )  # fmt: skip
    return Dataset(sheet, [ToShape(shape, interpolation)])

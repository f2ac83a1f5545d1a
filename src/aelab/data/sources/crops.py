"""Crops of photographs: small images out of large ones of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import prepare
from aelab.data.sources.files_below import UNREADABLE
from aelab.data.sources.folder import Folder, FolderSeen
from aelab.data.sources.pictures import folder_of
from aelab.data.split import content_keys, is_validation
from aelab.errors import DataError
from aelab.ops.random import keyed_generator
from aelab.types import Images, Provenance

TOO_SMALL = "smaller than a crop"


class Crops(Source):
    """Crops of the pictures of a folder, see `crops_of`."""

    def __init__(
        self,
        pictures: Folder,
        size: tuple[int, int],
        scale: float,
        longest: int | None,
        each: int,
        seed: int,
        validation: bool | None,
        channels: int,
    ) -> None:
        super().__init__()
        self.pictures, self.size, self.scale, self.longest = pictures, size, scale, longest
        self.each, self.seed, self.validation, self.channels = each, seed, validation, channels
        self.name = f"{pictures.path.name}-crops"

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) of a crop."""
        return (self.channels, *self.size)

    def is_bytes(self) -> bool:
        """True."""
        return True

    def verify(self) -> None:
        """Raise DataError if there is no such folder, or no picture in it."""
        self.pictures.verify()

    def sources(self) -> list[tuple[str, str]]:
        """The folder."""
        return self.pictures.sources()

    def fingerprint(self) -> str:
        """The pictures and all arguments."""
        values = (self.size, self.scale, self.longest, self.each, self.seed, self.validation)
        return f"crops by name {self.pictures.fingerprint()} {values} {self.channels}"

    def read(self) -> Images:
        room = PixelRoom(None, self.name)
        names: list[str] = []
        small: list[str] = []
        seen = FolderSeen()
        files = self.pictures.files()
        for number, pictures in self.pictures.each_file(self._scaled, seen):
            named = self.pictures._named(str(files[number]))
            for frame, scaled in enumerate(pictures):
                if scaled is None:
                    continue
                if scaled.shape[2] < self.size[0] or scaled.shape[3] < self.size[1]:
                    small.append(named)
                    continue
                for crop, (top, left) in enumerate(self._places(scaled, named, frame)):
                    part = scaled[..., top : top + self.size[0], left : left + self.size[1]]
                    room.add(part)
                    names.append(f"{named}#{crop}")
        if not names:
            what = {None: "", True: "validation ", False: "training "}[self.validation]
            raise DataError(
                f"{self.pictures.path} gives no {what}crops of {self.size[0]}x{self.size[1]}: "
                f"{len(small):,} of its {len(files):,} files are smaller, "
                f"{len(seen.skipped):,} cannot be read",
                hint="take a smaller size or a larger scale",
            )
        pixels = room.done()
        left_out = self.pictures.left_out.plus(TOO_SMALL, small).plus(
            UNREADABLE, map(self.pictures._named, seen.skipped)
        )
        note = "; ".join(filter(None, (f"{self.each} crops of each picture", left_out.note())))
        source = Provenance(
            self.name,
            str(self.pictures.path),
            len(pixels),
            content_sha256(pixels),
            note,
            left_out.record(),
        )
        counts = left_out.counts()
        facts: dict[str, Any] = {"left_out": counts, "skipped_files": seen.skipped}
        return make_images(pixels, provenance=[source], facts=facts, file_names=names)

    def _scaled(self, picture: Tensor) -> Tensor | None:
        """(C', H', W') uint8 -> (1, C, h, w), by the scale and the longest side.

        None: the picture is of the other side of the split.
        """
        picture = picture[None]
        if self.validation is not None:
            if bool(is_validation(content_keys(picture))[0]) != self.validation:
                return None
        height, width = picture.shape[2:]
        factor = self.scale
        if self.longest is not None:
            factor = min(factor, self.longest / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        return prepare(picture, (self.channels, *size), "bilinear")

    def _places(self, scaled: Tensor, named: str, frame: int) -> list[tuple[int, int]]:
        """Top and left of each crop; of the validation side one in the middle."""
        rows, columns = scaled.shape[2] - self.size[0], scaled.shape[3] - self.size[1]
        if self.validation:
            return [(rows // 2, columns // 2)]
        # Keyed by seed, file name and frame: more files do not change the crops of the others.
        generator = keyed_generator(self.seed, f"crops {named} {frame}")
        drawn = torch.rand(self.each, 2, generator=generator)
        return [(int(y * (rows + 1)), int(x * (columns + 1))) for y, x in drawn.tolist()]


def crops_of(
    path: str,
    size: int | tuple[int, int],
    scale: float = 1.0,
    *,
    longest: int | None = None,
    each: int = 16,
    channels: int = 3,
    seed: int = 0,
    validation: bool | None = None,
    skip_corrupt: bool = False,
) -> Dataset:
    """Random crops of the photographs of a folder, of any sizes.

    The crops are drawn once, by the seed and the name of each file: adding or removing files does
    not change the crops of the others. Pictures smaller than a crop are left out and named in the
    set's provenance.

    Args:
        path: a folder, an archive, a Parquet table or a film, as for `image_folder_dataset`.
        size: of a crop in pixels, (H, W) or one number.
        scale: factor by which each picture is made smaller (or larger) first, antialiased.
        longest: pictures are made smaller until neither side is longer than this.
        each: crops of each picture.
        channels: 3 for colour, 1 for grey.
        seed: another seed draws other crops.
        validation: None for all pictures; True or False for one side of a 20 : 1 split of whole
            pictures by content. The validation side is one crop from the middle of each picture.
        skip_corrupt: leave unreadable files out (they are listed in the set's provenance).
    """
    sides = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)
    if len(sides) != 2 or min(sides) < 1:
        raise DataError(f"crops_of: size is (height, width) or one number, got {size!r}")
    if not scale > 0 or each < 1 or channels not in (1, 3) or (longest is not None and longest < 1):
        raise DataError(
            f"crops_of: scale={scale}, each={each}, channels={channels}, longest={longest}",
            hint="scale is above 0, each and longest from 1 up, channels 1 or 3",
        )
    pictures = folder_of(path, skip_corrupt=skip_corrupt)
    side = None if validation is None else bool(validation)
    source = Crops(pictures, sides, float(scale), longest, int(each), int(seed), side, channels)
    return Dataset(source)

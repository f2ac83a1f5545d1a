"""`ImagePatchDataset` of old files: all tiles of one picture cut into a grid."""

from __future__ import annotations

from pathlib import Path

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.prepare import ToShape, checked_shape
from aelab.data.sources.atlas import cut_tiles
from aelab.data.sources.decode import decode_rgba
from aelab.errors import DataError
from aelab.types import Images, Provenance


class ImagePatches(Source):
    """The tiles of one picture, see `ImagePatchDataset`."""

    name = "image_patch"

    def __init__(self, tile: tuple[int, int], filename: str | Path) -> None:
        super().__init__()
        self.tile = tile
        self.path = roots.resolve(filename)

    def item_shape(self) -> tuple[int, ...]:
        """(3, height, width) of a tile."""
        return (3, *self.tile)

    def verify(self) -> None:
        """Raise DataError if the picture is missing."""
        if not self.path.is_file():
            raise DataError(
                f"there is no file {self.path}",
                hint=roots.way_out("give the path of a picture", self._roots),
            )

    def fingerprint(self) -> str:
        """The file and the size of a tile."""
        return f"image_patch {file_stamp(self.path)} {self.tile}"

    def sources(self) -> list[tuple[str, str]]:
        """The picture's path."""
        return [(self.name, str(self.path))]

    def read(self) -> Images:
        self.verify()
        sheet = decode_rgba(self.path)
        pixels = cut_tiles(sheet, self.tile, (0, 0), self.tile, self.path)[:, :3].contiguous()
        source = Provenance(self.name, str(self.path), len(pixels), content_sha256(pixels))
        return make_images(pixels, provenance=[source])


def ImagePatchDataset(shape: tuple[int, int, int], filename: str | Path) -> Dataset:
    """One picture cut into a grid of tiles from its upper left corner, row by row.

    All tiles are kept, including empty and equal ones. Transparency is ignored, and the rest at the
    right and bottom edge is dropped. `atlas_dataset` has offsets, gaps and backgrounds.

    Args:
        shape: (C, H, W) of a tile.
        filename: the picture, in any format that `image_folder_dataset` reads.

    Raises:
        ShapeError: no tile fits.
    """
    wanted = checked_shape(shape)
    return Dataset(ImagePatches((wanted[1], wanted[2]), filename), [ToShape(wanted)])

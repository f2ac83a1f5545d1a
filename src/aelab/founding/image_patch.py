"""`ImagePatchDataset` of old files: all tiles of one picture cut into a grid."""

from __future__ import annotations

from pathlib import Path

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.prepare import ToShape, checked_shape
from aelab.data.sources.atlas import cut_tiles
from aelab.data.sources.decode import decode_rgba
from aelab.types import Images, Provenance


class ImagePatches(Source):
    """The tiles of one picture, see `ImagePatchDataset`."""

    name = "image_patch"

    def __init__(self, tile: tuple[int, int], filename: str | Path) -> None:
        super().__init__()
        self.tile = tile
        self.given = filename
        self.path = roots.find_elsewhere(filename)

    def item_shape(self) -> tuple[int, ...]:
        """(3, height, width) of a tile."""
        return (3, *self.tile)

    def verify(self) -> None:
        """Raise DataError if the picture is missing."""
        self._picture()

    def _picture(self) -> Path:
        if self.path is None or not self.path.is_file():
            raise roots.missing_file(self.given, "a picture", self._roots)
        return self.path

    def fingerprint(self) -> str:
        """The file and the size of a tile."""
        return f"image_patch {file_stamp(self.path)} {self.tile}"

    def sources(self) -> list[tuple[str, str]]:
        """The picture's path."""
        return [(self.name, str(self._picture()))]

    def read(self) -> Images:
        """Cuts the picture into its tiles."""
        path = self._picture()
        pixels = cut_tiles(decode_rgba(path), self.tile, (0, 0), self.tile, path)[:, :3]
        pixels = pixels.contiguous()
        source = Provenance(self.name, str(path), len(pixels), content_sha256(pixels))
        return make_images(pixels, provenance=[source])


def ImagePatchDataset(shape: tuple[int, int, int], filename: str | Path) -> Dataset:
    """One picture cut into a grid of tiles from its upper left corner, row by row.

    All tiles are kept, including empty and equal ones. Transparency is ignored, and the rest at the
    right and bottom edge is dropped. `atlas_dataset` has offsets, gaps and backgrounds.

    Args:
        shape: (C, H, W) of a tile.
        filename: the picture, in any format that `image_folder_dataset` reads. Old files name
            pictures of their author's machine: one of the same name is then searched beside the
            file, in `AELAB_DATA` and in the cache.

    Raises:
        ShapeError: no tile fits.
    """
    wanted = checked_shape(shape)
    return Dataset(ImagePatches((wanted[1], wanted[2]), filename), [ToShape(wanted)])

"""Converts pictures of any set to ASCII art: each cell becomes the most similar glyph."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from aelab import roots
from aelab.ascii.data.ascii_art import grid_size
from aelab.ascii.glyphs import font_renderer, match_glyphs
from aelab.ascii.medium import Characters
from aelab.data.augment import freeze_images
from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset, need_dataset
from aelab.data.sources.folder import map_pixels
from aelab.errors import ConfigError
from aelab.medium import Medium
from aelab.ops.augmented import floats
from aelab.ops.color import convert_channels
from aelab.ops.subset import draw_order
from aelab.ops.value_range import UNIT, to_unit
from aelab.preparation import track
from aelab.types import Images

#: Part of the cache key: raise it when the matching changes, so that old files are not used.
_VERSION = 1
_BATCH = 256


class ImageToAscii(Source):
    """The pictures of another set as ASCII art, see `image_to_ascii_dataset`."""

    def __init__(
        self,
        pictures: Dataset,
        shape: tuple[int, int],
        font_res: int,
        font_zoom: int | None,
        invert: bool | None,
        brightness: bool,
        edges: bool,
    ) -> None:
        super().__init__()
        self.pictures = pictures
        self.name = f"{pictures.name}-ascii"
        self.grid, self.font_res, self.font_zoom = shape, font_res, font_zoom
        self.invert, self.brightness, self.edges = invert, brightness, edges

    @property
    def medium(self) -> Medium:
        """The 95 printable characters of ASCII."""
        return Characters()

    def item_shape(self) -> tuple[int, ...]:
        """(1, H, W), H lines of W characters."""
        return 1, *self.grid

    def count(self) -> int | None:
        """As in the set of pictures."""
        return self.pictures.count()

    def verify(self) -> None:
        """Raise DataError if files of the set of pictures are missing."""
        self.pictures.verify()

    def sources(self) -> list[tuple[str, str]]:
        """As in the set of pictures."""
        return self.pictures.sources()

    def fingerprint(self) -> str:
        """The fingerprint of the set of pictures, and the arguments of the conversion."""
        return f"{self.pictures.fingerprint()} as ascii {_VERSION} {self.grid} {self._how()}"

    def _how(self) -> tuple[object, ...]:
        return self.font_res, self.font_zoom, self.invert, self.brightness, self.edges

    def read(self) -> Images:
        images = freeze_images(self.pictures.load())
        if images.value_range != UNIT:
            unit = to_unit(floats(images.pixels), images.value_range)
            images = replace(images, pixels=unit, value_range=UNIT)
        invert = _is_dark(images.pixels) if self.invert is None else self.invert
        pixels = self._written(images, invert)
        note = f"written in {self.grid[0]}x{self.grid[1]} characters"
        provenance = [
            entry._replace(note="; ".join(part for part in (entry.note, note) if part))
            for entry in images.provenance
        ]
        facts = {**images.facts, "memory_mapped": False, "inverted": invert}
        return make_images(
            pixels,
            labels=images.labels,
            provenance=provenance,
            facts=facts,
            medium=Characters(),
            file_names=images.file_names,
        )

    def _written(self, images: Images, invert: bool) -> Tensor:
        """(N, 1, H, W) character numbers, from the cache, or computed and stored there."""
        renderer = font_renderer(self.font_res, self.font_zoom)
        atlas = content_sha256(renderer.atlas.detach().cpu())
        stamp = f"{_VERSION} {images.content_sha256} {self.grid} {self._how()} {invert} {atlas}"
        key = hashlib.sha256(stamp.encode()).hexdigest()[:24]
        kept = roots.cache_folder() / "ascii" / f"{key}.u8"
        shape = (len(images), 1, *self.grid)
        if kept.is_file():
            return map_pixels(kept, shape).clone()
        pixels = self._matched(images.pixels, invert)
        with contextlib.suppress(OSError):  # the cache only saves time
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(f".{os.getpid()}.partial")
            partial.write_bytes(pixels.numpy().data)
            partial.replace(kept)
        return pixels

    def _matched(self, pictures: Tensor, invert: bool) -> Tensor:

        renderer = font_renderer(self.font_res, self.font_zoom)
        parts = []
        starts = range(0, len(pictures), _BATCH)
        for start in track(starts, f"writing {self.pictures.name}", len(pictures), _BATCH):
            grey = _grey(pictures[start : start + _BATCH])
            grey = 1.0 - grey if invert else grey
            parts.append(
                match_glyphs(
                    grey, self.grid, renderer, brightness=self.brightness, edges=self.edges
                )
            )
        return torch.cat(parts)[:, None].contiguous()


def _grey(pixels: Tensor) -> Tensor:
    """(B, C, H, W) of a set -> (B, 1, H, W) float 0..1."""
    return convert_channels(floats(pixels), 1).clamp(0.0, 1.0)


def _is_dark(pixels: Tensor) -> bool:
    """Whether the pictures of a set have a mean below 0.5, over 1,000 of them.

    They are drawn at random, because the first of a sorted set may be its only bright ones.
    """
    rows = draw_order(len(pixels))[:1000].sort().values
    return float(_grey(pixels[rows]).mean()) < 0.5


def image_to_ascii_dataset(
    dataset: Dataset,
    shape: int | Sequence[int] = (24, 24),
    *,
    font_res: int = 9,
    font_zoom: int | None = None,
    invert: bool | None = None,
    brightness: bool = False,
    edges: bool = False,
) -> Dataset:
    """Any set of pictures as ASCII art: each cell becomes the glyph with the least squared error.

    Pictures are converted to grey; random changes of the set are applied once. Labels are kept. The
    result is stored in the cache.

    Args:
        dataset: pictures, for instance `mnist_dataset(train=True)`.
        shape: (H, W) in characters, or one number.
        font_res: size of the glyphs that are compared, pixels.
        font_zoom: see `FontRenderer`.
        invert: bright becomes ink. None: invert sets that are mostly dark, such as MNIST.
        brightness: first map black to the grey of the darkest glyph, for photographs.
        edges: match outlines instead of areas.

    Raises:
        ConfigError: `dataset` is already ASCII, or the shape does not have two sizes.
        DataError: `dataset` is no data set.
    """
    where = "image_to_ascii_dataset"
    need_dataset(dataset, where)
    if not dataset.medium.is_brightness:
        raise ConfigError(f"{where}: {dataset.name} holds ASCII pictures already")
    grid = grid_size(shape if isinstance(shape, int) else tuple(shape), where)
    source = ImageToAscii(dataset, grid, font_res, font_zoom, invert, bool(brightness), bool(edges))
    return Dataset(source)

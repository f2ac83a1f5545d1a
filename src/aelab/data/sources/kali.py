"""Kali fractals as a data set: rendered once, kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aelab import roots
from aelab.data.base import Shape, Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.functions import function_key
from aelab.data.image_filter import ImageFilter
from aelab.data.listed import listed
from aelab.data.memory import mapped_above, refuse_full_disk
from aelab.data.prepare import checked_shape
from aelab.data.sources.folder import map_pixels
from aelab.data.sources.kali_formula import (
    BLOCK,
    MODES,
    Parameters,
    Ranges,
    draw_block,
    render_kali,
)
from aelab.errors import DataError
from aelab.ops.color import convert_channels
from aelab.ops.random import keyed_generator, keyed_seed
from aelab.preparation import track
from aelab.types import Images, Provenance

#: Part of the cache key: raise it when the formula changes, so that old files are not used.
_VERSION = 1
_KEEP_SECONDS = 2.0
_MOST_CANDIDATES_PER_IMAGE = 5_000


@dataclass(frozen=True)
class FractalRecipe:
    """Settings for drawing, rendering and choosing images.

    Attributes:
        ranges: the ranges of the drawn parameters.
        aa: sub-pixel renders in each direction.
        keep: a test for the images to keep, or None for all.
        keep_size: side of the small render that `keep` is applied to.
    """

    ranges: Ranges = field(default_factory=Ranges)
    aa: int = 0
    keep: ImageFilter | None = None
    keep_size: int = 16
    exponent: float = 0.0
    sin_frequency: float = 0.0


def _recipe(
    aa: int,
    modes: tuple[str, ...],
    iterations: tuple[int, int],
    scale: tuple[float, float],
    offset: tuple[float, float],
    keep: ImageFilter,
    keep_size: int,
) -> FractalRecipe:
    return FractalRecipe(Ranges(scale, offset, iterations, modes), aa, keep, keep_size)


_EDGES = ("min", "max")

#: The 11 presets of the documents' 128 x 128 file, in their order.
PRESETS: tuple[FractalRecipe, ...] = (
    _recipe(2, _EDGES, (17, 37), (0.01, 2), (-2, 2),
            ImageFilter(mean=(None, 0.3), blurred_ratio=(0.32, None)), 64),
    _recipe(8, MODES, (17, 37), (0.01, 2), (-2, 2),
            ImageFilter(mean=(0.1, 0.5), channel_std=(0.25, None), blurred_ratio=(0.42, None),
                        blur_pixels=21), 12),
    _recipe(4, MODES, (1, 37), (0, 2), (-2, 2),
            ImageFilter(mean=(0.05, 0.4), ratio=(0.9, None)), 12),
    _recipe(10, ("max",), (21, 37), (0.5, 1), (0, 0),
            ImageFilter(mean=(0.05, 0.4), blurred_ratio=(0.45, None)), 16),
    _recipe(8, ("min",), (21, 37), (0.1, 0.1), (-0.2, 0.2),
            ImageFilter(mean=(0.05, 0.4), blurred_ratio=(0.5, None)), 16),
    _recipe(4, ("min",), (8, 19), (0.1, 0.1), (0.2, 0.2),
            ImageFilter(mean=(0.15, 0.5), std=(0.2, 0.3), blurred_ratio=(0.5, None)), 16),
    _recipe(4, ("none",), (8, 19), (0.1, 0.1), (0.2, 0.2),
            ImageFilter(mean=(None, 0.5), std=(None, 0.3), ratio=(None, 0.95),
                        blurred_ratio=(0.3, None)), 32),
    _recipe(4, MODES, (8, 19), (0.05, 0.1), (1, 1),
            ImageFilter(mean=(None, 0.4), ratio=(0.7, None), blurred_ratio=(0.4, None),
                        blur_pixels=15), 16),
    _recipe(4, _EDGES, (8, 19), (0.05, 0.1), (1, 1),
            ImageFilter(mean=(None, 0.4), blurred_ratio=(0.45, None), blur_pixels=15), 16),
    _recipe(4, _EDGES, (21, 51), (0.001, 0.01), (0.5, 2),
            ImageFilter(mean=(None, 0.4), ratio=(0.9, None), blurred_ratio=(0.4, None),
                        blur_pixels=15), 16),
    _recipe(8, ("min",), (21, 37), (0.5, 1), (0, 0),
            ImageFilter(mean=(None, 0.4), ratio=(0.8, None), blurred_ratio=(0.25, None),
                        blur_pixels=15), 16),
)  # fmt: skip

#: Number of images of each preset in one round of the mixture.
MIXTURE = (1, 1, 1, 1, 2, 1, 1, 4, 1, 1, 1)


class Kali(Source):
    """Rendered Kali fractals, see `kali_dataset`."""

    name = "kali"

    def __init__(
        self, shape: tuple[int, ...], size: int, seed: int, recipes: tuple[FractalRecipe, ...]
    ) -> None:
        super().__init__()
        self.wanted = checked_shape(shape)
        self.size, self.seed = int(size), int(seed)
        self.recipes = recipes
        if self.size < 1:
            raise DataError(f"kali_dataset: size must be at least 1, got {size}")

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as wanted."""
        return self.wanted

    def count(self) -> int | None:
        """The number of images asked for."""
        return self.size

    def few(self, count: int) -> Source | None:
        """The same with fewer images."""
        return Kali(self.wanted, min(self.size, count), self.seed, self.recipes)

    def fingerprint(self) -> str:
        """The renderer's version, the recipes, the size and the seed."""
        digest = hashlib.sha256("\n".join(map(_recipe_key, self.recipes)).encode()).hexdigest()
        return f"kali {_VERSION} {self.wanted} {self.size} {self.seed} {digest}"

    def read(self) -> Images:
        key = hashlib.sha256(self.fingerprint().encode()).hexdigest()[:24]
        kept = roots.cache_folder() / "kali" / f"{key}.u8"
        shape = (self.size, *self.wanted)
        mapped = int(np.prod(shape)) > mapped_above()
        own_function = any(recipe.keep and recipe.keep.also for recipe in self.recipes)
        if own_function or not kept.is_file():  # the file's name does not identify a function
            pixels = self._rendered(kept, mapped)
        elif mapped:
            pixels = map_pixels(kept, shape)
        else:
            pixels = map_pixels(kept, shape).clone()
        sha256 = content_sha256(pixels)
        source = Provenance(self.name, "generated", self.size, sha256)
        facts = {"memory_mapped": mapped}
        return make_images(pixels, provenance=[source], facts=facts, sha256=sha256)

    def _rendered(self, kept: Path, mapped: bool) -> Tensor:
        """Renders all images; keeps the file if rendering took long or the set must be on disk."""
        started = time.monotonic()
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        shape = (self.size, *self.wanted)
        try:
            if mapped:
                refuse_full_disk(kept, math.prod(shape))
                kept.parent.mkdir(parents=True, exist_ok=True)
                # Written to the disk page by page: the set may be larger than the memory.
                pixels = torch.from_numpy(np.memmap(partial, np.uint8, mode="w+", shape=shape))
            else:
                pixels = torch.empty(shape, dtype=torch.uint8)
            parts = render_recipes(self.recipes, self.size, self.seed, self.wanted)
            counted = track(parts, "rendering kali fractals", self.size, lambda part: len(part[0]))
            for rows, images in counted:
                pixels[rows] = images
            if not mapped and time.monotonic() - started < _KEEP_SECONDS:
                return pixels
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not mapped:
                partial.write_bytes(pixels.numpy().data)
            partial.replace(kept)
            return pixels
        except OSError as error:
            if not mapped:
                return pixels  # the cache only saves time
            raise DataError(
                f"cannot write {kept}: {error.strerror or error}",
                hint="free space there, set AELAB_CACHE to another folder, or make the set smaller",
            ) from None
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


def _recipe_key(recipe: FractalRecipe) -> str:
    if recipe.keep is None or recipe.keep.also is None:
        return repr(recipe)
    plain = replace(recipe, keep=replace(recipe.keep, also=None))
    return f"{plain!r} {function_key(recipe.keep.also)}"


def render_recipes(
    recipes: tuple[FractalRecipe, ...], size: int, seed: int, shape: Shape
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (row numbers, (n, C, H, W) uint8) until all `size` rows are rendered.

    Several recipes take turns as `MIXTURE` says, in a random order each round.
    """
    slots = torch.zeros(size, dtype=torch.int64) if len(recipes) == 1 else _turns(size, seed)
    for number, recipe in enumerate(recipes):
        rows = (slots == number).nonzero()[:, 0]
        own_seed = seed if len(recipes) == 1 else keyed_seed(seed, "kali preset", number)
        done = 0
        for images in _stream(recipe, own_seed, shape, len(rows)):
            yield rows[done : done + len(images)], images
            done += len(images)


def _turns(size: int, seed: int) -> Tensor:
    """(size,) int64: the preset of each image."""
    counts = torch.tensor(MIXTURE)
    turns: list[Tensor] = []
    for round_number in range(-(-size // sum(MIXTURE))):
        generator = keyed_generator(seed, "kali mixture", round_number)
        order = torch.randperm(len(MIXTURE), generator=generator)
        turns.append(order.repeat_interleave(counts[order]))
    return torch.cat(turns)[:size]


def _stream(recipe: FractalRecipe, seed: int, shape: Shape, size: int) -> Iterator[Tensor]:
    """Yields uint8 images of one recipe until there are `size`."""
    # Grey images are the luma of the coloured ones, so both are versions of the same set.
    channels = 3 if shape[0] == 1 else shape[0]
    found = block = 0
    while found < size:
        parameters = draw_block(recipe.ranges, seed, block, channels)
        parameters = parameters.rows(_wanted(recipe, parameters)[: size - found])
        block += 1
        if len(parameters.scale):
            images = _render(recipe, parameters, shape[1:], recipe.aa)
            found += len(images)
            yield convert_channels(images.mul_(255.0).round_().to(torch.uint8), shape[0])
        if block * BLOCK > _MOST_CANDIDATES_PER_IMAGE * (found + 10):
            raise DataError(
                f"kali_dataset: the filter kept {found} of {block * BLOCK:,} candidates",
                hint="widen its bounds",
            )


def _wanted(recipe: FractalRecipe, parameters: Parameters) -> Tensor:
    """Rows that pass the filter, which is applied to a small render."""
    if recipe.keep is None:
        return torch.arange(len(parameters.scale))
    side = recipe.keep_size
    # Two sub-pixels suffice for the test; ten, as in a preset, would cost more than the image.
    small = _render(recipe, parameters, (side, side), min(recipe.aa, 2))
    return recipe.keep.passes(small).nonzero()[:, 0]


def _render(
    recipe: FractalRecipe, parameters: Parameters, size: tuple[int, int], aa: int
) -> Tensor:
    return render_kali(
        parameters,
        size,
        aa=aa,
        exponent=recipe.exponent,
        sin_frequency=recipe.sin_frequency,
    )


@listed("kali", {"size": 2_000}, {"size": 2_000, "seed": 24})
def kali_dataset(
    shape: tuple[int, int, int] = (3, 32, 32),
    size: int = 10_000,
    seed: int = 23,
    *,
    preset: int | Literal["mixture"] | None = None,
    min_scale: float = 0.0,
    max_scale: float = 2.0,
    min_offset: float = -2.0,
    max_offset: float = 2.0,
    min_iterations: int = 1,
    max_iterations: int = 37,
    accumulation_modes: list[str] | tuple[str, ...] | None = None,
    aa: int = 0,
    keep: ImageFilter | None = None,
    keep_size: int = 16,
    exponent: float = 0.0,
    sin_frequency: float = 0.0,
    legacy_offset: bool = False,
) -> Dataset:
    """Kali fractals, the same for the same seed; another seed shares no image.

    Args:
        shape: (C, H, W); one channel is the luma of the coloured picture.
        size: number of images; a smaller set is the start of a larger one.
        seed: use different seeds for training and validation.
        preset: 1 to 11, or `mixture` for all in turn as in the documents' file; a preset decides
            everything below but `legacy_offset`.
        min_scale: least width of a picture.
        max_scale: greatest width.
        min_offset: least centre in each dimension.
        max_offset: greatest centre.
        min_iterations: least number of iterations.
        max_iterations: greatest number.
        accumulation_modes: names among none, mean, max, min, submin, alternate; all if left out.
        aa: mean of aa x aa sub-pixel renders.
        keep: an `ImageFilter`, applied to a small render.
        keep_size: side of that small render.
        exponent: accumulate exp(-value * exponent).
        sin_frequency: accumulate sin(value * sin_frequency).
        legacy_offset: reproduce the old tool's sign error: offsets from 2 min - max to min.
    """
    modes = MODES if accumulation_modes is None else tuple(accumulation_modes)
    own = FractalRecipe(
        Ranges(
            (float(min_scale), float(max_scale)),
            (float(min_offset), float(max_offset)),
            (int(min_iterations), int(max_iterations)),
            modes,
        ).checked(),
        int(aa),
        keep,
        int(keep_size),
        float(exponent),
        float(sin_frequency),
    )
    recipes = (own,) if preset is None else _presets(preset, own)
    if legacy_offset:
        recipes = tuple(replace(r, ranges=replace(r.ranges, legacy_offset=True)) for r in recipes)
    return Dataset(Kali(shape, size, seed, recipes))


def _presets(preset: int | str, own: FractalRecipe) -> tuple[FractalRecipe, ...]:
    if own != FractalRecipe():
        raise DataError(
            "kali_dataset: a preset decides scale, offset, iterations, modes, aa and filter itself",
            hint="leave them out, or leave `preset` out",
        )
    if preset == "mixture":
        return PRESETS
    if preset not in range(1, len(PRESETS) + 1):
        raise DataError(f"preset is 1 to {len(PRESETS)} or 'mixture', got {preset!r}")
    return (PRESETS[int(preset) - 1],)

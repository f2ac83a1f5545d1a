"""Data sets and combinations of sets under the names of the documents' program."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aelab.data.combinators import InterleaveDataset, TransformDataset
from aelab.data.dataset import Dataset, need_dataset
from aelab.data.per_sample import Function
from aelab.data.sources.crops import crops_of
from aelab.data.sources.kali import kali_dataset
from aelab.data.sources.tiles import rpg_tile_dataset_3x32x32
from aelab.errors import DataError


def Kali2dDataset(
    shape: tuple[int, int, int],
    size: int = 1_000_000,
    seed: int = 23,
    min_scale: float = 0.0,
    max_scale: float = 2.0,
    min_offset: float = -2.0,
    max_offset: float = 2.0,
    min_iterations: int = 1,
    max_iterations: int = 37,
    accumulation_modes: list[str] | tuple[str, ...] | None = None,
    dtype: torch.dtype | None = None,
    aa: int = 0,
    with_parameters: bool = False,
    legacy_offset: bool = False,
) -> Dataset:
    """The old name of `kali_dataset`; `dtype` has no effect, `with_parameters` is not supported."""
    if with_parameters:
        raise DataError("Kali2dDataset: with_parameters is not supported", hint="leave it out")
    return kali_dataset(
        shape,
        size,
        seed,
        min_scale=min_scale,
        max_scale=max_scale,
        min_offset=min_offset,
        max_offset=max_offset,
        min_iterations=min_iterations,
        max_iterations=max_iterations,
        accumulation_modes=accumulation_modes,
        aa=aa,
        legacy_offset=legacy_offset,
    )


def rpg_tile_dataset(
    shape: tuple[int, int, int] = (3, 32, 32),
    validation: bool | None = None,
    limit: int | None = None,
    shuffle: bool = False,
    interleave: bool = False,
    random_shift: int = 0,
    random_flip: bool = False,
    num_repeat: int = 1,
    path: str | None = None,
) -> Dataset:
    """The old stream of tiles: the same set, always resized with `nearest`.

    Args:
        shape: (C, H, W) wanted.
        validation: the validation images if true, else the training ones.
        limit: greatest number of images, applied after repeating.
        shuffle: another order (the same each time), which decides the images taken by `limit`.
        interleave: without effect; the old stream alternated sheets, here they are one set.
        random_shift: as `rpg_tile_dataset_3x32x32`.
        random_flip: as `rpg_tile_dataset_3x32x32`.
        num_repeat: how often each image appears.
        path: a folder or file; otherwise `AELAB_DATA`, then the cache.
    """
    tiles = rpg_tile_dataset_3x32x32(
        shape, validation, random_shift, random_flip, num_repeat, "nearest", path
    )
    tiles = tiles.shuffle() if shuffle else tiles
    return tiles if limit is None else tiles.limit(limit)


def unsplash_dataset(shape: tuple[int, int, int], train: bool, path: str = "unsplash") -> Dataset:
    """Crops of photographs, none of their sides longer than 160 pixels.

    The original downloads a collection of photographs one by one; here they are yours. Training
    images are three random crops of each, validation images one from the middle of held-out ones.

    Args:
        shape: (C, H, W) of a crop.
        train: the training or the validation side, 20 : 1 by content.
        path: a folder of photographs, below `AELAB_DATA` or the folder of the file.
    """
    channels, *size = shape
    return crops_of(
        path, (size[0], size[1]), longest=160, each=3, channels=channels, validation=not train
    )


def LimitDataset(source: Dataset, size: int) -> Dataset:
    """The old name of `.limit(size)`; its index was off by one, this one is not."""
    return need_dataset(source, "LimitDataset").limit(size)


def WrapDataset(wrapped_dataset: Dataset) -> Dataset:
    """The set itself; the original gave `TensorDataset` its methods, which all sets have here."""
    return need_dataset(wrapped_dataset, "WrapDataset")


def InterleaveIterableDataset(
    datasets: Sequence[Dataset],
    shuffle_datasets: bool = False,
    counts: Sequence[int] | None = None,
) -> Dataset:
    """The old name of `InterleaveDataset` for streams: one image of each set in turn.

    Args:
        datasets: the sets.
        shuffle_datasets, counts: without effect; they changed the order, and training shuffles.
    """
    return InterleaveDataset(*datasets)


def ImageCombinePatchIterableDataset(
    ds: Dataset, shape: tuple[int, int], num_combine: int = 4, black_is_alpha: bool = True
) -> Dataset:
    """The old name of `ds.collage(shape)`.

    The old stream dropped a last image without a partner; here it is enlarged. It did not clamp the
    overshoot of `bicubic`; here pixels stay in 0..1.

    Args:
        ds: images smaller than the collage.
        shape: (H, W) of the collage.
        num_combine: images in a collage.
        black_is_alpha: black pixels of a pasted image are transparent.
    """
    dataset = need_dataset(ds, "ImageCombinePatchIterableDataset")
    return dataset.collage(shape, num_combine, black_is_alpha)


def TransformIterableDataset(
    source: Dataset,
    dtype: torch.dtype | None = None,
    multiply: float | None = None,
    transforms: Function | Sequence[Function] | None = None,
    num_repeat: int = 1,
    features_dataframe: None = None,
    transform_all: bool = False,
) -> Dataset:
    """The old name for streams; the same as `TransformDataset` here."""
    return TransformDataset(
        source, dtype, multiply, transforms, num_repeat, features_dataframe, transform_all
    )

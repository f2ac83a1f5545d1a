"""Images as one uint8 tensor near the compute: where they lie, how they are read and changed.

Parts are descriptions; constructing one reads no pixels. Knows errors, types and ops; must not know
models, losses, training or runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aelab.data.augment import freeze_images
from aelab.data.base import Change, Description, RandomChange, Source
from aelab.data.combinators import InterleaveDataset, TransformDataset
from aelab.data.dataset import MEMORY, METHODS, Dataset
from aelab.data.image_filter import ImageFilter
from aelab.data.noises import NOISES
from aelab.data.per_sample import augmentations
from aelab.data.sources.arrays import array_dataset, tensor_of_file
from aelab.data.sources.atlas import atlas_dataset
from aelab.data.sources.cifar import cifar10_dataset, cifar100_dataset
from aelab.data.sources.crops import crops_of
from aelab.data.sources.csv_pixels import csv_dataset
from aelab.data.sources.digits import digits_dataset
from aelab.data.sources.emnist import emnist_dataset, qmnist_dataset
from aelab.data.sources.factors import dsprites_dataset, shapes3d_dataset
from aelab.data.sources.generated_factors import colored_shapes_dataset, shapes_dataset
from aelab.data.sources.kali import kali_dataset
from aelab.data.sources.mnist import fmnist_dataset, idx_dataset, kmnist_dataset, mnist_dataset
from aelab.data.sources.noise import noise_dataset
from aelab.data.sources.picture_sets import (
    celeba_dataset,
    notmnist_dataset,
    omniglot_dataset,
)
from aelab.data.sources.pictures import image_folder_dataset
from aelab.data.sources.sprites import sprite_dataset
from aelab.data.sources.svhn import stl10_dataset, svhn_dataset, usps_dataset
from aelab.data.sources.tensors import TensorDataset
from aelab.data.sources.tiles import rpg_tile_dataset_3x32x32
from aelab.data.transforms import TORCHVISION_TRANSFORMS
from aelab.parts import Table, by_name

#: What a block may write after `VT.`.
TRANSFORMS: dict[str, Callable[..., Any]] = {**TORCHVISION_TRANSFORMS, **NOISES}

#: Every data set an experiment file may name.
DATASETS: Table[Callable[..., Any]] = Table(
    "data set",
    "aelab.datasets",
    by_name(
        digits_dataset,
        mnist_dataset,
        fmnist_dataset,
        kmnist_dataset,
        emnist_dataset,
        qmnist_dataset,
        usps_dataset,
        cifar10_dataset,
        cifar100_dataset,
        svhn_dataset,
        stl10_dataset,
        omniglot_dataset,
        notmnist_dataset,
        celeba_dataset,
        dsprites_dataset,
        shapes3d_dataset,
        rpg_tile_dataset_3x32x32,
        kali_dataset,
        noise_dataset,
        sprite_dataset,
        shapes_dataset,
        colored_shapes_dataset,
        # your own files
        array_dataset,
        atlas_dataset,
        crops_of,
        csv_dataset,
        idx_dataset,
        image_folder_dataset,
    ),
)

#: Sets made of sets, as functions; the methods of every set are `METHODS`.
COMBINATORS: Table[Callable[..., Any]] = Table(
    "set of sets",
    "aelab.combinators",
    by_name(ImageFilter, InterleaveDataset, TensorDataset, TransformDataset),
)

#: Names of `torchvision.datasets` that blocks may use, over our own sets.
TORCHVISION_DATASETS: Table[type[Dataset]] = Table(
    "data set of torchvision", "aelab.torchvision_datasets", {}
)

__all__ = [
    "COMBINATORS",
    "DATASETS",
    "MEMORY",
    "METHODS",
    "TORCHVISION_DATASETS",
    "TRANSFORMS",
    "Change",
    "Dataset",
    "Description",
    "RandomChange",
    "Source",
    "augmentations",
    "freeze_images",
    "tensor_of_file",
]

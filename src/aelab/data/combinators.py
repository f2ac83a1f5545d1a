"""Functions that make a set of other sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aelab.data.dataset import Dataset, need_dataset
from aelab.data.per_sample import Function, PerSample
from aelab.data.rows import Repeat
from aelab.data.sources.interleaved import Interleaved
from aelab.data.sources.tensors import TensorDataset
from aelab.data.transforms import flat_transforms
from aelab.errors import DataError


def TransformDataset(
    source: Dataset,
    dtype: torch.dtype | None = None,
    multiply: float | None = None,
    transforms: Function | Sequence[Function] | None = None,
    num_repeat: int = 1,
    features_dataframe: None = None,
    transform_all: bool = False,
) -> Dataset:
    """Applies functions of one image to a set.

    An item is converted to dtype, multiplied, then given to the functions. Functions that draw no
    random numbers run once and the result is kept; from the first random one on they run with each
    batch, our own (`VT.RandomCrop`, ...) batched, others one image at a time (slow: `.freeze()`
    runs them once).

    Args:
        source: any data set, or a tensor.
        dtype: type of the item given to the functions.
        multiply: factor, for instance 1/255.
        transforms: functions, called with one item; float32 (C, H, W) in 0..1 unless the source is
            a `TensorDataset`, whose items come as they are.
        num_repeat: how often each image appears.
        features_dataframe: an argument of the old tool, not supported.
        transform_all: an argument of the old tool, not supported: labels are not transformed.
    """
    if isinstance(source, Tensor):
        source = TensorDataset(source)
    if features_dataframe is not None or transform_all:
        raise DataError(
            "TransformDataset: features_dataframe and transform_all are not supported",
            hint="leave them out; functions change the image only",
        )
    functions = PerSample(tuple(flat_transforms(transforms)), dtype, multiply)
    return need_dataset(source, "TransformDataset").changed(functions, Repeat(num_repeat))


def InterleaveDataset(*sources: Dataset | Sequence[Dataset]) -> Dataset:
    """Takes one image of each set in turn until all sets are exhausted.

    The sets may be given as one list, as in old files.


    Labels are kept where all sets have some; classes with the same name are merged.
    Sets with different random changes are frozen first, because a batch does not record which set
    an image came from. Repeat a set before, to keep several versions of each of its images.
    """
    listed: list[Dataset] = []
    for given in sources:
        one_by_one = given if isinstance(given, (list, tuple)) else [given]
        listed += [need_dataset(one, "InterleaveDataset") for one in one_by_one]
    return Dataset(Interleaved(tuple(listed)))

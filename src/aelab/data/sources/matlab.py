"""Numeric arrays of MATLAB files (version 5 and 7), by scipy; nothing in them is executed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from aelab.data.memory import refuse_too_large
from aelab.errors import DataError, MissingExtra, did_you_mean, one_of
from aelab.files import open_file

#: Kinds of arrays that hold numbers.
_NUMERIC = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "single", "double", "logical",
)  # fmt: skip


def mat_arrays(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape, MATLAB's type) of the numeric arrays of a file, without reading their values.

    Raises:
        DataError: the file is no MATLAB file of these versions.
        MissingExtra: scipy is not installed.
    """
    return {
        name: (tuple(shape), kind)
        for name, shape, kind in _scipy(path, lambda io, file: io.whosmat(file))
        if kind in _NUMERIC
    }


def mat_array(path: Path, name: str, where: object = None) -> np.ndarray[Any, Any]:
    """One array of a file.

    Args:
        path: the file.
        name: of the array.
        where: for messages; the path if left out.

    Raises:
        DataError: there is no such array, or it does not fit into memory.
    """
    shapes = {known: shape for known, (shape, _) in mat_arrays(path).items()}
    if name not in shapes:
        raise DataError(
            f"{where or path} holds no array {name!r}{did_you_mean(name, shapes)}",
            hint=f"it holds: {one_of(shapes) if shapes else 'no numbers'}",
        )
    # MATLAB's numbers take at most 8 bytes.
    refuse_too_large(math.prod(shapes[name]), f"{name} of {where or path}")
    found = _scipy(path, lambda io, file: io.loadmat(file, variable_names=[name]))
    return np.asarray(found[name])


def _scipy(path: Path, read: Any) -> Any:
    try:
        import scipy.io
    except ImportError:
        raise MissingExtra("MATLAB files", "scipy", "files") from None
    try:
        with open_file(path) as file:
            return read(scipy.io, file)
    except DataError:
        raise
    except NotImplementedError:
        raise DataError(
            f"{path} is a MATLAB 7.3 file, which is HDF5",
            hint="read it with array_dataset(path, key=...)",
        ) from None
    except Exception as error:
        # scipy raises nearly any exception for a damaged file.
        raise DataError(
            f"cannot read the MATLAB file {path}: {type(error).__name__}: {str(error)[:100]}",
            hint="copy it again",
        ) from None

"""Latents of many images as a file: CSV, NumPy or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from aelab.errors import MissingExtra, UserError, one_of
from aelab.metrics import flat
from aelab.study.inputs import names_of
from aelab.types import Images

#: What latents can be written as.
ENDINGS = (".csv", ".npz", ".parquet")

Column = Sequence[str] | np.ndarray


def refuse_ending(path: Path) -> None:
    """Before long work.

    Raises:
        UserError: codes are not written as such a file.
        MissingExtra: Parquet without its package.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{path}: codes are written as {one_of(ENDINGS)}", hint="choose such an ending"
        )
    if ending == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtra("a Parquet file", "pyarrow", "frames") from None


def codes_file(path: Path, images: Images, latents: Tensor) -> bytes:
    """What a file of codes holds.

    `.csv` and `.parquet` have the columns `file`, `class` and `code_0`, `code_1`, ... of the
    flattened code. `.npz` has the arrays `files`, `classes` and `codes` (N, ...) as the model has
    them. A file without a name is numbered; a class is empty where there are no labels.

    Args:
        path: its ending decides.
        images: the N images.
        latents: (N, ...).
    """
    files = names_of(images)
    classes = list(images.class_names) or [""] * len(images)
    if path.suffix.lower() == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, files=np.array(files), classes=np.array(classes), codes=latents.float().numpy()
        )
        return buffer.getvalue()
    values = flat(latents).numpy()
    columns: dict[str, Column] = {"file": files, "class": classes}
    columns |= {f"code_{number}": values[:, number] for number in range(values.shape[1])}
    return _parquet(columns) if path.suffix.lower() == ".parquet" else csv_of(columns)


def csv_of(columns: Mapping[str, Column]) -> bytes:
    """Columns as CSV in UTF-8; floats with as many digits as float32 has."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    plain = [
        [f"{value:.9g}" for value in column.tolist()] if isinstance(column, np.ndarray) else column
        for column in columns.values()
    ]
    writer.writerows(zip(*plain, strict=True))
    return out.getvalue().encode("utf-8", errors="replace")


def _parquet(columns: Mapping[str, Column]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(dict(columns)), sink)
    return bytes(sink.getvalue().to_pybytes())

"""A fresh cache and data folder for each test, and small files in the real formats."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor


@pytest.fixture(autouse=True)
def nothing_outside(data_folder: Path) -> None:
    """Each test of this room has an empty `data_folder`."""


@pytest.fixture
def write_idx() -> Callable[[Path, Tensor], Path]:
    """Writes a uint8 tensor as an IDX file, gzipped where the name ends with .gz."""

    def write(path: Path, values: Tensor) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (
            struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
            + values.contiguous().numpy().tobytes()
        )
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def tile_sheet(data_folder: Path) -> Path:
    """A sheet of 16 x 8 tiles of 32 x 32: noise, some transparent, some twice, some mirrored."""
    generator = torch.Generator().manual_seed(5)
    tiles = torch.randint(0, 256, (128, 4, 32, 32), dtype=torch.uint8, generator=generator)
    tiles[:, 3] = 255
    tiles[10, 3] = 0
    tiles[20] = tiles[21]
    for number in range(40, 60):
        tiles[number + 20] = tiles[number].flip(2)
    sheet = tiles.view(8, 16, 4, 32, 32).permute(0, 3, 1, 4, 2).reshape(256, 512, 4)
    path = data_folder / "rpg-tiles" / "rltiles-32x32.png"
    path.parent.mkdir()
    Image.fromarray(sheet.numpy()).save(path)
    return path


#: Taken before the fixture above hides it.
_REAL_DATA = os.environ.get("AELAB_DATA", "")


@pytest.fixture
def real_data() -> Path:
    """The folder with the published files; tests that need it are marked slow."""
    assert _REAL_DATA, "set AELAB_DATA to the folder that holds mnist/, fashion-mnist/, rpg-tiles/"
    return Path(_REAL_DATA)

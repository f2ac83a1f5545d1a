"""Small stand-ins, in the real file formats, for the data that experiment files name."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from aelab.data import MEMORY, mnist


def _idx(values: Tensor) -> bytes:
    head = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return head + values.contiguous().numpy().tobytes()


def _write_idx_set(folder: Path, known: mnist.Known, seed: int) -> mnist.Known:
    """300 training and 100 test images of random squares; returns the set with their checksums."""
    generator = torch.Generator().manual_seed(seed)
    hashes = {}
    for name in known.sha256:
        count = 300 if name.startswith("train") else 100
        if "labels" in name:
            values = torch.randint(0, 10, (count,), dtype=torch.uint8, generator=generator)
        else:
            values = torch.zeros(count, 28, 28, dtype=torch.uint8)
            for image in values:
                top, left = torch.randint(0, 20, (2,), generator=generator).tolist()
                image[top : top + 8, left : left + 8] = 255
        content = _idx(values)
        hashes[name] = hashlib.sha256(content).hexdigest()
        path = folder / known.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))
    return dataclasses.replace(known, sha256=hashes)


def _write_tiles(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    sheet = torch.randint(0, 256, (32 * 4, 32 * 64, 4), dtype=torch.uint8, generator=generator)
    sheet[..., 3] = 255
    path = folder / "rpg-tiles" / "rltiles-32x32.png"
    path.parent.mkdir()
    Image.fromarray(sheet.numpy()).save(path)


@pytest.fixture(autouse=True)
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AELAB_DATA with small MNIST, Fashion-MNIST and tiles; their checksums are expected."""
    folder = tmp_path / "data"
    for attribute, seed in (("MNIST", 1), ("FASHION_MNIST", 2)):
        known = _write_idx_set(folder, getattr(mnist, attribute), seed)
        monkeypatch.setattr(mnist, attribute, known)
    monkeypatch.setattr(mnist.KnownIdx, "count", lambda self: 300 if self.train else 100)
    _write_tiles(folder)
    monkeypatch.setenv("AELAB_DATA", str(folder))
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    MEMORY.clear()
    return folder

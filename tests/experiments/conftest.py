"""Small stand-ins, in the real file formats, for the data that experiment files name."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyfiglet
import pytest
import torch
from PIL import Image
from torch import Tensor

from aelab.data import MEMORY
from aelab.data.sources import kali, mnist
from aelab.founding.torchvision_sets import TorchvisionMNIST
from aelab.models import ResNet18

#: Instead of pyfiglet's 571 FIGlet fonts, which take ten seconds to read.
FONTS = ["banner", "big", "block", "bubble", "digital", "lean", "mini", "script", "shadow", "slant"]
FONTS += ["small", "smscript", "smshadow", "smslant", "standard", "straight", "doom", "rounded"]


def _idx(values: Tensor) -> bytes:
    head = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return head + values.contiguous().numpy().tobytes()


def _write_idx_set(folder: Path, known: mnist.PublishedIdx, seed: int) -> mnist.PublishedIdx:
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


def _few_fractals(original: Callable[..., None]) -> Callable[..., None]:
    """The mixture of presets, which chooses among very many fractals, as 20 that are not chosen."""

    def make(self: Any, shape: Any, size: int, seed: int, recipes: Any) -> None:
        mixed = len(recipes) > 1
        original(
            self, shape, 20 if mixed else size, seed, (kali.FractalRecipe(),) if mixed else recipes
        )

    return make


@pytest.fixture(scope="session")
def random_resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published form: 102 tensors by torchvision's names, with random values."""
    generator = torch.Generator().manual_seed(4)
    model = ResNet18(head=True)
    tensors = OrderedDict()
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            values = torch.rand(tensor.shape, generator=generator)
            tensors[name] = values if "running_var" in name else (values - 0.5) * 0.1
    path = tmp_path_factory.mktemp("weights") / "resnet18-f37072fd.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(autouse=True)
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_resnet18: Path) -> Path:
    """AELAB_DATA with small MNIST, Fashion-MNIST and tiles, AELAB_WEIGHTS with random ones."""
    monkeypatch.setenv("AELAB_WEIGHTS", str(random_resnet18.parent))
    folder = tmp_path / "data"
    for attribute, seed in (("MNIST", 1), ("FASHION_MNIST", 2)):
        known = _write_idx_set(folder, getattr(mnist, attribute), seed)
        monkeypatch.setattr(mnist, attribute, known)
        if attribute == "MNIST":
            monkeypatch.setattr(TorchvisionMNIST, "known", known)
    monkeypatch.setattr(mnist.KnownIdx, "count", lambda self: 300 if self.train else 100)
    _write_tiles(folder)
    monkeypatch.setattr(pyfiglet.FigletFont, "getFonts", staticmethod(lambda: FONTS))
    monkeypatch.setattr(kali.Kali, "__init__", _few_fractals(kali.Kali.__init__))
    monkeypatch.setenv("AELAB_DATA", str(folder))
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    MEMORY.clear()
    return folder

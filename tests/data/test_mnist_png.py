"""A folder in the layout of mnist_png, as document 004 reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab.data import TRANSFORMS as VT
from aelab.data import image_folder_dataset
from aelab.data.augment import augmented


@pytest.fixture
def mnist_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures of each of three digits; the pictures of digit d are d * 40 grey in a square."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AELAB_DATA", str(tmp_path))
    for digit in (0, 1, 7):
        folder = tmp_path / "mnist_png" / "training" / str(digit)
        folder.mkdir(parents=True)
        for number in range(2):
            picture = Image.new("L", (28, 28))
            picture.paste(digit * 30 + 20, (6 + number, 6, 20, 20))
            picture.save(folder / f"{number}.png")
    return tmp_path / "mnist_png"


def test_the_label_is_the_folder(mnist_png: Path) -> None:
    images = image_folder_dataset("mnist_png/training").load()
    assert images.shape == (1, 28, 28)
    assert images.labels is not None and images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.facts["label_names"] == ["0", "1", "7"]
    assert [int(p[0, 10, 10]) for p in images.pixels] == [20, 20, 50, 50, 230, 230]


def test_bicubic_is_pillows_and_stays_in_range(mnist_png: Path) -> None:
    large = image_folder_dataset("mnist_png/training", (1, 32, 32), "bicubic").load()
    with Image.open(mnist_png / "training" / "7" / "1.png") as picture:
        theirs = picture.resize((32, 32), Image.Resampling.BICUBIC)
    assert bytes(large.pixels[5].flatten().tolist()) == theirs.tobytes()


def test_changes_before_the_resize_keep_labels_and_range(mnist_png: Path) -> None:
    changes = [
        VT["RandomRotation"](45),
        VT["RandomAutocontrast"](0.5),
        VT["ColorJitter"](brightness=5, contrast=5, saturation=5),
    ]
    images = image_folder_dataset("mnist_png/training").transform(changes)
    images = images.resize((1, 32, 32), "bicubic").load()
    assert images.shape == (1, 32, 32)
    assert images.labels is not None and len(images.labels) == 6
    batch = augmented(images.pixels, images.augment, torch.Generator().manual_seed(0))
    assert batch.shape == (6, 1, 32, 32) and 0 <= batch.min() and batch.max() <= 1

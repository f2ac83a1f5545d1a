"""Sets that promise more detail than was stored are found out, whatever they are wrapped in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab.data import TensorDataset, TransformDataset
from aelab.data.sources.kali import kali_dataset
from aelab.data.sources.noise import noise_dataset
from aelab.data.sources.pictures import image_folder_dataset
from aelab.data.transforms import Resize
from aelab.study.superresolution_score import enlargement


def test_what_is_computed_or_shrunk_is_no_enlargement() -> None:
    assert enlargement(kali_dataset((1, 64, 64), size=3)) is None
    assert enlargement(noise_dataset((1, 28, 28), size=3).resize((1, 14, 14)).limit(2)) is None


@pytest.mark.parametrize("wrapped", ["limit", "flip", "repeat", "interleave", "tensor"])
def test_an_enlargement_shows_through_every_wrapping(wrapped: str) -> None:
    large = noise_dataset((1, 16, 8), size=3).resize((1, 16, 12))
    dataset = {
        "limit": large.limit(2),
        "flip": large.random_flip(),
        "repeat": large.repeat(2).shuffle(),
        "interleave": noise_dataset((1, 16, 12), size=3).interleave(large),
        "tensor": TensorDataset(large),
    }[wrapped]
    assert enlargement(dataset) == "noise: 8x16 to 12x16"


def test_a_transform_that_enlarges_is_one() -> None:
    dataset = TransformDataset(
        TensorDataset(torch.zeros(2, 1, 8, 8)), transforms=[Resize((16, 16))]
    )
    assert enlargement(dataset) == "tensor: 8x8 to 16x16"


def test_the_smallest_picture_of_a_folder_counts(tmp_path: Path) -> None:
    for number, side in enumerate((40, 20, 50)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{number}.png")
    assert enlargement(image_folder_dataset(str(tmp_path), (3, 20, 20))) is None
    found = enlargement(image_folder_dataset(str(tmp_path), (3, 32, 32)))
    assert found is not None and found.endswith(": 20x20 to 32x32")

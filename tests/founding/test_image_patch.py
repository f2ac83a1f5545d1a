"""One picture as a grid of tiles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab import roots
from aelab.data import DATASETS
from aelab.errors import DataError, ShapeError


def picture(path: Path, mode: str = "RGBA", size: tuple[int, int] = (13, 9)) -> torch.Tensor:
    """Writes noise and gives it as (C, H, W)."""
    width, height = size
    channels = len(mode)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (height, width, channels), generator=generator).byte()
    Image.frombytes(mode, size, bytes(pixels.flatten().tolist())).save(path)
    return pixels.permute(2, 0, 1)


def test_every_tile_is_there_row_by_row_and_transparency_is_ignored(data_folder: Path) -> None:
    pixels = picture(data_folder / "p.png")
    data = DATASETS["ImagePatchDataset"]((3, 4, 6), "p.png")
    assert data.shape == (3, 4, 6)
    images = data.load()
    assert len(images) == 4  # two rows of two; a row and a column are left over
    for number in range(4):
        y, x = 4 * (number // 2), 6 * (number % 2)
        assert torch.equal(images.pixels[number], pixels[:3, y : y + 4, x : x + 6])


def test_grey_is_asked_for_by_the_shape(data_folder: Path) -> None:
    picture(data_folder / "p.png", "RGB")
    assert DATASETS["ImagePatchDataset"]((1, 3, 3), "p.png").load().pixels.shape == (12, 1, 3, 3)


def test_what_cannot_be_cut_is_told(data_folder: Path) -> None:
    picture(data_folder / "p.png", "RGB")
    with pytest.raises(ShapeError):
        DATASETS["ImagePatchDataset"]((3, 20, 20), "p.png").load()
    with pytest.raises(DataError, match="there is no file"):
        DATASETS["ImagePatchDataset"]((3, 4, 4), "q.png").verify()


def test_a_picture_of_another_machine_is_found_by_its_name(
    data_folder: Path, tmp_path: Path
) -> None:
    pixels = picture(data_folder / "p.png", "RGB")
    away = "~/prog/somebody/pictures/p.png"
    images = DATASETS["ImagePatchDataset"]((3, 9, 13), away).load()
    assert torch.equal(images.pixels[0], pixels)
    missing = DATASETS["ImagePatchDataset"]((3, 4, 4), "~/prog/somebody/q.png")
    with pytest.raises(DataError, match=r"(?s)~/prog/somebody/q\.png.*called q\.png.*AELAB_DATA"):
        missing.verify()


def test_a_picture_outside_of_the_open_folders_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    picture(tmp_path / "p.png", "RGB")
    for given in (str(tmp_path / "p.png"), "../p.png"):
        with roots.using([tmp_path / "open"]):
            data = DATASETS["ImagePatchDataset"]((3, 4, 4), given)
        with pytest.raises(DataError, match="there is no file"):
            data.verify()
    with roots.using([tmp_path / "open", tmp_path]):
        data = DATASETS["ImagePatchDataset"]((3, 9, 13), str(tmp_path / "p.png"))
    assert len(data.load()) == 1

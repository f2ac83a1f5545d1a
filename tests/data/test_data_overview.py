"""Statistics with known values, pictures with known pixels, and a list that reads nothing."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.data import DATASETS, TensorDataset, noise_dataset
from aelab.data.overview import (
    comparison,
    contact_sheet,
    evenly_spaced,
    list_datasets,
    listings,
    named,
    overview,
    statistics,
)
from aelab.errors import DataError, UserError
from aelab.types import Images


def test_statistics_of_a_set_that_is_known() -> None:
    pixels = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    pixels[:2] = 255
    found = statistics(TensorDataset(pixels, torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])).load())
    assert found["count"] == 8 and found["shape"] == [1, 4, 4]
    assert found["mean"] == pytest.approx(0.25)
    assert found["entropy_bits"] == pytest.approx(0.25 * 2 + 0.75 * math.log2(4 / 3))
    assert found["duplicates"] == 6
    assert found["floor_l1"] == pytest.approx(0.25)  # the median image is black
    assert found["floor_l2"] == pytest.approx(0.25 * 0.75**2 + 0.75 * 0.25**2)
    assert found["labels"] == {"0": 2, "1": 6}


def test_noise_has_the_plateau_of_the_documents() -> None:
    pixels = noise_dataset((1, 32, 32), 2000, seed=3).load().pixels.float() / 255
    assert (pixels - 0.5).abs().mean().item() == pytest.approx(0.316, abs=0.001)
    assert (pixels == 0).float().mean().item() == pytest.approx(0.159, abs=0.003)


def test_noise_follows_its_seed_and_its_arguments() -> None:
    few, many = noise_dataset((1, 8, 8), 10).load(), noise_dataset((1, 8, 8), 5000).load()
    assert torch.equal(few.pixels, many.pixels[:10])
    assert not torch.equal(few.pixels, noise_dataset((1, 8, 8), 10, seed=1).load().pixels)
    free = noise_dataset((1, 32, 32), 200, mean=2.0, std=3.0, clamp01=False).load().pixels
    assert free.dtype == torch.float32
    assert free.mean().item() == pytest.approx(2, abs=0.05)
    assert free.std().item() == pytest.approx(3, abs=0.05)
    with pytest.raises(DataError, match="size must be at least 1"):
        noise_dataset(size=0)


def test_the_list_names_every_set_and_where_it_is(tile_sheet: Path) -> None:
    listed = {entry["name"]: entry for entry in list_datasets()}
    assert set(listed) == set(listings())
    assert {*listings().values()} <= DATASETS.keys()
    assert listed["rpg"]["status"] == str(tile_sheet)
    assert listed["noise"]["status"] == "generated"
    assert "not here" in listed["mnist"]["status"]
    assert "cowsay" in listed["packaged_ascii"]["description"]
    assert named("packaged_ascii_dataset:validation").name == "packaged-ascii"
    assert all(set(entry) == {"name", "status", "description"} for entry in listed.values())


def test_names_halves_and_paths_are_understood(tile_sheet: Path, tmp_path: Path) -> None:
    train, held = named("rpg:train").load(), named("rpg:validation").load()
    assert len(held) < len(train)
    assert named("noise_dataset").name == "noise"
    assert len(named(str(tile_sheet)).load()) == 126
    assert len(named(str(tile_sheet.parent)).load()) == 1
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        named("minst")


@pytest.mark.parametrize(
    ("name", "words"),
    [("mine.yml", "aelab check .*mine.yml"), ("notes.md", "a .md file, not a pic")],
)
def test_a_file_of_words_is_named_as_what_it_is(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_text("seed: 1\n", "utf-8")
    with pytest.raises(DataError, match=words):
        named(str(tmp_path / name))


def test_a_contact_sheet_shows_images_in_rows() -> None:
    pixels = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 64, 64) * 40
    sheet = contact_sheet(pixels, columns=4, rows=2)
    assert sheet.shape == (3, 128, 256)
    assert sheet[0, ::64, ::64].tolist() == [[0, 40, 80, 120], [160, 200, 0, 0]]
    assert contact_sheet(torch.rand(3, 5, 8, 8)).shape == (3, 64, 192)


def test_a_comparison_has_three_titled_strips() -> None:
    images = noise_dataset((1, 32, 32), 20).load()
    picture = comparison(images, 16, columns=5)
    assert picture.shape == (3, 3 * (18 + 96), 5 * 96)


def test_a_sample_is_evenly_spaced() -> None:
    assert evenly_spaced(torch.arange(101), 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly_spaced(torch.arange(3), 5).tolist() == [0, 1, 2]


def test_a_picture_is_written_beside_the_numbers(tile_sheet: Path, tmp_path: Path) -> None:
    shown = lab.data("rpg", out=tmp_path / "sheet.png")
    assert shown["picture"] == str(tmp_path / "sheet.png") and "RLTiles" in shown["note"]
    assert Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())).size == (1024, 512)
    lab.data("rpg", resize=20, out=tmp_path / "new" / "sheet.png")
    assert overview("noise", resize=20).comparison is not None
    with pytest.raises(UserError, match="cannot write"):
        lab.data("rpg", out=tmp_path / "sheet.png" / "sheet.png")
    with pytest.raises(DataError, match="a side of 1 to 4096"):
        lab.data("rpg", resize=0, out=tmp_path / "sheet.png")


def test_a_contact_sheet_shows_every_class_in_the_order_of_the_set() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([1, 500, 2]))
    rows = evenly_spaced(torch.arange(503), 10, labels)
    assert len(rows) == 10
    assert rows.tolist() == sorted(rows.tolist())
    assert set(labels[rows].tolist()) == {0, 1, 2}


def test_an_odd_set_is_noted_in_its_overview() -> None:
    even = Images(torch.full((9, 1, 4, 4), 7, dtype=torch.uint8))
    assert "every pixel of every image is 0.02745" in statistics(even)["note"]
    assert "note" not in statistics(Images(torch.randint(0, 255, (9, 1, 4, 4)).to(torch.uint8)))

"""Sheets whose size does not divide, gutters, and sheets of too many tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.data import atlas_dataset
from aelab.data.sources.atlas import not_divided
from aelab.errors import DataError


@pytest.mark.parametrize(
    ("size", "tile", "words"),
    [
        ((527, 527), 32, "stride=33"),  # 16 tiles with a gutter of 1
        ((529, 529), 32, "stride=33, offset=1"),
        ((542, 542), 32, "stride=34"),
        ((17 * 5 + 1, 17 * 3 + 1), 16, "stride=17, offset=1"),
        ((100, 70), 32, ""),
    ],
)
def test_a_size_that_does_not_divide_names_what_fits(
    size: tuple[int, int], tile: int, words: str
) -> None:
    told = not_divided(size, (tile, tile), (0, 0), (tile, tile))
    assert f"{size[1]}x{size[0]} pixels is not a multiple" in told
    assert words in told and ("what fits" in told) == bool(words)


def test_a_size_that_divides_is_not_mentioned() -> None:
    assert not not_divided((64, 96), (32, 32), (0, 0), (32, 32))
    assert not not_divided((65, 98), (32, 32), (0, 0), (33, 33))
    assert not not_divided((66, 99), (32, 32), (1, 1), (33, 33))
    assert "31 rows and 4 columns" in not_divided((63, 100), (32, 32), (0, 0), (32, 32))


def _with_gutter(path: Path, gutter: int) -> torch.Tensor:
    step = 8 + gutter
    picture = Image.new("RGB", (4 * step - gutter, 3 * step - gutter), "white")
    for number in range(12):
        place = number % 4 * step, number // 4 * step
        picture.paste(Image.effect_noise((8, 8), 90).convert("RGB"), place)
    picture.save(path)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def test_tiles_with_a_gutter_are_cut_between_it(tmp_path: Path) -> None:
    pixels = _with_gutter(tmp_path / "sheet.png", 1)
    images = atlas_dataset(str(tmp_path / "sheet.png"), 8, stride=9).load()
    assert len(images) == 12 and not images.provenance[0].note
    assert torch.equal(images.pixels[5], pixels[:, 9:17, 9:17])
    drifting = atlas_dataset(str(tmp_path / "sheet.png"), 8).load()
    assert "what fits: stride=9" in drifting.provenance[0].note


def test_data_takes_tile_stride_and_offset_and_says_what_does_not_divide(tmp_path: Path) -> None:
    _with_gutter(tmp_path / "sheet.png", 2)
    out = tmp_path / "out.png"
    plain = lab.data(str(tmp_path / "sheet.png"), out=out, tile=8)
    assert "38x28 pixels is not a multiple" in plain["note"] and "stride=10" in plain["note"]
    fitting = lab.data(str(tmp_path / "sheet.png"), out=out, tile=8, stride=10)
    assert fitting["count"] == 12 and "note" not in fitting
    shifted = lab.data(str(tmp_path / "sheet.png"), out=out, tile=(8, 8), stride=10, offset=(10, 0))
    assert shifted["count"] == 8


def test_a_sheet_of_more_tiles_than_memory_holds_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (500, 500)).save(tmp_path / "sheet.png")
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 1 << 30)
    with pytest.raises(DataError, match=r"96,721 tiles of 190x190.* GB of memory"):
        atlas_dataset(str(tmp_path / "sheet.png"), 190, stride=1).load()


def test_a_sheet_of_one_colour_is_told(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 9).save(tmp_path / "sheet.png")
    with pytest.raises(DataError, match="all 4 tiles are of one colour"):
        atlas_dataset(str(tmp_path / "sheet.png")).load()

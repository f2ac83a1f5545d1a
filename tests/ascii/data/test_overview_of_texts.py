"""`aelab data` of ASCII art: known numbers, texts to read, and a drawn sheet."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.ascii.glyphs import to_grid
from aelab.ascii.medium import Characters
from aelab.data.overview import named, overview, statistics
from aelab.errors import ConfigError
from aelab.medium import PIXELS
from aelab.types import Images


def _images(*texts: list[str]) -> Images:
    grids = [to_grid(text, (2, 4)) for text in texts]
    return Images(torch.stack(grids)[:, None], medium=Characters())


def test_statistics_of_texts_that_are_known() -> None:
    found = statistics(_images(["##"], ["##"], ["##", "/"]))
    # 24 cells: 6 hashes, 1 slash, 17 blanks.
    assert found["blank_share"] == pytest.approx(17 / 24)
    assert found["characters"] == 3
    bits = -sum(n / 24 * math.log2(n / 24) for n in (6, 1, 17))
    assert found["entropy_bits"] == pytest.approx(bits)
    assert found["floor_accuracy"] == pytest.approx(23 / 24)
    assert found["floor_accuracy_without_spaces"] == pytest.approx(6 / 7)
    assert found["duplicates"] == 1
    assert not {"mean", "floor_l1", "png_bits_per_pixel"} & set(found)


def test_examples_are_texts_without_the_blanks_around() -> None:
    assert Characters().examples(_images(["", " /\\ "], []).pixels) == [" /\\", ""]


def test_the_sheet_is_drawn_in_black_on_white() -> None:
    picture = Characters().drawn(_images([" #"]).pixels)
    height, width = picture.shape[2] // 2, picture.shape[3] // 4
    assert bool((picture[..., :width] == 255).all())
    assert int(picture[0, 0, :height, width : 2 * width].min()) < 100


@pytest.fixture
def art(tmp_path: Path) -> Path:
    for number in range(5):
        lines = ["+---+", f"| {number} |", "+---+"]
        (tmp_path / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_a_folder_of_texts_and_a_file_are_sets_of_ascii_art(art: Path) -> None:
    assert len(named(str(art)).load()) == 5
    assert named(str(art / "3.txt")).load().medium == Characters()


def test_a_folder_with_pictures_is_no_ascii_art(art: Path) -> None:
    Image.new("L", (8, 8)).save(art / "picture.png")
    assert named(str(art)).load().medium == PIXELS


def test_what_is_shown_has_examples_and_a_sheet(art: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    found = lab.data(str(art), out=out)
    assert found["count"] == 5 and len(found["examples"]) == 3
    assert "+---+\n" in found["examples"][0]
    with Image.open(out) as sheet:
        assert sheet.getextrema()[0] == (0, 255)


def test_characters_cannot_be_resized(art: Path) -> None:
    with pytest.raises(ConfigError, match="--resize would change the numbers of characters"):
        overview(str(art), resize=16)

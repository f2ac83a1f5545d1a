"""Transparent pixels: on a colour, on a checkerboard, or kept as a fourth channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import lab
from aelab.data import atlas_dataset, image_folder_dataset
from aelab.errors import DataError, UserError
from aelab.ops.color import convert_channels, over_checker, over_colour

GREY = {0: 102, 1: 153}


def sprite(colour: tuple[int, int, int, int] = (200, 100, 50, 255)) -> Image.Image:
    """16x16: a square of that colour in the middle of invisible magenta."""
    image = Image.new("RGBA", (16, 16), (255, 0, 255, 0))
    image.paste(colour, (4, 4, 12, 12))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sprites"
    path.mkdir()
    sprite().save(path / "a.png")
    sprite((0, 0, 0, 255)).save(path / "b.png")
    sprite((80, 80, 80, 128)).save(path / "c.png")
    Image.new("L", (16, 16), 77).save(path / "d.png")
    return path


@pytest.mark.parametrize(
    ("background", "corner"),
    [
        ("black", (0, 0, 0)), ("white", (255, 255, 255)), ("#102030", (16, 32, 48)),
        ((1, 2, 3), (1, 2, 3)), ("Rebeccapurple", (102, 51, 153)), ("checker", (102, 102, 102)),
    ],
)  # fmt: skip
def test_the_background_shows_where_nothing_is_drawn(
    folder: Path, background: Any, corner: tuple[int, int, int]
) -> None:
    pixels = image_folder_dataset(str(folder), background=background).load().pixels
    assert tuple(pixels[0, :, 0, 0].tolist()) == corner
    assert pixels[0, :, 8, 8].tolist() == [200, 100, 50]
    assert pixels[3, 0].eq(77).all()  # without alpha nothing shines through
    mixed = [round((80 * 128 + value * 127) / 255) for value in corner]
    if background != "checker":
        assert (pixels[2, :, 8, 8] - torch.tensor(mixed)).abs().max() <= 1


def test_a_checkerboard_has_squares_of_four_pixels(folder: Path) -> None:
    pixels = image_folder_dataset(str(folder), background="checker").load().pixels
    for y, x in ((0, 0), (0, 4), (4, 0), (15, 15), (3, 12)):
        assert pixels[0, :, y, x].tolist() == [GREY[(y // 4 + x // 4) % 2]] * 3


def test_black_is_the_default_and_changes_no_fingerprint(folder: Path) -> None:
    plain, black = (image_folder_dataset(str(folder), **k) for k in ({}, {"background": "#000"}))
    assert plain.fingerprint() == black.fingerprint()
    white = image_folder_dataset(str(folder), background="white")
    assert white.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize("wrong", ["whitish", (1, 2), (1, 2, 300), 7, (0.5, 0, 0), None])
def test_what_is_no_colour_is_told(folder: Path, wrong: Any) -> None:
    with pytest.raises(DataError, match=r"is not a colour[\s\S]*checker"):
        image_folder_dataset(str(folder), background=wrong)


def test_four_channels_keep_the_transparency(folder: Path) -> None:
    dataset = image_folder_dataset(str(folder), (4, 16, 16))
    assert dataset.shape == (4, 16, 16)
    pixels = dataset.load().pixels
    assert pixels[0, :, 8, 8].tolist() == [200, 100, 50, 255]
    assert pixels[0, :, 0, 0].tolist() == [0, 0, 0, 0]  # nothing is seen of the magenta
    assert pixels[2, :, 8, 8].tolist() == [80, 80, 80, 128]
    assert pixels[3, :, 0, 0].tolist() == [77, 77, 77, 255]


@pytest.mark.parametrize("size", [8, 11, 40])
@pytest.mark.parametrize("filter", ["bilinear", "nearest", "area", "lanczos"])
def test_a_sprite_that_is_resized_keeps_its_colour_to_the_edge(
    folder: Path, size: int, filter: str
) -> None:
    for dataset in (
        image_folder_dataset(str(folder), (4, size, size), filter),
        image_folder_dataset(str(folder), (4, 16, 16)).resize((4, size, size), filter),
    ):
        image = dataset.load().pixels[0]
        seen = image[3] > 8
        wanted = torch.tensor([200, 100, 50]).view(3, 1)
        assert 0 < seen.sum() < size * size
        assert (image[:3, seen].int() - wanted).abs().max() <= 12


def test_fewer_channels_of_four_are_as_they_look_on_black(folder: Path) -> None:
    four = image_folder_dataset(str(folder), (4, 16, 16))
    three = image_folder_dataset(str(folder), (3, 16, 16)).load().pixels
    assert torch.equal(four.resize((3, 16, 16)).load().pixels, three)
    assert convert_channels(torch.ones(2, 4, 3, 3), 1).shape == (2, 1, 3, 3)


def test_padding_has_the_colour_of_the_background(tmp_path: Path) -> None:
    Image.new("L", (8, 4), 9).save(tmp_path / "a.png")
    for background, value in (("black", 0), ("white", 255)):
        pixels = image_folder_dataset(
            str(tmp_path), (1, 8, 8), fit="pad", background=background
        ).load().pixels  # fmt: skip
        assert pixels[0, 0, :, 0].tolist() == [value] * 2 + [9] * 4 + [value] * 2
    clear = image_folder_dataset(str(tmp_path), (4, 8, 8), fit="pad").load().pixels
    assert clear[0, 3, :, 0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Two rows of three sprites: coloured, black, empty; black, half, coloured."""
    image = Image.new("RGBA", (48, 32), (255, 0, 255, 0))
    tiles = [sprite(), sprite((0, 0, 0, 255)), None,
             sprite((0, 0, 0, 255)), sprite((9, 9, 9, 99)), sprite()]  # fmt: skip
    for number, tile in enumerate(tiles):
        if tile is not None:
            image.paste(tile, (number % 3 * 16, number // 3 * 16))
    image.save(tmp_path / "sheet.png")
    return tmp_path / "sheet.png"


def test_tiles_on_a_background_and_with_alpha(sheet: Path) -> None:
    black = atlas_dataset(str(sheet), 16).load()
    white = atlas_dataset(str(sheet), 16, background="white").load()
    four = atlas_dataset(str(sheet), 16, (4, 16, 16)).load()
    # On black a black sprite is as empty as an empty tile; on white and with alpha it is not.
    assert (len(black), len(white), len(four)) == (2, 3, 3)
    assert white.pixels[0, :, 0, 0].tolist() == [255, 255, 255]
    assert four.pixels.shape == (3, 4, 16, 16)
    assert four.pixels[1, :, 8, 8].tolist() == [0, 0, 0, 255]
    assert four.facts["left_out"] == {"empty tiles": 1, "equal tiles": 2}
    every = atlas_dataset(str(sheet), 16, (4, 16, 16), skip_empty=False, drop_duplicates=False)
    assert len(every.load()) == 6


def test_what_is_transparent_is_told_by_data(folder: Path, sheet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    assert lab.data(str(folder), out=out)["transparent"] == "62.5% of the pixels"
    shown = lab.data(str(sheet), out=out, tile=16, background="white")
    assert shown["count"] == 3 and shown["left_out"] == {"empty tiles": 1, "equal tiles": 2}
    assert np.asarray(Image.open(out))[0, 0].tolist() == [255, 255, 255]


def test_colours_and_checkers_are_equal_for_bytes_and_floats() -> None:
    pixels = torch.randint(0, 256, (2, 4, 9, 9), dtype=torch.uint8)
    floats = pixels.float() / 255
    for over in (over_checker, lambda p: over_colour(p, (10, 20, 200))):
        assert (over(pixels).float() / 255 - over(floats)).abs().max() <= 0.51 / 255


RGBA = """\
experiment_name: rgba
train_set: image_folder_dataset("sprites", shape=(4, 16, 16))
validation_set: image_folder_dataset("sprites", shape=(4, 16, 16))
model: EncoderDecoder(EncoderConv2d((4, 16, 16), code_size=8), DecoderMLP((4, 16, 16), code_size=8))
batch_size: 4
learnrate: 0.001
optimizer: Adam
max_inputs: 16
"""


def test_a_model_of_four_channels_goes_the_whole_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rgba.yml").write_text(RGBA)
    (folder / "notes.txt").write_text("x")
    assert not lab.check("rgba.yml").problems
    assert list(lab.run("rgba.yml"))[-1].failed == 0  # type: ignore[union-attr]
    (source,) = json.loads(Path("runs/rgba/run.json").read_text())["data"]["train"]
    assert source["left_out"] == [["of other endings", 1, ["notes.txt"]]]
    with Image.open("runs/rgba/images/heldout-originals.png") as row:
        assert row.mode == "RGBA" and row.getpixel((0, 0)) == (0, 0, 0, 0)
        assert row.getpixel((8, 8)) == (200, 100, 50, 255)
    figure = lab.figure("reproductions", "rgba", out="figure.png")
    with Image.open(figure) as drawn:
        assert drawn.mode == "RGB"
        assert {(102,) * 3, (153,) * 3} <= {colour for _, colour in drawn.getcolors(1 << 20) or ()}
    assert lab.report(out="report.html").stat().st_size > 10_000
    for name in ("sample", "interpolation", "film"):
        assert lab.figure(
            name, "rgba", out=f"{name}.{'webp' if name == 'film' else 'png'}"
        ).exists()
    lab.evaluate("rgba")


def test_options_that_do_not_fit_are_told(folder: Path, sheet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    with pytest.raises(UserError, match="--tile is for a sheet"):
        lab.data(str(folder), out=out, tile=8)
    with pytest.raises(UserError, match="--skip-corrupt is for a folder"):
        lab.data(str(sheet), out=out, skip_corrupt=True)
    with pytest.raises(UserError, match="--background is for"):
        lab.data("noise", out=out, background="white")

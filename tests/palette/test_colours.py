"""Palettes, sets in their colours, the medium, the exchange of colours, and indexed PNG files."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from torch import Tensor

from aelab.data import TensorDataset, image_folder_dataset, mnist_dataset, sprite_dataset
from aelab.errors import ConfigError
from aelab.medium import PIXELS
from aelab.palette.colours import ORDERS, FoundPalette, hex_colours, palette, palette_of
from aelab.palette.data import SwapColours, indexed_dataset, swap_colours
from aelab.palette.medium import Colours, numbers_of
from aelab.types import Output

SPRITES = sprite_dataset(size=60)
CLEAR = sprite_dataset((4, 16, 16), size=60)


def unit(numbers: Tensor) -> Tensor:
    return numbers.float() / 255


def test_few_colours_are_the_palette_and_nothing_is_lost() -> None:
    found = palette_of(SPRITES, 27)
    images = indexed_dataset(SPRITES, found).load()
    assert images.pixels.shape == (60, 1, 16, 16) and images.pixels.dtype == torch.uint8
    assert images.facts["colour_error"] == 0 and images.provenance[0].note == "in 27 colours"
    drawn = images.medium.drawn(images.pixels)
    assert torch.equal(drawn, SPRITES.load().pixels)
    # The darkest first: what a shift leaves empty is black.
    assert hex_colours(found.colours())[0] == "#000000"
    assert images.labels is not None and images.file_names == SPRITES.load().file_names


def test_transparency_is_an_entry() -> None:
    found = palette_of(CLEAR, 27)
    assert found.transparent and hex_colours(found.colours())[0] == "transparent"
    images = indexed_dataset(CLEAR, found).load()
    assert torch.equal(images.medium.drawn(images.pixels), CLEAR.load().pixels)
    shown = images.medium.picture(unit(images.pixels))
    assert shown.shape == (60, 3, 16, 16), "on a checkerboard"
    assert images.medium.picture(unit(images.pixels), checker=False).shape[1] == 4


def test_many_colours_become_the_nearest_of_those_found() -> None:
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([[250, 10, 10], [10, 240, 20], [20, 20, 230], [128, 128, 128]])
    owner = torch.randint(0, 4, (20, 8, 8), generator=generator)
    noise = torch.randint(-6, 7, (20, 8, 8, 3), generator=generator)
    pixels = (centres[owner] + noise).clamp(0, 255).to(torch.uint8).permute(0, 3, 1, 2)
    pictures = TensorDataset(pixels.contiguous())
    found = palette_of(pictures, 4)
    table = found.colours()[:, :3].int()
    distance = (table[:, None] - centres[None]).abs().amax(2)
    assert distance.min(0).values.max() < 4, "k-means finds the centres"
    images = indexed_dataset(pictures, found).load()
    nearest = distance.argmin(0)  # of each centre its entry
    assert torch.equal(images.pixels[:, 0].long(), nearest[owner])
    assert 1 < images.facts["colour_error"] < 5
    assert "changes a colour value by" in images.provenance[0].note


def test_given_colours_and_what_is_none() -> None:
    given = palette("red", "transparent", "#00f")
    assert hex_colours(given.colours()) == ["transparent", "#ff0000", "#0000ff"]
    assert given == palette("red", "transparent", "#00f") != palette("red", "#00f")
    for colours in (("red",), ("red", "nonsense"), ("red", "#ff000080")):
        with pytest.raises(ConfigError, match="palette"):
            palette(*colours)
    with pytest.raises(ConfigError, match="2 to 256, got 300"):
        palette_of(SPRITES, 300)
    with pytest.raises(
        ConfigError, match=r"indexed_dataset needs a palette, got list[\s\S]*palette_of"
    ):
        indexed_dataset(SPRITES, ["red"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs pictures"):
        indexed_dataset(indexed_dataset(SPRITES, given), given)


def test_describing_a_set_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SPRITES), "load", None)
    monkeypatch.setattr(FoundPalette, "colours", None)
    dataset = indexed_dataset(SPRITES, palette_of(SPRITES, 16))
    assert dataset.shape == (1, 16, 16) and len(dataset) == 60
    assert dataset.medium == Colours(palette_of(SPRITES, 16)) != Colours(palette_of(SPRITES, 8))
    assert dataset.medium != PIXELS and dataset.is_bytes()


def test_moves_are_allowed_and_brightness_is_refused() -> None:
    dataset = indexed_dataset(SPRITES, palette_of(SPRITES, 27))
    moved = dataset.random_shift(2).random_flip(0.5, 0.0).limit(10).shuffle().freeze().load()
    assert int(moved.pixels.max()) < 27
    for change in (
        lambda: dataset.resize((1, 8, 8), "bilinear"),
        lambda: dataset.binarize(),
        lambda: dataset.transform([lambda image: image]),
    ):
        with pytest.raises(ConfigError, match="as if they were brightness"):
            change().load()
    with pytest.raises(ConfigError, match="cannot combine"):
        dataset.interleave(SPRITES).load()
    with pytest.raises(ConfigError, match="convert pictures with indexed_dataset"):
        PIXELS.refuse_model(dataset.medium)
    with pytest.raises(ConfigError, match=r"use the palette of 27 colours[\s\S]*same palette"):
        dataset.medium.refuse_model(Colours(palette("red", "blue")))


def test_swaps_exchange_colours_and_keep_greys_and_shapes() -> None:
    colours = palette("black", "#808080", "red", "#00ff00", "blue", "white")
    every = torch.arange(6, dtype=torch.uint8).view(1, 1, 1, 6).expand(len(ORDERS), 1, 1, 6)
    swaps = colours.swapped(every, torch.arange(len(ORDERS))).flatten(1)
    assert swaps[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (swaps[:, [0, 1, 5]] == torch.tensor([0, 1, 5])).all()
    assert all(sorted(row.tolist()) == [0, 1, 2, 3, 4, 5] for row in swaps)
    assert len({tuple(row.tolist()) for row in swaps}) == 6
    change = SwapColours(colours, 0.5)
    numbers = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3).expand(400, 1, 2, 3)
    bytes_ = change(numbers, torch.Generator().manual_seed(3))
    floats = change(unit(numbers), torch.Generator().manual_seed(3))
    assert bytes_.dtype == torch.uint8 and torch.equal(numbers_of(floats), bytes_[:, 0].long())
    unchanged = (bytes_ == numbers).flatten(1).all(1).float().mean()
    assert 0.42 < float(unchanged) < 0.58
    again = swap_colours(indexed_dataset(SPRITES, palette_of(SPRITES, 27)), 1.0)
    assert again.load().augment and again.fingerprint() != swap_colours(again, 1.0).fingerprint()
    with pytest.raises(ConfigError, match="swap_colours needs pictures in colours of a palette"):
        swap_colours(SPRITES)


@pytest.mark.parametrize("pictures", [SPRITES, CLEAR], ids=["opaque", "transparent"])
def test_single_pictures_are_indexed_png_files(pictures: object, tmp_path: object) -> None:
    dataset = indexed_dataset(pictures, palette_of(pictures, 27))  # type: ignore[arg-type]
    images = dataset.load()
    content = images.medium.picture_file(unit(images.pixels[:1]))
    assert content is not None
    with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
        assert picture.mode == "P"
        assert torch.equal(
            torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8),
            images.pixels[0].flatten(),
        )
    (tmp_path / "one.png").write_bytes(content)  # type: ignore[operator]
    channels = images.medium.drawn(images.pixels).shape[1]
    again = image_folder_dataset(str(tmp_path), shape=(channels, 16, 16)).load()
    assert torch.equal(again.pixels, images.medium.drawn(images.pixels[:1]))


def test_the_medium_counts_and_compares() -> None:
    medium = Colours(palette("black", "red", "white"))
    target = unit(torch.tensor([[0, 1, 2, 0], [1, 1, 2, 2]]).view(2, 1, 2, 2))
    made = target.clone()
    made[0, 0, 0, 0] = 2 / 255
    counts = medium.counts(None)
    for _ in range(2):
        counts.add(Output(made, torch.zeros(2, 1)), target)
    facts = {name: float(value) for name, value in counts.facts().items()}
    assert facts == {"exact_pixels": 0.875, "exact_images": 0.5}
    assert medium.errors(made, target)[1].tolist() == [0.25, 0.0]
    assert medium.nearest(made, target).tolist() == [0, 1]
    assert (medium.wrong(target) != target).all()
    certain = medium.made(Output(made, torch.zeros(2, 1), details={"logits": made}), target)
    assert torch.equal(certain.details["logits"].argmax(1), numbers_of(target))
    told = medium.statistics((target * 255).round().byte(), (target * 255).round().byte())
    assert told["colours"] == "3 of 3" and told["floor_exact"] == 0.75
    assert medium.record() == {"palette": ["#000000", "#ff0000", "#ffffff"]}


def test_grey_sets_have_palettes_too(data_folder: object) -> None:
    dataset = mnist_dataset()
    found = palette_of(dataset, 4)
    assert indexed_dataset(dataset, found).shape == (1, 28, 28)
    grey = TensorDataset(torch.tensor([0, 80, 160, 255], dtype=torch.uint8).view(1, 1, 2, 2))
    images = indexed_dataset(grey, palette_of(grey, 4)).load()
    assert images.pixels.flatten().tolist() == [0, 1, 2, 3]

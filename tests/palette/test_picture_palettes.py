"""One palette a picture: sets, models, losses, files, swaps, and a run from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab.data import sprite_dataset
from aelab.errors import ConfigError, ShapeError
from aelab.lab import Lab
from aelab.ops.random import keyed_generator
from aelab.palette.colours import ORDERS, PicturePalettes, palette, palette_of
from aelab.palette.data import SwapColours, indexed_dataset, swap_colours
from aelab.palette.losses import PaletteCrossEntropy, PaletteError
from aelab.palette.medium import Colours, numbers_of
from aelab.palette.models import PaletteAutoencoder, small_palette_ae

SPRITES = sprite_dataset(size=48)
OWN = palette_of(SPRITES, 8, per="picture")
SMALL = {"channels": (8, 8), "encoder_blocks": (0, 1), "decoder_blocks": (1, 1), "hidden": (32,)}


def model_of(**options: object) -> PaletteAutoencoder:
    torch.manual_seed(0)
    return small_palette_ae((16, 16), OWN, **{**SMALL, **options})  # type: ignore[arg-type]


def test_a_picture_of_few_colours_keeps_them_exactly_and_in_order() -> None:
    pixels = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    pixels[0, :, 0, 1] = torch.tensor([255, 255, 0])
    pixels[0, 0, 1] = 200
    pixels[1] = 7
    stored = PicturePalettes(4, False).stored(pixels, alpha=False)
    assert stored.shape == (2, 4, 2, 2)
    assert stored[0, 0].tolist() == [[0, 2], [1, 1]], "black, red, yellow: the darkest first"
    assert stored[1, 0].tolist() == [[0, 0], [0, 0]]
    palettes = PicturePalettes(4, False)
    assert torch.equal(palettes.drawn(stored), pixels)
    assert palettes.tables(stored)[0, :, :3].tolist() == [
        [0, 0, 0], [200, 0, 0], [255, 255, 0], [0, 0, 0]
    ]  # fmt: skip
    assert palettes.tables(stored)[0, :, 3].tolist() == [255] * 4


def test_more_colours_become_the_nearest_of_the_picture() -> None:
    images = SPRITES.load().pixels
    few = PicturePalettes(3, False).stored(images, alpha=False)
    assert all(len(picture[0].unique()) <= 3 for picture in few)
    own = float((PicturePalettes(3, False).drawn(few).int() - images.int()).abs().float().mean())
    shared = palette_of(SPRITES, 3)
    lost = float(
        (shared.drawn(shared.stored(images, False)).int() - images.int()).abs().float().mean()
    )
    assert 0 < own < 0.8 * lost, (
        "three colours of its own serve a picture better than three for all"
    )


def test_transparency_is_the_first_entry_of_each() -> None:
    clear = sprite_dataset((4, 16, 16), size=12)
    own = palette_of(clear, 8, per="picture")
    assert own.transparent and own.key != OWN.key
    images = indexed_dataset(clear, own).load()
    alpha = clear.load().pixels[:, 3] >= 128
    assert torch.equal(images.pixels[:, 0] > 0, alpha)
    drawn = images.medium.drawn(images.pixels)
    assert drawn.shape[1] == 4 and torch.equal(drawn[:, 3] == 255, alpha)
    assert (
        small_palette_ae((16, 16), own, **SMALL)(images.pixels.float() / 255).latent.shape[0] == 12
    )  # type: ignore[arg-type]


def test_a_shift_leaves_numbers_and_colours_together() -> None:
    images = indexed_dataset(SPRITES, OWN).load()
    for dataset in (
        indexed_dataset(SPRITES, OWN).random_shift(3),
        indexed_dataset(SPRITES, OWN).random_flip(0.5, 0.5),
    ):
        (change,) = dataset.load().augment
        moved = change(images.pixels.float() / 255, keyed_generator(0, "shift"))
        stored = (moved * 255).round().to(torch.uint8)
        assert torch.equal(OWN.tables(stored)[:, 0], OWN.tables(images.pixels)[:, 0]), (
            "what is empty has the darkest colour"
        )
        known = {tuple(row) for row in OWN.tables(images.pixels)[0].tolist()}
        assert {tuple(row) for row in OWN.tables(stored)[0].tolist()} <= {*known, (0, 0, 0, 255)}


def test_swaps_are_exact_and_keep_the_order() -> None:
    images = indexed_dataset(SPRITES, OWN).load().pixels
    for number, order in enumerate(ORDERS):
        swapped = OWN.swapped(images, torch.full((len(images),), number))
        assert torch.equal(OWN.drawn(swapped), OWN.drawn(images)[:, list(order)])
        again = OWN.stored(OWN.drawn(swapped), alpha=False)
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        light = (OWN.drawn(swapped).float() * weights).sum(1)
        for one, other, bright in zip(swapped, again, light, strict=True):
            assert torch.equal(one[1:], other[1:])
            # Brightness rises with the number; entries equally bright may stand in either order.
            order_of = one[0].flatten().long().argsort()
            assert (bright.flatten()[order_of].diff() > -1e-3).all()
    assert torch.equal(OWN.swapped(images, torch.zeros(len(images), dtype=torch.long)), images)
    change = SwapColours(OWN, 1.0)
    floats = change(images.float() / 255, keyed_generator(0, "swap"))
    bytes_ = change(images, keyed_generator(0, "swap"))
    assert torch.equal((floats * 255).round().to(torch.uint8), bytes_)


def test_a_model_outputs_numbers_and_the_colours_of_each_picture() -> None:
    model = model_of()
    images = indexed_dataset(SPRITES, OWN).load().pixels[:5].float() / 255
    output = model(images)
    made, table = output.reconstruction, output.details["palette"]
    assert made.shape == images.shape and table.shape == (5, 8, 3)
    assert torch.equal(numbers_of(made), output.details["logits"].argmax(1))
    chosen = table[3, numbers_of(made)[3, 7, 9]]
    assert torch.allclose(made[3, 1:, 7, 9], chosen)
    assert torch.equal(model.decode(model.encode(images)), made)
    assert (
        isinstance(model.medium, Colours) and model.medium == indexed_dataset(SPRITES, OWN).medium
    )
    assert [term.name for term in model.terms] == ["palette_ce", "palette_l1"]
    with pytest.raises(ShapeError, match="needs 4xHxW numbers"):
        model(images[:, :1])
    with pytest.raises(ConfigError, match="palette_decoder is missing"):
        PaletteAutoencoder(model.encoder, None, model.decoder, OWN)
    with pytest.raises(ConfigError, match="palette_decoder is given"):
        PaletteAutoencoder(
            model.encoder, None, model.decoder, palette("red", "blue"), None, model.palette_decoder
        )


def test_the_error_of_colours_is_that_of_the_drawn_picture_with_right_numbers() -> None:
    model = model_of()
    stored = indexed_dataset(SPRITES, OWN).load().pixels[:6]
    images = stored.float() / 255
    output = model(images)
    values = PaletteError()(output, images)
    rows = torch.arange(6)[:, None, None]
    drawn = output.details["palette"][rows, numbers_of(images)].movedim(-1, 1)
    torch.testing.assert_close(values, (drawn - images[:, 1:]).abs().mean((1, 2, 3)))
    values.sum().backward()
    assert model.palette_decoder is not None
    assert all(p.grad is not None for p in model.palette_decoder.parameters())
    exact = images_made(model, output, images)
    assert float(PaletteError()(exact, images).detach().abs().max()) < 1e-6
    assert float(PaletteCrossEntropy()(exact, images).abs().max()) < 1e-6
    shared = palette_of(SPRITES, 8)
    with pytest.raises(ConfigError, match="without palettes of their own"):
        PaletteError().prepare(indexed_dataset(SPRITES, shared).load())
    with pytest.raises(ConfigError, match="outputs none"):
        PaletteError()(output._replace(details={"logits": output.details["logits"]}), images)


def images_made(model: PaletteAutoencoder, output: object, images: torch.Tensor) -> object:
    return model.medium.made(output, images)


def test_two_kinds_of_palettes_are_not_mixed() -> None:
    shared = palette_of(SPRITES, 8)
    with pytest.raises(ConfigError, match="the images use the palette of 8"):
        Colours(shared).refuse_model(Colours(OWN))
    with pytest.raises(ConfigError, match="per is given as 'image'"):
        palette_of(SPRITES, 8, per="image")  # type: ignore[arg-type]


FILE = """
matrix: {per: [set, picture]}
experiment_name: sprites/${per}
globals:
  TRAIN: sprite_dataset(size=48)
  PALETTE: palette_of(TRAIN, 8, per)
train_set: swap_colours(indexed_dataset(TRAIN, PALETTE), 0.3).random_shift(1)
validation_set: indexed_dataset(sprite_dataset(size=16, seed=1), PALETTE)
model: small_palette_ae((16, 16), PALETTE, 8, (8, 8), (0, 1), (1, 1), (32,))
batch_size: 8
learnrate: 0.003
optimizer: Adam
max_images: IMAGES
validate_every_images: 48
"""


def test_a_run_trains_measures_samples_and_continues_bit_for_bit(tmp_path: Path) -> None:
    file = tmp_path / "own.yml"
    here = Lab(tmp_path / "runs")
    file.write_text(FILE.replace("IMAGES", "192"))
    assert [run.problems for run in here.check(file).runs] == [[], []]
    stopped = 0
    for event in here.run(file):
        stopped += type(event).__name__ == "RunValidated"
        if stopped == 2:
            break
    list(here.run(file))
    other = Lab(tmp_path / "whole")
    list(other.run(file))
    for per in ("set", "picture"):
        states = [lab.open(f"sprites/{per}").model.state_dict() for lab in (here, other)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    run = here.open("sprites/picture")
    found = run.evaluate(["colours"]).values
    assert 0 <= found["exact_pixels"] <= 1 and found["drawn_l1"] < 0.5
    run.sample(3, seed=1, out=tmp_path / "made")
    for picture in sorted((tmp_path / "made").glob("*.png")):
        with Image.open(picture) as made:
            assert made.mode == "P" and len(made.getcolors()) <= 8
            table = made.getpalette()
            assert table is not None
            used = [number for _, number in made.getcolors()]
            assert len({tuple(table[3 * n : 3 * n + 3]) for n in used}) >= 1
    here.report(out=tmp_path / "report.html")
    assert "one palette a picture" in (tmp_path / "runs/sprites/picture/run.json").read_text()
    assert swap_colours(indexed_dataset(SPRITES, OWN)).shape == (4, 16, 16)

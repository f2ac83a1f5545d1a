"""Models whose output is a colour in each pixel, their loss and their measures."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from aelab.data import sprite_dataset
from aelab.errors import ConfigError, ShapeError
from aelab.lab import Lab
from aelab.metrics import Subject
from aelab.palette.colours import palette, palette_of
from aelab.palette.data import indexed_dataset
from aelab.palette.losses import PaletteCrossEntropy
from aelab.palette.medium import Colours, numbers_of
from aelab.palette.metrics import colours
from aelab.palette.models import PaletteAutoencoder, small_palette_ae
from aelab.types import Output

SPRITES = sprite_dataset(size=64)
PALETTE = palette_of(SPRITES, 27)
SMALL = {"channels": (8, 8), "encoder_blocks": (0, 1), "decoder_blocks": (1, 1), "hidden": (32,)}


def model_of(**options: object) -> PaletteAutoencoder:
    torch.manual_seed(0)
    return small_palette_ae((1, 16, 16), PALETTE, **{**SMALL, **options})  # type: ignore[arg-type]


def test_the_reconstruction_is_the_likeliest_colour() -> None:
    model = model_of()
    images = indexed_dataset(SPRITES, PALETTE).load().pixels[:5].float() / 255
    output = model(images)
    assert output.details["logits"].shape == (5, 27, 16, 16)
    assert torch.equal(numbers_of(output.reconstruction), output.details["logits"].argmax(1))
    assert torch.equal(model.decode(model.encode(images)), output.reconstruction)
    # The encoder sees the colours as a pixel model does.
    seen = model._seen(images)
    assert torch.allclose(seen * 255, SPRITES.load().pixels[:5].float())
    with pytest.raises(ShapeError, match=r"3x16x16 images[\s\S]*indexed_dataset"):
        model(images.expand(-1, 3, -1, -1))


def test_the_palette_is_kept_in_the_state() -> None:
    model = model_of()
    with torch.device("meta"):
        empty = model_of()
    assert empty.colours.is_meta and empty.medium == model.medium
    state = copy.deepcopy(model.state_dict())
    again = model_of()
    again.colours.zero_()
    again.load_state_dict(state)
    assert torch.equal(again.medium.palette.colours(), PALETTE.colours())
    assert isinstance(again.medium, Colours)


def test_cross_entropy_equals_torchs() -> None:
    torch.manual_seed(1)
    logits, numbers = torch.randn(3, 5, 4, 4), torch.randint(0, 5, (3, 4, 4))
    output = Output(torch.zeros(3, 1, 4, 4), torch.zeros(3, 2), details={"logits": logits})
    target = numbers[:, None].float() / 255
    loss = PaletteCrossEntropy()(output, target)
    assert loss.shape == (3,)
    torch.testing.assert_close(loss.mean(), F.cross_entropy(logits, numbers))
    smooth = PaletteCrossEntropy(label_smoothing=0.2)(output, target)
    torch.testing.assert_close(smooth.mean(), F.cross_entropy(logits, numbers, label_smoothing=0.2))
    weighted = PaletteCrossEntropy(frequency_power=0.5)
    with pytest.raises(ConfigError, match="needs the counts"):
        weighted(output, target)
    with pytest.raises(ConfigError, match="not in colours of a palette"):
        weighted.prepare(SPRITES.load())
    images = indexed_dataset(SPRITES, palette_of(SPRITES, 5)).load()
    weighted.prepare(images)
    counts = torch.bincount(images.pixels.flatten(), minlength=5).double()
    weights = ((counts + 1) ** -0.5).float()
    each = [F.cross_entropy(logits[n : n + 1], numbers[n : n + 1], weights) for n in range(3)]
    torch.testing.assert_close(weighted(output, target), torch.stack(each), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="outputs pixels"):
        PaletteCrossEntropy()(output._replace(details={}), target)
    for wrong in ({"frequency_power": -1}, {"label_smoothing": 1.0}):
        with pytest.raises(ConfigError, match="palette_ce"):
            PaletteCrossEntropy(**wrong)  # type: ignore[arg-type]


def test_a_variational_model_adds_the_divergence_per_pixel() -> None:
    model = model_of(beta=1.0)
    assert [term.name for term in model.terms] == ["palette_ce", "kl"]
    assert model.terms[1].weight == pytest.approx(1 / 256)
    with pytest.raises(ConfigError, match="beta"):
        model_of(beta=-1)
    with pytest.raises(ShapeError, match="shape is"):
        small_palette_ae((3, 16, 16), PALETTE)
    with pytest.raises(ConfigError, match="needs a palette"):
        small_palette_ae((16, 16), "red")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="must be 2xHxW"):
        PaletteAutoencoder(model.encoder, model.bottleneck, model.decoder, palette("red", "blue"))(
            torch.zeros(1, 1, 16, 16), torch.zeros(1, 16)
        )


def test_the_measure_counts_exact_pixels() -> None:
    images = indexed_dataset(SPRITES, PALETTE).load()
    found = colours(Subject(model_of(), images))
    made = model_of().eval()(images.pixels.float() / 255).reconstruction
    right = (numbers_of(made) == images.pixels[:, 0]).double()
    assert found["exact_pixels"] == pytest.approx(float(right.mean()))
    gap = images.medium.picture(made).float() - images.medium.drawn(images.pixels).float()
    assert found["drawn_l1"] == pytest.approx(float(gap.abs().mean() / 255), rel=1e-5)
    assert 0 <= found["mean_class_accuracy"] <= 1


FILE = """
experiment_name: sprites
globals:
  TRAIN: sprite_dataset(size=48)
  PALETTE: palette_of(TRAIN, 27)
train_set: swap_colours(indexed_dataset(TRAIN, PALETTE).random_flip(.5, 0), .2)
validation_set: indexed_dataset(TRAIN, PALETTE)
model: |
  small_palette_ae((16, 16), PALETTE, code_size=32, channels=(16, 16), encoder_blocks=(0, 1),
                   decoder_blocks=(1, 1), hidden=(64,))
objective: {palette_ce: {frequency_power: 0.25}}
optimizer: AdamW
learnrate: 0.003
batch_size: 16
max_images: 480
"""


def test_a_file_is_trained_and_its_samples_are_indexed_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sprites.yml"
    path.write_text(FILE, encoding="utf-8")
    lab = Lab(tmp_path / "runs")
    list(lab.run(path))
    run = lab.open("sprites")
    assert torch.equal(run.model.medium.palette.colours(), PALETTE.colours())
    made = run.sample(3, "gaussian", out=tmp_path / "made")
    assert made.shape == (3, 1, 16, 16)
    first = sorted((tmp_path / "made").glob("*.png"))[0].read_bytes()
    assert first[25] == 3, "the colour type of PNG: a palette"
    values = run.evaluate(["colours"])
    assert values is not None
    # Pictures of a user: the nearest colours of the palette.
    stored = run.inputs("validation").pixels[:3]
    (tmp_path / "mine").mkdir()
    for number, picture in enumerate(Colours(PALETTE).drawn(stored)):
        path = tmp_path / "mine" / f"{number}.png"
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    assert torch.equal(run.inputs(tmp_path / "mine").pixels, stored)
    assert torch.equal(run.encode(path), run.encode(stored[2:]))
    look = run.looker().look(path)
    assert look["unit"] == "wrong" and 0 <= look["error"] <= 1
    assert run.looker().explored.look(path)["error"] == look["error"]


@pytest.mark.slow
def test_a_small_model_learns_few_sprites_exactly() -> None:
    images = indexed_dataset(SPRITES.limit(32), PALETTE).load().pixels.float() / 255
    model = small_palette_ae((16, 16), PALETTE, code_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss = PaletteCrossEntropy()
    for _ in range(300):
        optimizer.zero_grad()
        loss(model(images), images).mean().backward()
        optimizer.step()
    right = numbers_of(model(images).reconstruction) == numbers_of(images)
    assert right.float().mean() > 0.995

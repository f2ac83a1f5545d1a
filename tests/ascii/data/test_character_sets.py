"""Characters stay characters through every change; none takes their numbers for brightness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aelab.ascii.data.ascii_art import ascii_art_dataset
from aelab.ascii.data.image_to_ascii import _is_dark
from aelab.ascii.glyphs import character_numbers, numbers_to_images, to_grid, to_lines
from aelab.ascii.medium import Characters
from aelab.ascii.mirror import RandomMirror, mirrored
from aelab.data import COMBINATORS, Dataset, TensorDataset, TransformDataset, noise_dataset
from aelab.data.augment import RandomRoll
from aelab.data.transforms import CenterCrop, Normalize, RandomCrop, ToTensor
from aelab.errors import ConfigError
from aelab.medium import PIXELS
from aelab.ops.augmented import changed_batch

KEEPING: dict[str, Callable[[Dataset], Dataset]] = {
    "limit": lambda d: d.limit(2),
    "skip": lambda d: d.skip(1),
    "repeat": lambda d: d.repeat(2),
    "shuffle": lambda d: d.shuffle(),
    "sample": lambda d: d.sample(2),
    "filter": lambda d: d.filter(lambda image: image.sum() > 0),
    "interleave": lambda d: d.interleave(d.limit(1)),
    "freeze": lambda d: d.roll(2, 2).freeze(),
    "roll": lambda d: d.roll(2, 3),
    "mirror": lambda d: d.mirror(),
    "shift": lambda d: d.random_shift(2).freeze(),
    "window": lambda d: d.random_crop_all((4, 4)).freeze(),
    "crop": lambda d: d.center_crop((5, 5)),
    "same size": lambda d: d.resize((6, 10)),
    "transform": lambda d: TransformDataset(d, transforms=[ToTensor(), CenterCrop(4)]),
    "random crop": lambda d: TransformDataset(d, transforms=[RandomCrop(4)]).freeze(),
    "tensors": lambda d: TensorDataset(d),
    "several": lambda d: d.limit(2).shuffle().roll(1, 1).repeat(3).mirror().freeze(),
}
REFUSED: dict[str, Callable[[Dataset], Dataset]] = {
    "resize": lambda d: d.resize((12, 12)),
    "scale": lambda d: d.scale(2.0),
    "binarize": lambda d: d.binarize(),
    "random_flip": lambda d: d.random_flip(),
    "collage": lambda d: d.collage((20, 20)),
    "function": lambda d: d.transform([lambda image: 1 - image]),
    "multiply": lambda d: d.transform(multiply=2.0),
    "dtype": lambda d: d.transform(dtype=torch.float64),
    "normalize": lambda d: d.transform([Normalize(0.5, 0.5)]),
    "interleave": lambda d: d.interleave(noise_dataset((1, 6, 10), size=3)),
}


@pytest.fixture
def art(data_folder: Path) -> Dataset:
    """Three pictures of 6 lines of 10 characters."""
    cats = [rf" /\_/\{end}" + f"\n( {eye}.{eye} )\n > ^ <" for eye, end in ("o!", "-?", "x.")]
    (data_folder / "cats.txt").write_text("\n%\n".join(cats), encoding="ascii")
    return ascii_art_dataset("cats.txt", res=(6, 10))


@pytest.mark.parametrize("name", sorted(KEEPING))
def test_a_change_of_places_keeps_the_alphabet(name: str, art: Dataset) -> None:
    changed = KEEPING[name](art)
    images = changed.load()
    assert changed.medium == images.medium == Characters()
    assert images.pixels.dtype == torch.uint8
    assert set(images.pixels.unique().tolist()) <= set(art.load().pixels.unique().tolist())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_change_of_brightness_is_refused(name: str, art: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"brightness|cannot combine") as caught:
        REFUSED[name](art)
    assert "possible" in str(caught.value) or "image_to_ascii_dataset" in str(caught.value)


def test_pictures_are_pictures_still() -> None:
    pictures = noise_dataset((1, 6, 10), size=4)
    assert pictures.medium == pictures.load().medium == PIXELS
    assert pictures.resize((3, 3)).binarize().freeze().load().medium == PIXELS
    with pytest.raises(ConfigError, match="random_flip"):
        pictures.mirror()


def test_rolling_is_torch_roll_of_each_image() -> None:
    images = torch.rand(50, 2, 7, 9)
    before = images.clone()
    change = RandomRoll(3, 2)
    rolled = change(images, torch.Generator().manual_seed(4))
    shifts = change.shifts(50, torch.Generator().manual_seed(4))
    for image, out, down, right in zip(images, rolled, *shifts, strict=True):
        assert torch.equal(out, torch.roll(image, (int(down), int(right)), (1, 2)))
    assert torch.equal(images, before)  # the original wrote into the batch
    assert {int(v) for v in shifts[0]} == set(range(-3, 4))
    assert {int(v) for v in shifts[1]} == set(range(-2, 3))


def test_normal_draws_are_those_of_the_document() -> None:
    change = RandomRoll(20, 7, draws="normal")
    down, right = change.shifts(20_000, torch.Generator().manual_seed(0))
    drawn = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 10
    by_hand = [max(-20, min(20, int(value))) for value in drawn.tolist()]  # int() truncates
    assert down.tolist() == by_hand
    # P(|N(0, 3.5)| < 1) truncates to zero: erf(1 / (3.5 sqrt 2)).
    assert (right == 0).float().mean().item() == pytest.approx(0.2249, abs=0.01)
    assert right.abs().max() == 7
    narrow = RandomRoll(20, 7, sigma=0.2, draws="normal").shifts(99, torch.Generator())
    assert not narrow[0].any()


def test_mirroring_turns_slashes_and_brackets() -> None:
    grid = to_grid(["(\\_ <b", " /x] 3"], (2, 6))[None, None]
    assert to_lines(mirrored(grid)[0, 0]) == ["d> _/)", "3 [x\\ "]
    assert torch.equal(mirrored(mirrored(grid)), grid)
    floats = numbers_to_images(grid[:, 0])
    assert torch.equal(character_numbers(mirrored(floats)), mirrored(grid)[:, 0].long())


def test_a_mirroring_of_probability_one_half_mirrors_half() -> None:
    grid = to_grid(["(ab "], (1, 4)).expand(4000, 1, 1, 4)
    out = RandomMirror(0.5)(grid, torch.Generator().manual_seed(1))
    turned = (out != grid).flatten(1).any(1)
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(out[turned], mirrored(grid[turned]))
    assert torch.equal(RandomMirror(0.0)(grid, torch.Generator()), grid)


def test_a_training_batch_holds_whole_characters(art: Dataset) -> None:
    images = art.roll(3, 3).mirror().load()
    index = torch.arange(3).repeat(20)
    batch = changed_batch(images.pixels, index, images.augment, torch.Generator().manual_seed(0))
    assert batch.dtype == torch.float32
    numbers = character_numbers(batch)
    assert torch.allclose(batch[:, 0] * 255, numbers.float(), atol=1e-4)
    ink = (images.pixels > 0).flatten(1).sum(1)[index]
    assert torch.equal((numbers > 0).flatten(1).sum(1), ink)


def test_rolls_out_of_range_are_told(art: Dataset) -> None:
    with pytest.raises(ConfigError, match="rows is the greatest shift"):
        art.roll(-1, 0)
    with pytest.raises(ConfigError, match="normal draws"):
        art.roll(1, 1, sigma=2.0)
    with pytest.raises(ConfigError, match="'uniform' or 'normal'"):
        art.roll(1, 1, draws="gauss")  # type: ignore[arg-type]


def _strokes(count: int) -> Tensor:
    pixels = torch.zeros(count, 1, 48, 48, dtype=torch.uint8)
    for number in range(count):
        pixels[number, :, :, 10 + number : 13 + number] = 255
    return pixels


def test_pictures_become_ascii_and_are_kept(tmp_path: Path) -> None:
    write = COMBINATORS["image_to_ascii_dataset"]
    pictures = TensorDataset(_strokes(5), torch.arange(5))
    dataset = write(pictures, (6, 12))
    images = dataset.load()
    assert images.medium == dataset.medium == Characters()
    assert images.shape == dataset.shape == (1, 6, 12) and len(dataset) == 5
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 3, 4]
    assert images.facts["inverted"] is True  # bright strokes on dark paper
    inked = (images.pixels > 0).any(2)[:, 0]
    assert inked.sum(1).max() <= 2  # a stroke lies in one column of characters, or between two
    assert inked.any(0).nonzero().min() >= 2 and inked.any(1).all()
    kept = list((tmp_path / "cache" / "ascii").iterdir())
    assert [file.stat().st_size for file in kept] == [5 * 6 * 12]
    assert write(pictures, (6, 12), invert=False).load().pixels.ne(0).float().mean() > 0.5
    with pytest.raises(ConfigError, match="ASCII pictures already"):
        write(dataset)


def test_a_drawn_text_is_read_back(art: Dataset) -> None:
    from aelab.ascii.glyphs import font_renderer

    original = art.load().pixels
    drawn = font_renderer(12).draw(original[:, 0])
    pictures = TensorDataset((drawn * 255).round().to(torch.uint8))
    back = COMBINATORS["image_to_ascii_dataset"](pictures, (6, 10), font_res=12).load()
    assert torch.equal(back.pixels, original)
    assert back.facts["inverted"] is False


def test_sets_of_all_kinds_train_together(art: Dataset) -> None:
    written = COMBINATORS["image_to_ascii_dataset"](TensorDataset(_strokes(5)), (6, 10))
    both = art.interleave(written).roll(1, 1)
    images = both.load()
    assert len(images) == 8 and images.medium == Characters()
    assert [entry.name for entry in images.provenance] == ["ascii-art", "tensor"]


def test_whether_a_sorted_set_is_dark_does_not_hang_on_its_first_pictures() -> None:
    bright, dark = torch.full((1200, 1, 2, 2), 0.9), torch.full((4000, 1, 2, 2), 0.1)
    assert _is_dark(torch.cat([bright, dark]))
    assert not _is_dark(torch.cat([1 - bright, 1 - dark]))

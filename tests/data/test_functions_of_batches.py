"""A user's functions after a random change: they run with each batch, and decide the range."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aelab.data import TensorDataset
from aelab.data.augment import EachItem
from aelab.data.transforms import RandomCrop, RandomHorizontalFlip
from aelab.lab import Lab
from aelab.ops.augmented import chosen_images
from aelab.ops.look import findings_in_images, seen_values

FILE = """
experiment_name: crops
globals:
  SHAPE: (3, 6, 6)
train_set: |
  WrapDataset(TensorDataset(torch.load("train.pt"))).transform([
      VT.RandomCrop(SHAPE[-2:]), lambda x: x.to(torch.float) / 255,
  ])
validation_set: |
  WrapDataset(TensorDataset(torch.load("train.pt"))).transform([
      VT.CenterCrop(SHAPE[-2:]), lambda x: x.to(torch.float) / 255,
  ])
model: EncoderDecoder(EncoderMLP(SHAPE, 4), DecoderMLP(SHAPE, 4))
loss_function: l1
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_images: 64
"""


@pytest.fixture
def pixels() -> torch.Tensor:
    """Whole numbers of 0..255, as a set of bytes has them."""
    return torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_whole_numbers_divided_after_a_random_crop_pass_check_and_run(
    pixels: torch.Tensor, tmp_path: Path
) -> None:
    torch.save(pixels, tmp_path / "train.pt")
    for name, last in (("good", "x.to(torch.float) / 255"), ("bad", "x.to(torch.float)")):
        path = tmp_path / f"{name}.yml"
        path.write_text(FILE.replace("x.to(torch.float) / 255", last).replace("crops", name))
        lab = Lab(tmp_path / "runs", device="cpu")
        (plan,) = lab.check(path).runs
        if name == "good":
            assert not plan.problems
            list(lab.run(path))
            assert lab.open(name).images == 64
        else:
            (problem,) = [p for p in plan.problems if "train_set" in p]
            assert "values from 0 to 255" in problem
            with pytest.raises(Exception, match="values from 0 to 255"):
                list(lab.run(path))


@pytest.mark.parametrize("first", [RandomCrop((6, 6)), RandomHorizontalFlip()])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_the_range_is_that_of_the_values_after_the_functions(
    pixels: torch.Tensor, first: object, low: float, high: float
) -> None:
    change = [first, lambda x: x / 255 * (high - low) + low]
    images = TensorDataset(pixels).transform(change).load()
    assert images.value_range == (low, high)
    assert not findings_in_images(images, "train_set")
    values = seen_values(images)
    assert low <= values.low < low + 0.1 and high - 0.1 < values.high <= high
    # What figures and validation show has the same range.
    shown = chosen_images(images, torch.arange(8))
    assert low <= float(shown.min()) and float(shown.max()) <= high


def test_a_function_that_keeps_the_range_runs_in_training_only(pixels: torch.Tensor) -> None:
    unit = TensorDataset(pixels.float() / 255)
    images = unit.transform([RandomHorizontalFlip(), lambda x: 1 - x]).load()
    (function,) = [change for change in images.augment if isinstance(change, EachItem)]
    assert not function.sets_range
    torch.testing.assert_close(chosen_images(images, torch.arange(4)), pixels[:4].float() / 255)

"""Generated sets with known factors."""

from __future__ import annotations

import math

import pytest
import torch

from aelab.data import InterleaveDataset
from aelab.data.sources.generated_factors import (
    ColoredShapes,
    Shapes,
    colored_shapes_dataset,
    shapes_dataset,
)
from aelab.errors import DataError

SETS = [shapes_dataset, colored_shapes_dataset]


@pytest.mark.parametrize("make", SETS)
def test_no_combination_is_drawn_twice_and_each_gives_another_image(make) -> None:
    images = make(1500).load()
    assert len(images.factors.unique(dim=0)) == 1500
    assert len(images.pixels.flatten(1).unique(dim=0)) == 1500
    sizes = torch.tensor(images.facts["factor_sizes"])
    assert (images.factors >= 0).all() and (images.factors < sizes).all()
    # Every value occurs, about equally often.
    for column, size in zip(images.factors.T, sizes.tolist(), strict=True):
        counts = torch.bincount(column, minlength=size)
        assert (counts - 1500 / size).abs().max() < 6 * math.sqrt(1500 / size)


@pytest.mark.parametrize("make", SETS)
def test_training_and_validation_have_no_combination_in_common(make) -> None:
    train, held_out = make(1500).load(), make(1500, part="validation").load()
    both = torch.cat([train.factors, held_out.factors])
    assert len(both.unique(dim=0)) == 3000
    assert not torch.equal(make(50).load().pixels, make(50, seed=1).load().pixels)
    assert torch.equal(make(50).load().pixels, make(100).load().pixels[:50])


@pytest.mark.parametrize("kind", [Shapes, ColoredShapes])
def test_the_two_parts_together_are_all_combinations(kind: type[Shapes]) -> None:
    total = math.prod(kind.sizes.values())
    held_out = round(0.1 * total)
    parts = [
        kind((kind.channels, 8, 8), size, part, 0).chosen()
        for size, part in ((total - held_out, "train"), (held_out, "validation"))
    ]
    assert len(torch.cat(parts).unique(dim=0)) == total


def _single(**values: int) -> torch.Tensor:
    """The picture (H, W) in 0..1 of one combination of the factors of `Shapes`."""
    source = Shapes((1, 32, 32), 1, "train", 0)
    factors = torch.tensor([[values.get(name, 0) for name in Shapes.sizes]])
    return source._drawn(factors)[0, 0].float() / 255


def test_factors_do_what_their_names_say() -> None:
    place = torch.arange(32.0)

    def middle(picture: torch.Tensor) -> tuple[float, float]:
        mass = picture.sum()
        return float((picture.sum(0) * place).sum() / mass), float(
            (picture.sum(1) * place).sum() / mass
        )

    left, right = middle(_single(position_x=0)), middle(_single(position_x=15))
    up, down = middle(_single(position_y=0)), middle(_single(position_y=15))
    assert right[0] - left[0] > 12 and math.isclose(left[1], right[1], abs_tol=0.1)
    assert down[1] - up[1] > 12 and math.isclose(up[0], down[0], abs_tol=0.1)
    # The area grows with the square of the radius, 0.2 to 0.4 of half the picture.
    small, large = _single(scale=0).sum(), _single(scale=5).sum()
    assert math.isclose(float(large / small), 4, rel_tol=0.05)
    # A square of half side 0.9 r: (2 * 0.9 * 0.2 * 16)^2 pixels.
    assert math.isclose(float(small), (1.8 * 0.2 * 16) ** 2, rel_tol=0.05)
    # An ellipse: pi r * 0.55 r. Turning keeps the area.
    for orientation in (0, 7, 13):
        area = _single(shape=1, scale=5, orientation=orientation, position_x=7, position_y=7).sum()
        assert math.isclose(float(area), math.pi * 0.55 * (0.4 * 16) ** 2, rel_tol=0.03)


def test_no_shape_is_cut_off_at_the_border() -> None:
    images = shapes_dataset(4000, (1, 32, 32)).load().pixels
    border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
    assert int(border.max()) == 0


def test_hues_change_only_their_part_of_the_scene() -> None:
    source = ColoredShapes((3, 32, 32), 1, "train", 0)
    names = list(ColoredShapes.sizes)

    def draw(**values: int) -> torch.Tensor:
        return source._drawn(torch.tensor([[values.get(name, 0) for name in names]]))[0].float()

    plain = draw()
    for factor, top, bottom in (("floor_hue", 0, 1), ("wall_hue", 1, 0)):
        changed = (draw(**{factor: 3}) - plain).abs().sum(0) > 0
        assert changed[0, 0] == bool(top) and changed[-1, -1] == bool(bottom)
    changed = (draw(object_hue=3) - plain).abs().sum(0) > 0
    assert changed.any() and not changed[0].any() and not changed[-1].any()


def test_factors_follow_the_images_through_changes_of_the_set() -> None:
    plain = shapes_dataset(40, (1, 16, 16))
    whole = plain.load()
    by_picture = {
        p.numpy().tobytes(): f.tolist() for p, f in zip(whole.pixels, whole.factors, strict=True)
    }
    for changed in (
        plain.shuffle(), plain.skip(7).limit(9), plain.repeat(2), plain.sample(5),
        plain.filter(lambda x: x.sum() > 5), InterleaveDataset(plain, plain.skip(20)),
    ):  # fmt: skip
        images = changed.load()
        assert images.factor_names == tuple(Shapes.sizes)
        found = [by_picture[p.numpy().tobytes()] for p in images.pixels]
        assert images.factors.tolist() == found
    assert torch.equal(plain.resize((1, 8, 8)).load().factors, whole.factors)
    other = InterleaveDataset(plain.resize((3, 16, 16)), colored_shapes_dataset(4, (3, 16, 16)))
    assert other.load().factors is None


def test_mistakes_tell_what_is_possible() -> None:
    with pytest.raises(DataError, match=r"has 1 to 82,944 combinations"):
        shapes_dataset(90_000)
    with pytest.raises(DataError, match="possible: train, validation"):
        shapes_dataset(10, part="test")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="images of 3 channels, not 1"):
        colored_shapes_dataset(10, (1, 32, 32))

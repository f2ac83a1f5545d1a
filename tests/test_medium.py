"""What images are made of: what holds for every medium, and for pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aelab.ascii.medium import Characters
from aelab.errors import ConfigError
from aelab.medium import PIXELS, Pixels, common_medium, medium_of


def test_a_model_that_says_nothing_paints() -> None:
    assert medium_of(nn.Linear(2, 2)) == PIXELS == Pixels()
    model = nn.Linear(2, 2)
    model.medium = Characters()  # type: ignore[assignment]
    assert medium_of(model) == Characters() != PIXELS


def test_sets_of_several_media_are_named_by_what_they_hold() -> None:
    assert common_medium([("a", PIXELS), ("b", Pixels())]) == PIXELS
    with pytest.raises(ConfigError) as caught:
        common_medium([("photos", PIXELS), ("cats", Characters()), ("tiles", PIXELS)])
    assert caught.value.message == (
        "cannot combine ASCII pictures (cats) with pictures (photos, tiles)"
    )
    assert caught.value.hint == Characters.from_others
    with pytest.raises(ConfigError, match=r"Characters\(alphabet=' #'\) \(b\)"):
        common_medium([("a", Characters()), ("b", Characters(" #"))])


def test_pixels_are_seen_in_one_or_three_channels() -> None:
    images = torch.rand(2, 5, 4, 4)
    assert torch.equal(PIXELS.picture(images), (images[:, :3] * 255).round().byte())
    assert PIXELS.picture(images[:, :2]).shape == (2, 1, 4, 4)
    transparent = torch.zeros(1, 4, 4, 4)
    assert PIXELS.picture(transparent).shape == (1, 3, 4, 4)
    assert PIXELS.picture(transparent, checker=False).shape == (1, 4, 4, 4)
    assert PIXELS.picture(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2)).flatten().tolist() == [0, 255]


def test_pixels_allow_every_change_and_have_no_texts() -> None:
    PIXELS.refuse("mnist", "resize", lambda image: 1 - image)
    assert PIXELS.texts(torch.rand(1, 1, 2, 2)) == []
    assert PIXELS.record() == {} and PIXELS.counts(None) is None
    with pytest.raises(ConfigError, match="mnist holds pictures, whose elements have no mirror"):
        PIXELS.random_mirror("mnist", 0.5)


def test_pixels_are_compared_by_squares() -> None:
    images, among = torch.rand(3, 1, 4, 4), torch.rand(6, 1, 4, 4)
    among[4] = images[1]
    assert PIXELS.nearest(images, among)[1] == 4
    name, errors = PIXELS.errors(images + 0.5, images)
    assert name == "L2"
    torch.testing.assert_close(errors, torch.full((3,), 0.25))

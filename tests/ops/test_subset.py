"""Images that stand for all of a set: drawn by a key, nested, spread over the classes."""

from __future__ import annotations

import pytest
import torch

from aelab.ops.subset import draw_order, said, show_order


def _sorted_labels() -> torch.Tensor:
    return torch.arange(5).repeat_interleave(torch.tensor([3, 400, 1000, 200, 2000]))


@pytest.mark.parametrize("order", [draw_order, show_order])
def test_an_order_holds_every_row_once_and_is_the_same_each_time(order) -> None:  # type: ignore[no-untyped-def]
    labels = _sorted_labels()
    for given in (None, labels):
        rows = order(len(labels), given)
        assert rows.sort().values.tolist() == list(range(len(labels)))
        assert torch.equal(rows, order(len(labels), given))
    assert order(1).tolist() == [0]
    assert order(0).tolist() == []


def test_every_beginning_of_a_draw_has_the_proportions_of_the_set() -> None:
    labels = _sorted_labels()
    rows = draw_order(len(labels), labels)
    shares = torch.bincount(labels).double() / len(labels)
    for count in (50, 500, 2000):
        found = torch.bincount(labels[rows[:count]], minlength=5)
        assert (found - count * shares).abs().max() <= 2


def test_a_draw_without_labels_takes_from_everywhere() -> None:
    rows = draw_order(10_000)[:500]
    assert abs(rows.double().mean().item() - 5000) < 400
    assert rows.min() < 200
    assert rows.max() > 9800


def test_each_image_is_as_likely_as_any_other() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([1, 9, 90]))
    # Sets of like proportions and other sizes draw anew: the small class comes as often as it is.
    drawn = 0
    for extra in range(300):
        more = torch.cat([labels, torch.full((extra,), 2)])
        drawn += int((draw_order(len(more), more)[:20] == 0).sum()) * (100 + extra) / 100
    assert 35 < drawn < 90  # 300 times 20 of 100


def test_pictures_show_every_class_before_any_twice() -> None:
    labels = _sorted_labels()
    rows = show_order(len(labels), labels)
    assert labels[rows[:16]].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 1]


def test_of_many_classes_not_the_first_are_shown() -> None:
    labels = torch.arange(300).repeat_interleave(4)
    seen = labels[show_order(len(labels), labels)]
    assert seen[:300].sort().values.tolist() == list(range(300))
    assert seen[:16].max() > 150
    assert seen[:300].tolist() == seen[300:600].tolist()


def test_labels_may_be_any_numbers() -> None:
    labels = torch.tensor([10**12, -5, 10**12, 7])
    assert labels[show_order(4, labels)].tolist() == [-5, 7, 10**12, 10**12]


def test_a_number_of_images_is_said_with_the_whole() -> None:
    assert said(500, 3800) == "500 of 3,800 images"
    assert said(3800, 3800, "held-out images") == "3,800 held-out images"

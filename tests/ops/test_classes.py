"""Classes of several sets: one number for one class, by name where there are names."""

from __future__ import annotations

import torch

from aelab.ops.classes import common_classes
from aelab.ops.subset import draw_order, show_order
from aelab.types import Images


def _set(labels: list[int] | None, names: list[str] | None = None) -> Images:
    count = len(labels or [0])
    facts = {} if names is None else {"label_names": names}
    given = None if labels is None else torch.tensor(labels)
    return Images(torch.zeros(count, 1, 1, 1), labels=given, facts=facts)


def test_equal_names_are_one_class_whatever_their_numbers() -> None:
    first, second = _set([0, 2, 1], ["aa", "bb", "cc"]), _set([0, 1, 2], ["bb", "cc", "dd"])
    (one, other), names = common_classes([first, second])
    assert names == ("aa", "bb", "cc", "dd")
    assert one is not None and other is not None
    assert (one.tolist(), other.tolist()) == ([0, 2, 1], [1, 2, 3])


def test_classes_without_an_image_keep_their_place() -> None:
    (labels,), names = common_classes([_set([2, 2], ["aa", "bb", "cc"])])
    assert labels is not None and labels.tolist() == [2, 2]
    assert names == ("aa", "bb", "cc")


def test_bare_numbers_are_matched_as_numbers_and_leave_no_gaps() -> None:
    (one, other), names = common_classes([_set([7, -3, 10**12]), _set([10**12])])
    assert one is not None and other is not None
    assert (one.tolist(), other.tolist(), names) == ([1, 0, 2], [2], ("-3", "7", "1000000000000"))


def test_names_of_one_side_hold_for_the_numbers_of_the_other() -> None:
    (one, other), names = common_classes([_set([0, 1], ["cat", "dog"]), _set([1, 5])])
    assert one is not None and other is not None
    assert (one.tolist(), other.tolist(), names) == ([0, 1], [1, 2], ("cat", "dog", "5"))


def test_what_is_no_class_is_none() -> None:
    images = torch.zeros(4, 1, 1, 1)
    for labels, wanted in (
        (torch.tensor([[0], [1], [1], [0]]), [0, 1, 1, 0]),
        (torch.tensor([True, False, True, True]), [1, 0, 1, 1]),
        (torch.tensor([0.0, 2.0, 2.0, 0.0]), [0, 1, 1, 0]),
        (torch.eye(4), None),
        (torch.tensor([0.5, 1.0, 2.0, 0.1]), None),
        (torch.tensor([float("nan"), 1.0, 2.0, 0.1]), None),
    ):
        (found,), _ = common_classes([Images(images, labels=labels)])
        assert (None if found is None else found.tolist()) == wanted
        assert draw_order(4, labels).sort().values.tolist() == [0, 1, 2, 3]
        assert show_order(4, labels).sort().values.tolist() == [0, 1, 2, 3]


def test_a_set_without_labels_has_none() -> None:
    (one, other), names = common_classes([_set(None), _set([3])])
    assert one is None and other is not None and other.tolist() == [0]
    assert names == ("3",)
    assert common_classes([_set(None)]) == ((None,), ())

"""Representative subsets of an image set: keyed random draws, never simply the first images.

Sets are often sorted: a folder of classes, the pages of a book, the frames of a film. Their first N
images are then of one kind and represent nothing else. Two random orders of all rows are drawn
here. The first n of an order are a draw of n, so a smaller draw is always part of a larger one:

- `draw_order`, for numbers: every prefix has the classes in the same proportions as the set.
- `show_order`, for figures: every prefix has the classes as evenly as possible, so that a class of
  three images is shown beside one of three thousand.

Both depend only on the number of images and their labels, not on a run: all runs on one set, at any
resolution, are measured and shown with the same images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.ops.classes import class_numbers
from aelab.ops.random import keyed_generator

#: Name of the rule by which images are drawn. Numbers by different rules cover different images.
RULE = "drawn-1"
#: Up to this many classes are shown in the order of their numbers.
IN_ORDER = 16
#: Appended to the number of images in notes about a subset.
DRAWN = ", drawn at random; the same images for every run and measure"


def draw_order(count: int, labels: Tensor | None = None) -> Tensor:
    """All rows of a set in an order in which every prefix is a random draw.

    Args:
        count: images in the set, N.
        labels: (N,) int64; each class is then spread evenly over the order: the first n contain
            n times its share of the images, up to one.

    Returns:
        (N,) int64, a permutation of 0 .. N-1; the same for equal arguments in every version.
    """
    order, labels = _shuffled(count, "subset"), class_numbers(labels)
    if labels is None or count < 2:
        return order
    number, among, start = _within_classes(labels[order])
    # Image i of a class of m is placed at (i + offset) / m of the whole order. Each class has its
    # own offset, as in systematic sampling, so that small classes do not all start together.
    offset = torch.rand(len(among), generator=keyed_generator(count, "offset"), dtype=torch.float64)
    place = (start + offset[number]) / among[number]
    return order[place.argsort(stable=True)]


def show_order(count: int, labels: Tensor | None = None) -> Tensor:
    """As `draw_order`, but with one image of each class in turn, for figures.

    Args:
        count: images in the set, N.
        labels: (N,) int64 or None.

    Returns:
        (N,) int64: one image of every class, then a second one of every class, and so on; classes
        in the order of their numbers. More than 16 classes may not fit on a sheet: they come in a
        random order, the same in each round.
    """
    order, labels = _shuffled(count, "shown"), class_numbers(labels)
    if labels is None or count < 2:
        return order
    number, among, turn = _within_classes(labels[order])
    if len(among) > IN_ORDER:
        number = _shuffled(len(among), "classes")[number]
    return order[(turn * len(among) + number).argsort(stable=True)]


def with_every_class(order: Tensor, count: int, labels: Tensor | None) -> Tensor:
    """The first `count` rows of a `draw_order`; the last ones are replaced by missing classes.

    For figures: a class of three images among thousands may be missing in a draw. Numbers use the
    draw itself, which is unbiased.

    Args:
        order: (N,) from `draw_order`.
        count: number of rows.
        labels: (N,) or None.
    """
    rows, numbers = order[:count].clone(), class_numbers(labels)
    if numbers is None or count >= len(order):
        return rows
    # The first round of `show_order` has one image of every class.
    first = show_order(len(order), numbers)[: len(torch.unique(numbers))]
    missing = first[~torch.isin(numbers[first], numbers[rows])][: count // 2]
    if len(missing):
        rows[-len(missing) :] = missing
    return rows


def said(count: int, total: int, what: str = "images") -> str:
    """The size of a subset in words: `500 of 3,800 images`, or `3,800 images` for all of them."""
    return f"{count:,} {what}" if count >= total else f"{count:,} of {total:,} {what}"


def _shuffled(count: int, purpose: str) -> Tensor:
    return torch.randperm(count, generator=keyed_generator(count, purpose))


def _within_classes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The class number of each row, the class sizes, and each row's index within its class.

    Args:
        labels: (N,) any whole numbers.

    Returns:
        number (N,), among (K,) sizes, turn (N,) counted from 0 in the order of rows.
    """
    _, number, among = torch.unique(labels, return_inverse=True, return_counts=True)
    by_class = number.argsort(stable=True)
    first = torch.cumsum(among, 0) - among
    turn = torch.empty_like(number)
    turn[by_class] = torch.arange(len(number)) - first.repeat_interleave(among)
    return number, among, turn

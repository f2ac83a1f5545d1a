"""Which images of a set stand for all of it: keyed random draws, never the first ones.

Sets come sorted: a folder of classes, the pages of a book, the frames of a film. Its first N images
are then of one kind, and every number over them is of that kind only. Two orders are drawn here,
both of all rows, so that the first n of an order are a draw of n, and a smaller draw is always part
of a larger one:

- `draw_order` for numbers: every beginning holds the classes in the proportion that the set does.
- `show_order` for pictures: every beginning holds the classes as evenly as it can, so that a class
  of three images is seen beside one of three thousand.

Both depend on the number of images and their labels only, not on a run: all runs on one set, at any
resolution, are measured and shown with the same images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aelab.ops.classes import class_numbers
from aelab.ops.random import keyed_generator

#: Names the rule by which images are drawn; another rule gives numbers of other images.
RULE = "drawn-1"
#: Up to so many classes are shown in the order of their numbers.
IN_ORDER = 16
#: What is said of a part of the images, after how many.
DRAWN = ", drawn at random; the same images for every run and measure"


def draw_order(count: int, labels: Tensor | None = None) -> Tensor:
    """All rows of a set in an order of which every beginning is a random draw.

    Args:
        count: images in the set, N.
        labels: (N,) int64; each class is then spread evenly over the order: among the first n are
            n times its share of the images, give or take one.

    Returns:
        (N,) int64, each of 0 .. N-1 once; the same for equal arguments, for ever.
    """
    order, labels = _shuffled(count, "subset"), class_numbers(labels)
    if labels is None or count < 2:
        return order
    number, among, start = _within_classes(labels[order])
    # The i-th of a class of m stands at (i + offset) / m of the whole order: one offset a class,
    # as in systematic sampling, so that small classes do not all begin at the same place.
    offset = torch.rand(len(among), generator=keyed_generator(count, "offset"), dtype=torch.float64)
    place = (start + offset[number]) / among[number]
    return order[place.argsort(stable=True)]


def show_order(count: int, labels: Tensor | None = None) -> Tensor:
    """As `draw_order`, but one image of each class after the other, for pictures.

    Args:
        count: images in the set, N.
        labels: (N,) int64 or None.

    Returns:
        (N,) int64: one of every class, then a second one of every class, and so on, while there are
        any; classes in the order of their numbers. Of more than 16 classes a sheet may show a part:
        these stand in a random order, the same each round.
    """
    order, labels = _shuffled(count, "shown"), class_numbers(labels)
    if labels is None or count < 2:
        return order
    number, among, turn = _within_classes(labels[order])
    if len(among) > IN_ORDER:
        number = _shuffled(len(among), "classes")[number]
    return order[(turn * len(among) + number).argsort(stable=True)]


def with_every_class(order: Tensor, count: int, labels: Tensor | None) -> Tensor:
    """The first `count` rows of a `draw_order`, the last of them exchanged for what they miss.

    For pictures: a class of three images among thousands may have none in a draw. For numbers a
    draw is better as it is.

    Args:
        order: (N,) from `draw_order`.
        count: how many.
        labels: (N,) or None.
    """
    rows, numbers = order[:count].clone(), class_numbers(labels)
    if numbers is None or count >= len(order):
        return rows
    first = show_order(len(order), numbers)[: len(torch.unique(numbers))]
    missing = first[~torch.isin(numbers[first], numbers[rows])][: count // 2]
    if len(missing):
        rows[-len(missing) :] = missing
    return rows


def said(count: int, total: int, what: str = "images") -> str:
    """How many of how many, in words: `500 of 3,800 images`, or `3,800 images` for all of them."""
    return f"{count:,} {what}" if count >= total else f"{count:,} of {total:,} {what}"


def _shuffled(count: int, purpose: str) -> Tensor:
    return torch.randperm(count, generator=keyed_generator(count, purpose))


def _within_classes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row: number of its class, and its number among those of its class; class sizes.

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

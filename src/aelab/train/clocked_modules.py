"""Telling the time to models whose settings depend on it."""

from __future__ import annotations

from torch import nn


def set_clock(module: nn.Module, images: int, epoch: int) -> None:
    """Calls `at(images, epoch)` on the module, or else on the children that have such a method.

    A module with `at` derives settings from the clock and nothing else (which layers are in use,
    how far one is faded in), keeps no state of its own for it, and tells its own children. So a
    continued run needs nothing stored. Composed models need no `at`: their parts are found.

    Args:
        images: images seen in training.
        epoch: completed passes.
    """
    for clocked in find_clocked(module):
        clocked.at(images, epoch)  # type: ignore[operator]


def find_clocked(module: nn.Module) -> list[nn.Module]:
    """The outermost modules in it, itself included, whose class has a method `at`."""
    # Asked of the class: a missing attribute of a module costs a microsecond, thousands a batch.
    if callable(getattr(type(module), "at", None)):
        return [module]
    return [found for child in module.children() for found in find_clocked(child)]

"""Sets the images and epochs seen in models whose settings depend on them."""

from __future__ import annotations

from torch import nn


def set_clock(module: nn.Module, images: int, epoch: int) -> None:
    """Calls `at(images, epoch)` on the module, or else on the children that have this method.

    A module with `at` derives settings from these two numbers alone (which layers are in use,
    how far one is faded in), stores no state for it, and passes them to its own children. So a
    continued run needs nothing stored. Composed models need no `at`: their parts are found.

    Args:
        images: images seen in training.
        epoch: completed passes.
    """
    for clocked in find_clocked(module):
        clocked.at(images, epoch)  # type: ignore[operator]


def find_clocked(module: nn.Module) -> list[nn.Module]:
    """The outermost modules, `module` included, whose class has a method `at`."""
    # The class is checked, not the object: nn.Module.__getattr__ takes a microsecond for a missing
    # attribute, and this runs for every module in every batch.
    if callable(getattr(type(module), "at", None)):
        return [module]
    return [found for child in module.children() for found in find_clocked(child)]

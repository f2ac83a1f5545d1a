"""Exports runs to other tools: one module for each tool, each an extra that reads the store.

A bridge is not part of training. It follows the files of runs, finished or still training, and
exports what is new to its tool.
"""

from __future__ import annotations

from collections.abc import Callable

from aelab.bridges.following import Bridge, HandedOver, follow
from aelab.bridges.tensorboard import TensorBoard
from aelab.bridges.wandb import WeightsAndBiases
from aelab.parts import Table

__all__ = ["BRIDGES", "Bridge", "HandedOver", "follow", "make_bridge"]


def _tensorboard(**options: object) -> Bridge:
    """Event files for TensorBoard: curves, pictures and settings of each run."""
    return TensorBoard(**options)  # type: ignore[arg-type]


def _wandb(**options: object) -> Bridge:
    """Runs of Weights & Biases, uploaded or written for `wandb sync`."""
    return WeightsAndBiases(**options)  # type: ignore[arg-type]


#: Bridges by name; each bridge of aelab needs the extra with the same name.
BRIDGES: Table[Callable[..., Bridge]] = Table(
    "bridge", "aelab.bridges", {"tensorboard": _tensorboard, "wandb": _wandb}
)


def make_bridge(name: str, **options: object) -> Bridge:
    """Makes the bridge with this name; options are those of its class.

    Raises:
        UserError: there is no such bridge or no such option.
        MissingExtra: its tool is not installed.
    """
    return BRIDGES.find(name)(**options)

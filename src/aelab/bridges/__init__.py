"""Runs for other people's viewers: one file a tool, each an extra, each reading the store.

A bridge never takes part in training. It follows the files of runs, whether they are finished or
still grow, and hands what is new to its tool.
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


#: Bridges by name; each of ours needs the extra that is called like it.
BRIDGES: Table[Callable[..., Bridge]] = Table(
    "bridge", "aelab.bridges", {"tensorboard": _tensorboard, "wandb": _wandb}
)


def make_bridge(name: str, **options: object) -> Bridge:
    """The bridge of that name; options are those of its class.

    Raises:
        UserError: there is none, or an option does not exist.
        MissingExtra: its tool is not installed.
    """
    return BRIDGES.find(name)(**options)

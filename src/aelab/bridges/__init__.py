"""Runs for other people's viewers: one file a tool, each an extra, each reading the store.

A bridge never takes part in training. It follows the files of runs, whether they are finished or
still grow, and hands what is new to its tool.
"""

from __future__ import annotations

from aelab.bridges.following import Bridge, Counts, follow

#: Bridges by name, and the extra that each needs.
BRIDGES = ("tensorboard", "wandb")

__all__ = ["BRIDGES", "Bridge", "Counts", "follow", "make_bridge"]


def make_bridge(name: str, **options: object) -> Bridge:
    """The bridge of that name; options are those of its class.

    Raises:
        UserError: there is none, or an option does not exist.
        MissingExtra: its tool is not installed.
    """
    from aelab.errors import UserError, did_you_mean, one_of

    if name == "tensorboard":
        from aelab.bridges.tensorboard import TensorBoard

        return TensorBoard(**options)  # type: ignore[arg-type]
    if name == "wandb":
        from aelab.bridges.wandb import WeightsAndBiases

        return WeightsAndBiases(**options)  # type: ignore[arg-type]
    raise UserError(
        f"there is no bridge to '{name}'{did_you_mean(name, BRIDGES)}",
        hint=f"possible: {one_of(BRIDGES)}",
    )

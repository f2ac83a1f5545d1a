"""aelab: a laboratory for autoencoders of small images.

    Lab           folder of runs, folders that may be read, and device; its methods are the verbs
    check, run, table, plot, ls, evaluate, figure, render
                  the same verbs as functions, each with its own `Lab`; all are in `aelab.lab`
    open_run      a stored run with its model, an `OpenedRun`; `open_model` returns only the model
    register      makes a class or function of yours usable in experiment files
    AelabError    base class of all errors with a message for the user

Names are resolved when first used: importing aelab imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aelab._version import __version__

if TYPE_CHECKING:
    from aelab import lab
    from aelab.catalogue import register
    from aelab.errors import AelabError
    from aelab.lab import (
        Lab,
        check,
        evaluate,
        figure,
        ls,
        open_model,
        open_run,
        plot,
        render,
        run,
        table,
    )

__all__ = [
    "AelabError", "Lab", "__version__", "check", "evaluate", "figure", "lab", "ls", "open_model",
    "open_run", "plot", "register", "render", "run", "table",
]  # fmt: skip

_HOMES = {"AelabError": "aelab.errors", "lab": "aelab", "register": "aelab.catalogue"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'aelab' has no attribute '{name}'")
    home = _HOMES.get(name, "aelab.lab")
    if home == "aelab":
        return import_module(f"aelab.{name}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

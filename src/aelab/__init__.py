"""aelab: a laboratory for autoencoders of small images.

    lab           the verbs as functions: lab.check, lab.run, lab.table, lab.plot, lab.report, ...
    open_model    the trained model of a stored run
    register      make one's own class or function usable in experiment files
    AelabError    everything that ends in one message

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
    from aelab.lab import open_model

__all__ = ["AelabError", "__version__", "lab", "open_model", "register"]

_HOMES = {
    "AelabError": "aelab.errors",
    "lab": "aelab",
    "open_model": "aelab.lab",
    "register": "aelab.catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aelab' has no attribute '{name}'")
    if _HOMES[name] == "aelab":
        return import_module(f"aelab.{name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

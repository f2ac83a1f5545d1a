"""Imports torch's compiler when something is compiled, and not before.

torch imports its compiler `torch._dynamo` (1.0 CPU s) with the first optimiser and with many
operations on the meta device, only to exclude them from compilation. This has no effect while
nothing is compiled. So a small module takes its place and answers these two calls. Any other use
of it imports the compiler, and from then on everything is as in plain torch.

Only processes that belong to aelab do this (the command, its workers): see `postpone_compiler`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


def postpone_compiler() -> None:
    """Lets this process import torch's compiler only when it is needed.

    Changes this process's imports, so it is for processes of aelab's own, not for a caller's
    Python. Does nothing if the compiler is imported already.
    """
    if _COMPILER not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _StandIn(ModuleType):
    """Answers what torch asks of its compiler where nothing is compiled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._passed: list[Any] = []

    def disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """The function itself, for torch's own functions (`wrapping=False`)."""
        if fn is None or options != {"wrapping": False}:
            return _import_compiler().disable(fn, recursive, **options)
        self._passed.append(fn)
        return fn

    def graph_break(self, msg: str = "") -> None:
        """Ends the part that is compiled; there is none."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python's own import
            raise AttributeError(name)
        return getattr(_import_compiler(), name)


class _Finder(MetaPathFinder):
    """Finds the stand-in for the compiler; for a module inside of it, imports the compiler."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == _COMPILER:
            return ModuleSpec(name, _Loader(lambda: _StandIn(name)), is_package=True)
        if name.startswith(f"{_COMPILER}."):
            _import_compiler()
            if (found := sys.modules.get(name)) is not None:
                return ModuleSpec(name, _Loader(lambda: found))
        return None


class _Loader(Loader):
    """Hands over a module that needs no execution."""

    def __init__(self, make: Callable[[], ModuleType]) -> None:
        self._make = make

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        return self._make()

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""


def _import_compiler() -> ModuleType:
    """The real compiler; from now on the stand-in and its finder are gone."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    stand_in = sys.modules.get(_COMPILER)
    if isinstance(stand_in, _StandIn):
        del sys.modules[_COMPILER]
        # torch keeps the answer of `disable` with the function: it must ask again.
        for fn in stand_in._passed:
            fn.__dict__.pop("__dynamo_disable", None)
    return importlib.import_module(_COMPILER)

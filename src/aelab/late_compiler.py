"""Imports torch's compiler and its computer algebra when they are needed, and not before.

torch imports its compiler `torch._dynamo` (1.0 CPU s) with the first optimiser and with many
operations on the meta device, only to exclude them from compilation. On the meta device it also
asks its symbolic shapes, and with them the algebra system sympy (0.3 CPU s), whether a size is a
symbol. While nothing is compiled, nothing is a symbol. So small modules take the place of the three
and answer these questions. Any other use of one imports it, and from then on it is as in plain
torch.

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


def postpone_compiler() -> None:
    """Lets this process import torch's compiler and algebra only when they are needed.

    Changes this process's imports, so it is for processes of aelab's own, not for a caller's
    Python. Does nothing with what is imported already.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        waiting = {name: kind for name, kind in _STAND_INS.items() if name not in sys.modules}
        if waiting:
            sys.meta_path.insert(0, _Finder(waiting))


class _StandIn(ModuleType):
    """A module that is imported when it is asked for something that it cannot answer."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python's own import
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        """The module itself; from now on the stand-in is gone."""
        name = self.__name__
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                finder.waiting.pop(name, None)
        if sys.modules.get(name) is self:
            del sys.modules[name]
            self._leave()
        return importlib.import_module(name)

    def _leave(self) -> None:
        """Takes back what the stand-in has answered, if it was kept somewhere."""


class _Compiler(_StandIn):
    """`torch._dynamo`: answers what torch asks where nothing is compiled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._passed: list[Any] = []

    def disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """The function itself, for torch's own functions (`wrapping=False`)."""
        if fn is None or options != {"wrapping": False}:
            return self._real().disable(fn, recursive, **options)
        self._passed.append(fn)
        return fn

    def graph_break(self, msg: str = "") -> None:
        """Ends the part that is compiled; there is none."""

    def _leave(self) -> None:
        # torch keeps the answer of `disable` with the function: it must ask again.
        for fn in self._passed:
            fn.__dict__.pop("__dynamo_disable", None)


class _Shapes(_StandIn):
    """`torch.fx.experimental.symbolic_shapes`: answers what torch asks about plain numbers."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # torch reads it as an attribute of the package, where the module itself would put it.
        importlib.import_module("torch.fx.experimental._config")

    def __getattr__(self, name: str) -> Any:
        found = _ANSWERS.get(name)
        if found is None:
            return super().__getattr__(name)
        answer, is_plain = found

        def asked(*given: Any, **options: Any) -> Any:
            """The answer for plain values; for symbols, that of torch."""
            if not options and all(map(is_plain, given)):
                return answer(*given)
            return getattr(self._real(), name)(*given, **options)

        setattr(self, name, asked)
        return asked


def _is_truth(value: Any) -> bool:
    return type(value) is bool


def _is_size(value: Any) -> bool:
    """Whether a value is a whole number, or a sequence of such."""
    if isinstance(value, tuple | list):
        return all(map(_is_size, value))
    return type(value) is int


def _itself(value: Any) -> Any:
    return value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


#: Questions of torch -> the answer for plain values, and whether a value is plain.
_ANSWERS: dict[str, tuple[Callable[..., Any], Callable[[Any], bool]]] = {
    "expect_true": (_itself, _is_truth),
    "guard_or_false": (_itself, _is_truth),
    "guard_or_true": (_itself, _is_truth),
    "guard_size_oblivious": (_itself, _is_truth),
    "statically_known_true": (_itself, _is_truth),
    "sym_and": (lambda *conditions: all(conditions), _is_truth),
    "sym_or": (lambda *conditions: any(conditions), _is_truth),
    "guard_int": (_itself, _is_size),
    "guarding_hint_or_throw": (_itself, _is_size),
    "has_guarding_hint": (lambda size: True, _is_size),
    "is_nested_int": (lambda size: False, _is_size),
    "sym_eq": (_equal, _is_size),
}


class _Nothing:
    """Stands for sympy's `Basic`: no object is one before sympy is imported."""


class _Algebra(_StandIn):
    """`sympy`: answers `isinstance(x, sympy.Basic)` of torch's rule for types of results."""

    def __getattr__(self, name: str) -> Any:
        # A class of somebody else's may inherit from `Basic`, so it gets the real one.
        asking = sys._getframe(1).f_globals.get("__name__")
        if name == "Basic" and asking == "torch._prims_common":
            return _Nothing
        return super().__getattr__(name)


_STAND_INS: dict[str, type[_StandIn]] = {
    "torch._dynamo": _Compiler,
    "torch.fx.experimental.symbolic_shapes": _Shapes,
    "sympy": _Algebra,
}


class _Finder(MetaPathFinder):
    """Finds the stand-ins; for a module inside of one, imports the real package.

    Attributes:
        waiting: name -> the stand-in of what is not imported yet.
    """

    def __init__(self, waiting: dict[str, type[_StandIn]]) -> None:
        self.waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name in self.waiting:
            kind = self.waiting[name]
            return ModuleSpec(name, _Loader(lambda: kind(name)), is_package=True)
        for package in list(self.waiting):
            stand_in = sys.modules.get(package)
            if name.startswith(f"{package}.") and isinstance(stand_in, _StandIn):
                stand_in._real()
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

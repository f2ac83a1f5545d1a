"""Functions of one image from an experiment file: comparing them, and calling them."""

from __future__ import annotations

import builtins
import dis
import hashlib
import itertools
import secrets
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor

from aelab.errors import AelabError, DataError

_serial = itertools.count()
#: In keys of functions that cannot be compared: other processes must not match them.
_PROCESS = secrets.token_hex(8)
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def function_key(function: Callable[..., Any]) -> str:
    """A key for the cache of loaded sets; equal only if two functions certainly do the same.

    The key is made of the code, the defaults, and the plain values that the function closes over
    or takes from its globals. A function that depends on anything else gets a unique key, so that
    it never matches another one.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        # Only the repr of the lab's own transforms is complete; that of a module lacks its weights.
        ours = type(function).__module__.startswith("aelab.data.")
        text = repr(function)
        return text if ours and " at 0x" not in text else f"object {_PROCESS}-{next(_serial)}"
    parts = [_code(code), _plain(function.__defaults__), _plain(function.__kwdefaults__)]
    for cell in function.__closure__ or ():
        parts.append(_plain(cell.cell_contents))
    for name in _names(code):
        # Names with a leading underscore are the guards of the restricted evaluator.
        if (name == "_" or not name.startswith("_")) and name in function.__globals__:
            parts.append(f"{name}={_plain(function.__globals__[name])}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def missing_names(function: Callable[..., Any]) -> list[str]:
    """Global names that a function, or one inside it, uses and that are not defined."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    known = function.__globals__
    within = known.get("__builtins__", builtins)
    there = {*known, *(within if isinstance(within, dict) else vars(within))}
    return sorted(_global_names(code) - there)


def refuse_missing_names(name: str, *functions: Callable[..., Any]) -> None:
    """Raise for a function with a name that is not defined, before it is called.

    Raises:
        DataError: naming the function and the name.
    """
    for function in functions:
        for missing in missing_names(function):
            raise DataError(
                f"{name}: the function {_title(function)} uses {missing!r}, which is not defined",
                hint="define it in the block, before or inside the function",
            )


def _global_names(code: types.CodeType) -> set[str]:
    # From the bytecode, not `co_names`: those also hold attributes, which are no globals.
    named = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return named.union(*map(_global_names, inner))


def call_on_image(function: Callable[..., Any], item: Any, name: str, row: int) -> Any:
    """Calls `function(item)` and turns a failure into a message.

    Raises:
        DataError: naming the data set, the image's number and the function's argument.
    """
    try:
        return function(item)
    except AelabError:
        raise
    except Exception as error:
        given = f"{item.dtype} {tuple(item.shape)}" if isinstance(item, Tensor) else type(item)
        raise DataError(
            f"{name}: the function {_title(function)} failed on image {row}: "
            f"{type(error).__name__}: {error}",
            hint=f"it was given one item: {given}",
        ) from error


def _title(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def _code(code: types.CodeType) -> str:
    # Inner functions by their code: their repr holds an address, which differs each time.
    consts = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {consts}"


def _names(code: types.CodeType) -> list[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted(set(code.co_names).union(*(set(_names(c)) for c in inner)))


def _plain(value: Any) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(map(_plain, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{_plain(k)}: {_plain(v)}' for k, v in value.items())})"
    if isinstance(value, types.ModuleType):
        return value.__name__
    place = getattr(value, "__qualname__", "<locals>")
    if isinstance(value, (type, types.BuiltinFunctionType)) and "<locals>" not in place:
        return f"{value.__module__}.{place}"
    return f"object {_PROCESS}-{next(_serial)}"

"""Checks the arguments that a file gives to an optimiser or a schedule, by its signature.

The same rule as for the parts of blocks: the parameter names and annotations decide.
"""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch

from aelab.arguments import annotation_words, fit_annotation
from aelab.errors import AelabError, ConfigError, Where, did_you_mean, in_words, one_of, shown

#: Names that torch's annotations use without importing them at run time.
_NAMES = {
    "Callable": collections.abc.Callable,
    "Iterable": collections.abc.Iterable,
    "Sequence": collections.abc.Sequence,
    "Optimizer": torch.optim.Optimizer,
}


@contextlib.contextmanager
def argument_errors(
    kind: str, name: str, arguments: Mapping[str, Any], documented: str
) -> Iterator[None]:
    """Context manager: turns any error of an optimiser or schedule into a ConfigError.

    Args:
        kind: `optimizer` or `scheduler`, for messages.
        name: as written in the file.
        arguments: from the file.
        documented: class whose arguments to look up; empty if aelab checks them itself.

    Raises:
        ConfigError: with the arguments given.
    """
    try:
        yield
    except AelabError:
        raise
    except Exception as error:
        given = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
        said = str(error) if isinstance(error, ValueError) else in_words(error)
        if isinstance(error, ZeroDivisionError):
            said = "it divides by one of these, and cannot divide by 0"
        hint = f"see the arguments of {documented}" if documented else None
        raise ConfigError(f"{kind} {name}({given}): {said}", hint=hint) from error


def checked(
    kind: str,
    name: str,
    parts: Collection[Callable[..., Any]],
    given: Mapping[str, Any],
    withheld: Collection[str],
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """The arguments, converted to the annotated types: lists to tuples, `1e4` to an int.

    Args:
        kind: `optimizer` or `scheduler`, for messages.
        name: as written in the file.
        parts: the callables whose signatures together define the possible arguments.
        given: from the file.
        withheld: arguments that a file may not set, because the code sets them.
        optional: arguments that a file may leave out although the signature requires them.

    Raises:
        ConfigError: an unknown argument, or a value of another kind; its `where.key` names the
            argument.
    """
    hints: dict[str, Any] = {}
    for part in parts:
        hints |= {n: h for n, h in _hints(part).items() if n not in withheld}
    fitted = {}
    for argument, value in given.items():
        place = Where(key=str(argument))
        if argument not in hints:
            raise ConfigError(
                f"{kind} {name} has no argument '{argument}'{did_you_mean(str(argument), hints)}",
                hint=f"possible: {one_of(hints) or 'none'}",
                where=place,
            )
        fits, fitted[argument] = _fit(value, hints[argument])
        if not fits:
            raise ConfigError(
                f"{kind} {name}: {argument} = {shown(value)} does not fit; "
                f"possible: {_words(hints[argument])}",
                where=place,
            )
    needed = [needs for part in parts for needs in _required(part) if needs in hints]
    if absent := [needs for needs in needed if needs not in {*fitted, *optional}]:
        raise ConfigError(
            f"{kind} {name} needs {one_of(absent)}",
            hint=f"write it as {name}: {{{', '.join(f'{each}: ...' for each in absent)}}}",
        )
    return fitted


def _required(part: Callable[..., Any]) -> list[str]:
    """Names of the arguments without a default."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(part).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    """Argument name -> annotation; `Any` for arguments without one."""
    # `get_type_hints` of a class returns its attributes, so the constructor is read instead.
    target: Any = inspect.getattr_static(part, "__init__") if isinstance(part, type) else part
    found = typing.get_type_hints(target, localns=_NAMES)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(part).parameters.values()
    return {p.name: found.get(p.name, Any) for p in parameters if p.kind not in variadic}


def _fit(value: Any, annotation: Any) -> tuple[bool, Any]:
    """As `fit_annotation`, but also accepts `10_000.0` as an int and refuses ints over 64 bits."""
    for candidate in (value, _whole(value)):
        fits, fitting = fit_annotation(candidate, annotation)
        if fits:
            # A checkpoint stores these as JSON, whose integers many readers limit to 64 bits.
            return _is_storable(fitting), fitting
    return False, value


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _is_storable(value: Any) -> bool:
    """Whether every number is finite, and every int fits into 64 bits."""
    if isinstance(value, list | tuple):
        return all(_is_storable(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def _words(annotation: Any) -> str:
    """An annotation in words, without `Tensor`, which a file cannot hold."""
    choices = [part for part in typing.get_args(annotation) if part is not torch.Tensor]
    is_union = torch.Tensor in typing.get_args(annotation) and len(choices) >= 1
    if is_union:
        return " or ".join(annotation_words(part) for part in choices)
    if typing.get_origin(annotation) is tuple:
        return f"({', '.join(_words(part) for part in typing.get_args(annotation))})"
    return annotation_words(annotation)

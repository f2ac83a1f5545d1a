"""Arguments that a file gives to an optimiser or a schedule, checked by its signature.

The same rule as for the parts of blocks: names and annotations of the target decide.
"""

from __future__ import annotations

import collections.abc
import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from aelab.arguments import annotation_words, fit_annotation
from aelab.errors import ConfigError, Where, did_you_mean, one_of, shown

#: Names that torch's annotations use without importing them at run time.
_NAMES = {
    "Callable": collections.abc.Callable,
    "Iterable": collections.abc.Iterable,
    "Sequence": collections.abc.Sequence,
    "Optimizer": torch.optim.Optimizer,
}


def checked(
    kind: str,
    name: str,
    parts: Collection[Callable[..., Any]],
    given: Mapping[str, Any],
    withheld: Collection[str],
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """The arguments in the form that is meant: lists as tuples, `1e4` as a whole number.

    Args:
        kind: `optimizer` or `scheduler`, for messages.
        name: as the file has it.
        parts: whose signatures together say what is possible.
        given: from the file.
        withheld: arguments that are no business of a file.
        optional: those that a file may leave out, whatever the signature says.

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
    """The arguments that have no value unless one is given."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(part).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    """Argument -> annotation, `Any` where there is none."""
    target: Any = inspect.getattr_static(part, "__init__") if isinstance(part, type) else part
    found = typing.get_type_hints(target, localns=_NAMES)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(part).parameters.values()
    return {p.name: found.get(p.name, Any) for p in parameters if p.kind not in variadic}


def _fit(value: Any, annotation: Any) -> tuple[bool, Any]:
    """As `arguments.fit`; `10_000.0` is a whole number too, and one of 400 digits is none."""
    for candidate in (value, _whole(value)):
        fits, fitting = fit_annotation(candidate, annotation)
        if fits:
            return _is_storable(fitting), fitting
    return False, value


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _is_storable(value: Any) -> bool:
    """Whether numbers are finite and, if whole, of no more than 64 bits."""
    if isinstance(value, list | tuple):
        return all(_is_storable(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def _words(annotation: Any) -> str:
    """An annotation in words, without the tensors that no file can hold."""
    choices = [part for part in typing.get_args(annotation) if part is not torch.Tensor]
    is_union = torch.Tensor in typing.get_args(annotation) and len(choices) >= 1
    if is_union:
        return " or ".join(annotation_words(part) for part in choices)
    if typing.get_origin(annotation) is tuple:
        return f"({', '.join(_words(part) for part in typing.get_args(annotation))})"
    return annotation_words(annotation)

"""Checks whether a value fits an annotation, and describes annotations in words.

Only plain types are checked: numbers, booleans, text, choices, sequences, mappings, classes. Other
annotations accept every value; the part itself then raises for wrong ones.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from typing import Any

_SEQUENCES = (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    type(None): "None",
}


def fit_annotation(value: Any, annotation: Any) -> tuple[bool, Any]:
    """Returns (whether `value` fits `annotation`, `value` converted to it).

    A list becomes a tuple if the annotation is a tuple; a boolean is not a number.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or annotation is object:
        return True, value
    if origin is typing.Annotated:
        return fit_annotation(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return _fit_one_of(value, inner)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner), value
    if annotation is None or annotation is type(None):
        return value is None, value
    if annotation in (int, float, bool, str):
        return _fits_scalar(value, annotation), value
    if origin is tuple or annotation is tuple:
        return _fit_tuple(value, inner)
    if origin is list or origin in _SEQUENCES:
        return _fit_sequence(value, inner, origin)
    if origin in _MAPPINGS or annotation in _MAPPINGS:
        return isinstance(value, collections.abc.Mapping), value
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return callable(value), value
    if origin is type:
        return isinstance(value, type), value
    if isinstance(annotation, type) and not _is_protocol(annotation):
        return isinstance(value, annotation), value
    return True, value


def annotation_words(annotation: Any) -> str:
    """An annotation in words for messages: `a whole number or None`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return annotation_words(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(annotation_words(part) for part in inner))
    if origin is typing.Literal:
        return ", ".join(repr(choice) for choice in inner)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return f"({', '.join(annotation_words(part) for part in inner)})"
    if origin in (tuple, list) or origin in _SEQUENCES:
        return f"a sequence, each {annotation_words(inner[0])}" if inner else "a sequence"
    if origin is collections.abc.Callable:
        return "a function"
    if origin is type:
        return f"the class {getattr(inner[0], '__name__', inner[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _fits_scalar(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _fit_one_of(value: Any, choices: tuple[Any, ...]) -> tuple[bool, Any]:
    for choice in choices:
        fits, fitting = fit_annotation(value, choice)
        if fits:
            return True, fitting
    return False, value


def _fit_tuple(value: Any, inner: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    if inner and inner[-1] is not Ellipsis and len(inner) != len(value):
        return False, value
    kinds = [inner[0]] * len(value) if inner and inner[-1] is Ellipsis else list(inner)
    fitted = [fit_annotation(item, kind) for item, kind in zip(value, kinds, strict=False)]
    if not all(fits for fits, _ in fitted):
        return False, value
    return True, tuple(item for _, item in fitted) if inner else tuple(value)


def _fit_sequence(value: Any, inner: tuple[Any, ...], origin: Any) -> tuple[bool, Any]:
    if isinstance(value, str | bytes):
        return False, value
    if not isinstance(value, list | tuple):
        return isinstance(value, origin), value
    return all(fit_annotation(item, inner[0])[0] for item in value) if inner else True, value


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))

"""Run-time guards of restricted code: attributes, items, loops and writes are denied by default.

One table decides: exact type -> allowed operations. Besides attribute names a row may hold

    "for"              it may be iterated over
    "[]"               it may be indexed
    "[] ="             its items may be set or deleted
    "with"             it may be used in `with`
    "requires_grad ="  that attribute may be set
"""

from __future__ import annotations

import builtins
import importlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType, MappingProxyType
from typing import Any

from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence

from aelab.config.policy import TRUST_HINT, WRITABLE_ATTRIBUTE
from aelab.errors import RefusedError, did_you_mean, or_possible

AttributeTable = Mapping[type, frozenset[str]]


class FrozenModule:
    """A list of names that looks like a module: `math.prod` works, `math.__loader__` does not.

    Args:
        name: its name in messages.
        members: names and values it offers.
    """

    __slots__ = ("_members", "_name")

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        self._name = name
        self._members = MappingProxyType(dict(members))

    def __repr__(self) -> str:
        return f"<{self._name}: {len(self._members)} names>"

    def with_members(self, **members: Any) -> FrozenModule:
        """A copy with more names."""
        return FrozenModule(self._name, {**self._members, **members})

    def map(self, change: Callable[[Any], Any]) -> FrozenModule:
        """A copy with `change` applied to each value, at the first use of its name."""
        copy = FrozenModule(self._name, {})
        copy._members = MappingProxyType(_Changed(self._members, change))
        return copy

    def __getattr__(self, name: str) -> Any:
        # Only reached under --trust: restricted code never performs a real attribute access.
        try:
            return members_of(self)[name]
        except KeyError:
            package = self._name.partition(".")[0]
            raise AttributeError(
                f"{self._name}.{name} is not offered; with the package {package} installed, "
                "--trust gives the real one"
            ) from None


class _Changed(Mapping[str, Any]):
    """A mapping with a change of each value, made once. Each run uses few of hundreds of names."""

    def __init__(self, members: Mapping[str, Any], change: Callable[[Any], Any]) -> None:
        self._members, self._change = members, change
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._change(self._members[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def members_of(module: FrozenModule) -> Mapping[str, Any]:
    """Name -> value, read-only."""
    members: Mapping[str, Any] = object.__getattribute__(module, "_members")
    return members


def frozen_module_name(module: FrozenModule) -> str:
    """The module's name in messages."""
    return str(object.__getattribute__(module, "_name"))


class PartNames:
    """The value of `globals()` in a block: parts by name, `globals()["mnist_dataset"]`.

    It has the parts alone, which a block may use anyway; neither variables, so that a use of a
    matrix value still shows in the text, nor anything of the evaluation itself.

    Args:
        parts: name -> part.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = MappingProxyType(dict(parts))

    def __getitem__(self, name: object) -> Any:
        parts: Mapping[str, Any] = object.__getattribute__(self, "_parts")
        if type(name) is not str or name not in parts:
            raise RefusedError(
                f"globals() has no part {name!r}{did_you_mean(str(name), parts)}",
                hint="it has the parts of the catalogue, not your own names",
            )
        return parts[name]


def real_module(item: Any) -> Any:
    """The real module behind a frozen one, if it is installed; for --trust only."""
    if type(item) is not FrozenModule:
        return item
    try:
        return importlib.import_module(frozen_module_name(item))
    except Exception:  # torchvision beside another build of torch raises RuntimeError
        return item


def refuse(message: str) -> RefusedError:
    """The error for anything that needs --trust."""
    return RefusedError(message, hint=TRUST_HINT)


def guards(attributes: AttributeTable) -> dict[str, Any]:
    """The functions that RestrictedPython's rewritten code calls, for one attribute table."""

    def allowed(value: object, right: str) -> bool:
        """Whether the table allows this operation for this exact type."""
        return right in attributes.get(type(value), ())

    def get_attribute(value: Any, name: str) -> Any:
        """`value.name`, if the table allows it."""
        if type(value) is FrozenModule:
            return member(value, name)
        if name.startswith("_") or not allowed(value, name):
            raise refuse(_no_attribute(value, name, attributes.get(type(value), frozenset())))
        return getattr(value, name)

    def get_item(value: Any, index: Any) -> Any:
        """`value[index]`, if the table allows indexing for this type."""
        if not allowed(value, "[]"):
            raise refuse(f"a block cannot index a {kind(value)}")
        return value[index]

    def iterate(value: Any) -> Iterator[Any]:
        """The iterator of a `for` over `value`, if the table allows it for this type."""
        if not allowed(value, "for"):
            raise refuse(f"a block cannot iterate over a {kind(value)}")
        return iter(value)

    def enter(value: Any) -> Any:
        """`value` for a `with`, if the table allows it for this type."""
        if not allowed(value, "with"):
            raise refuse(f"a block cannot use 'with' on a {kind(value)}")
        return value

    def write(value: Any) -> Any:
        """The target of an assignment inside `value`: itself or a switch; else raises."""
        if allowed(value, "[] ="):
            return value if type(value) in (list, dict) else _refused_write(value)
        if allowed(value, f"{WRITABLE_ATTRIBUTE} ="):
            return _GradientSwitch(value)
        return _refused_write(value)

    return {
        "_getattr_": get_attribute,
        "_getitem_": get_item,
        "_getiter_": iterate,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_unpack_sequence,
        "_write_": write,
        "_inplacevar_": in_place,
        "_apply_": call_function,
        "_context_": enter,
    }


def member(module: FrozenModule, name: str) -> Any:
    """`module.name`, or an error that lists the names it offers."""
    members = members_of(module)
    if name not in members:
        title = frozen_module_name(module)
        raise refuse(f"'{title}.{name}' is not offered{or_possible(name, sorted(members))}")
    return members[name]


def kind(value: object) -> str:
    """The name of a value's type in messages."""
    return type(value).__name__


def in_place(sign: str, left: Any, right: Any) -> Any:
    """Computes `left += right` as `left + right`, so that shared objects are not changed."""
    return _OPERATORS[sign](left, right)


def call_function(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`f(*args, **kwargs)`; everything that can be accessed may be called."""
    return function(*args, **kwargs)


class _GradientSwitch:
    """A stand-in for a parameter on the left of `parameter.requires_grad = ...`."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != WRITABLE_ATTRIBUTE or not isinstance(value, bool):
            raise refuse(f"a block cannot set '.{name}'; possible: .requires_grad = True or False")
        setattr(object.__getattribute__(self, "_target"), name, value)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise refuse("a block cannot set items of a tensor")

    def __delitem__(self, index: Any) -> None:
        raise refuse("a block cannot delete items of a tensor")


def _refused_write(value: object) -> Any:
    raise refuse(f"a block cannot change a {kind(value)}; possible: lists and dictionaries")


def _no_attribute(value: object, name: str, row: frozenset[str]) -> str:
    possible = sorted(
        right for right in row if right.isidentifier() and right not in ("for", "with")
    )
    offers = or_possible(name, possible) if possible else ""
    return f"a block cannot reach '.{name}' of a {kind(value)}{offers}"


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.add,
    "-=": operator.sub,
    "*=": operator.mul,
    "/=": operator.truediv,
    "%=": operator.mod,
    "**=": operator.pow,
    "<<=": operator.lshift,
    ">>=": operator.rshift,
    "|=": operator.or_,
    "^=": operator.xor,
    "&=": operator.and_,
    "//=": operator.floordiv,
    "@=": operator.matmul,
}


def _own(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a built-in function, which would expose its module as `__self__`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        """Calls the built-in function."""
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = function.__name__
    return call


_CLASSES = (
    "bool dict enumerate filter float frozenset int list map range reversed set str tuple zip"
).split()
_FUNCTIONS = "abs all any divmod isinstance len max min pow round sorted sum".split()
_MATH = (
    "ceil comb copysign cos degrees exp fabs factorial floor fmod gcd hypot isclose isfinite isinf "
    "isnan isqrt lcm log log10 log1p log2 perm pow prod radians sin sqrt tan tanh trunc"
).split()

#: `math` as blocks see it.
MATH = FrozenModule(
    "math",
    {
        **{name: _own(getattr(math, name)) for name in _MATH},
        **{name: getattr(math, name) for name in ("e", "inf", "nan", "pi", "tau")},
    },
)

#: Names that every block and filter may use, without the catalogue.
CORE_NAMES: Mapping[str, Any] = MappingProxyType(
    {
        **{name: getattr(builtins, name) for name in _CLASSES},
        **{name: _own(getattr(builtins, name)) for name in _FUNCTIONS},
        "math": MATH,
    }
)

_ITERATORS: tuple[type, ...] = (
    enumerate, zip, map, filter, reversed, GeneratorType, set, frozenset,
    type({}.keys()), type({}.values()), type({}.items()),
    type(iter([])), type(iter(())), type(reversed([])), type(iter(range(0))),
)  # fmt: skip

#: Allowed operations on Python's own types. No `format`, no `encode`, nothing with an underscore.
CORE_ATTRIBUTES: AttributeTable = MappingProxyType(
    {
        str: frozenset(
            "[] for count endswith find index isalnum isalpha isdigit join lower lstrip replace "
            "rsplit rstrip split splitlines startswith strip title upper zfill".split()
        ),
        list: frozenset(
            {"[] =", *"[] for append copy count extend index insert pop reverse sort".split()}
        ),
        dict: frozenset(
            {"[] =", *"[] for copy get items keys pop setdefault update values".split()}
        ),
        tuple: frozenset("[] for count index".split()),
        range: frozenset("[] for".split()),
        float: frozenset(["is_integer"]),
        **{iterator: frozenset(["for"]) for iterator in _ITERATORS},
        PartNames: frozenset(["[]"]),
        set: frozenset("for add copy difference discard intersection union update".split()),
    }
)

"""A part: a class or function that is called with checked arguments.

The signature is the schema: names, defaults and annotations of the target define valid arguments.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from aelab import roots
from aelab.arguments import annotation_words, fit_annotation
from aelab.errors import AelabError, ConfigError, Where, did_you_mean, or_possible, shown

if TYPE_CHECKING:
    from aelab.catalogue.calls import CallLog
    from aelab.roots import Roots

T = TypeVar("T")

#: Arguments that blocks may not give: they choose devices or write into memory of others.
_WITHHELD = {
    "device": "leave it out: a loss is on the device of its images",
    "out": "leave it out, and use the result",
    "pin_memory": "leave it out",
    "layout": "leave it out",
}


class Part:
    """A callable with a name. Blocks can only call it or pass it as an argument.

    Args:
        name: its name in messages and the call log, for instance `nn.Linear`.
        target: class or function.
        log: records the call with all its arguments.
        reading: the folders that its calls may read at any time: a block may keep the part in a
            function that runs long after the block. Passed as an argument, such a part is not
            unwrapped.
    """

    def __init__(
        self,
        name: str,
        target: Callable[..., Any],
        log: CallLog | None = None,
        reading: Roots | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.log = log
        self.reading = reading

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        handed_on = [value for value in (*args, *kwargs.values()) if isinstance(value, Part)]
        args = tuple(unwrapped(value) for value in args)
        kwargs = {key: unwrapped(value) for key, value in kwargs.items()}
        if self.signature is None:
            self.refuse_withheld(kwargs)
            bound = {**{str(n): value for n, value in enumerate(args)}, **kwargs}
            entry = self.enter(bound, list(bound))
        else:
            arguments = self.bind(args, kwargs)
            given = list(arguments.arguments)
            arguments.apply_defaults()
            entry = self.enter(arguments.arguments, given)
            args, kwargs = arguments.args, arguments.kwargs
        try:
            result = self.call_target(args, kwargs)
        except AelabError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            raise ConfigError(f"{self.name}: {error}") from error
        if entry is not None and self.log is not None:
            self.log.leave(entry, result)
        # A part that returns one of its arguments must not return the bare class or function.
        return next((part for part in handed_on if part.target is result), result)

    def call_target(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the target, under the roots of this part if it has any."""
        if self.reading is None:
            return self.target(*args, **kwargs)

        with roots.entering(self.reading):
            return self.target(*args, **kwargs)

    def enter(self, arguments: dict[str, Any], given: list[str]) -> int | None:
        """Records the call in the log, which may replace arguments that the text left out."""
        return None if self.log is None else self.log.enter(self.name, arguments, given)

    # The three below are for plain Python (--trust); restricted code cannot reach them.

    def __getattr__(self, name: str) -> Any:
        if name in ("target", "name", "log", "reading"):
            raise AttributeError(name)
        return getattr(self.target, name)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(self.target, type) and isinstance(value, self.target)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.target,)

    @property
    def signature(self) -> inspect.Signature | None:
        """The target's signature without withheld arguments; None if it has none (built-ins)."""
        return _remembered(_signature, self.target)

    @property
    def hints(self) -> Mapping[str, Any]:
        """Argument -> annotation; empty if annotations cannot be resolved."""
        return _remembered(_hints, self.target)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """Binds the call's arguments by name, checks them and converts them to their annotations.

        Raises:
            ConfigError: an unknown, missing, superfluous or invalid argument.
        """
        assert self.signature is not None
        self.check_names(kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigError(f"{self.name}: {error}; it takes {self.usage()}") from None
        kinds = {name: p.kind for name, p in self.signature.parameters.items()}
        for name, value in bound.arguments.items():
            many = kinds[name] in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if name in self.hints and not many:
                bound.arguments[name] = self.fitted(name, value)
        return bound

    def check_names(self, kwargs: Mapping[str, Any]) -> None:
        """Raise ConfigError, with the most similar name, for an unknown keyword."""
        self.refuse_withheld(kwargs)
        assert self.signature is not None
        parameters = self.signature.parameters.values()
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            return
        possible = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
        for name in kwargs:
            if name not in possible:
                listed = or_possible(name, possible) if possible else "; it takes none by name"
                raise ConfigError(f"{self.name}: no argument '{name}'{listed}")

    def refuse_withheld(self, kwargs: Mapping[str, Any]) -> None:
        """Raise ConfigError for a keyword that blocks may not give."""
        for name in kwargs:
            if name in _WITHHELD:
                raise ConfigError(
                    f"{self.name}: '{name}' cannot be given in a block", hint=_WITHHELD[name]
                )

    def fitted(self, name: str, value: Any) -> Any:
        """Converts `value` for the argument `name`: lists become tuples if tuples are expected."""
        annotation = self.hints[name]
        ok, fitting = fit_annotation(value, annotation)
        if not ok:
            possible = annotation_words(annotation)
            near = did_you_mean(value, _choices(annotation)) if isinstance(value, str) else ""
            raise ConfigError(
                f"{self.name}: {name} = {shown(value)} does not fit; possible: {possible}{near}"
            )
        return fitting

    def usage(self) -> str:
        """The arguments as text: `shape, code_size, kernel_size=3`."""
        assert self.signature is not None
        return ", ".join(
            p.name if p.default is p.empty else f"{p.name}={_shown(p.default)}"
            for p in self.signature.parameters.values()
        )


class OpenPart(Part):
    """A part whose class offers values and functions by name in blocks: `OmegaConf.merge`.

    The class lists them in its attribute `block_names`. Every such class has a kind of its own
    (`kind_of`), because rights are given to exact types.
    """

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name in self.target.block_names and callable(value):  # type: ignore[attr-defined]
            return Part(f"{self.name}.{name}", value, self.log, self.reading)
        return value


def kind_of(target: Any) -> type[Part]:
    """The kind of the part of a class or function: `Part`, or the `OpenPart` of this class."""
    return _open_kind(target) if names_offered_by(target) else Part


def names_offered_by(target: Any) -> frozenset[str]:
    """The names that a class offers in blocks without being called."""
    return (
        frozenset(getattr(target, "block_names", ())) if isinstance(target, type) else frozenset()
    )


@lru_cache(maxsize=256)
def _open_kind(target: type) -> type[OpenPart]:
    return type(f"{target.__name__}Part", (OpenPart,), {})


def _remembered(look: Callable[[Any], T], target: Any) -> T:
    """`look(target)`, which is asked once of each: every run of a matrix makes its own parts."""
    try:
        return look(target)
    except TypeError:  # not hashable
        found: T = look.__wrapped__(target)  # type: ignore[attr-defined]
        return found


@lru_cache(maxsize=4096)
def _signature(target: Any) -> inspect.Signature | None:
    try:
        full = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    kept: list[inspect.Parameter] = []
    withheld = False
    for parameter in full.parameters.values():
        if parameter.name in _WITHHELD:
            withheld = True
        elif withheld and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            # By position it would take the place of the withheld argument.
            kept.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            kept.append(parameter)
    return full.replace(parameters=kept)


@lru_cache(maxsize=4096)
def _hints(target: Any) -> Mapping[str, Any]:
    if isinstance(target, type):
        target = inspect.getattr_static(target, "__init__")
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}


def unwrapped(value: Any) -> Any:
    """Replaces parts passed as arguments by the class or function itself (`act_fn=nn.GELU`).

    Parts that read files stay parts, so that later calls are still restricted to their roots.
    """
    if isinstance(value, Part):
        return value.target if value.reading is None else value
    if type(value) in (list, tuple):
        return type(value)(unwrapped(item) for item in value)
    if type(value) is dict:
        return {key: unwrapped(item) for key, item in value.items()}
    return value


def refuse_uncalled(value: Any, where: Where) -> None:
    """Raises if a part itself is given where the result of calling it is expected.

    Raises:
        ConfigError: `value` is a part that was not called.
    """
    if isinstance(value, Part):
        raise ConfigError(
            f"'{value.name}' is not called, so nothing is made of it",
            where=where,
            hint=f"write it with brackets: {value.name}(...)",
        )


def _shown(default: Any) -> str:
    return default.__name__ if isinstance(default, type) else repr(default)


def _choices(annotation: Any) -> list[str]:
    """The texts listed in an annotation (`Literal`)."""
    if typing.get_origin(annotation) is typing.Literal:
        return [text for text in typing.get_args(annotation) if isinstance(text, str)]
    return [text for inner in typing.get_args(annotation) for text in _choices(inner)]

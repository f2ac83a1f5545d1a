"""Blocks: small pieces of Python in a YAML file, whose last expression is their value.

text -> syntax tree with the file's line numbers -> imports resolved -> `{...}[constant]` reduced
     -> checked and rewritten (policy) -> run among guarded names -> value
"""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

from aelab.config.canonical import canonical, names_in
from aelab.config.connection import failed_download
from aelab.config.guards import (
    CORE_ATTRIBUTES,
    CORE_NAMES,
    AttributeTable,
    PartNames,
    guards,
    real_module,
)
from aelab.config.imports import resolve_imports
from aelab.config.old_programs import old_packages
from aelab.config.policy import TRUST_HINT, compile_body, compile_value, refusals
from aelab.config.project import activate, find_root
from aelab.errors import (
    AelabError,
    ConfigError,
    Mistakes,
    Problems,
    RefusedError,
    Where,
    did_you_mean,
    in_words,
    or_possible,
)
from aelab.parts import reinstall

if TYPE_CHECKING:
    from aelab.config.experiment import RunSpec

#: Names that were in scope in old files, and that need --trust here.
OLD_NAMESPACE = frozenset(
    "json os re random itertools secrets shutil sys ast Path np numpy yaml tqdm pd pandas "
    "transformers torchaudio subprocess pickle io importlib inspect types gc".split()
)


_RETURN_HINT = "the last line of a block is its value: write it without return"
#: Python's message for a common mistake -> a hint what to write instead.
_SYNTAX_HINTS: dict[str, str] = {
    "'return' outside function": _RETURN_HINT,
}


#: Import name -> name of the published package, where the two differ.
_PUBLISHED_AS = {
    "PIL": "pillow",
    "attr": "attrs",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Block:
    """A piece of Python in a file.

    Attributes:
        text: the text after substitution.
        where: file, line and column of the first line of text, and the key.
    """

    text: str
    where: Where = Where()  # noqa: RUF009  (frozen)


@dataclass(frozen=True)
class ParsedBlock:
    """A block as a syntax tree, before restriction.

    Attributes:
        body: all statements but the last.
        value: the last expression.
        roots: under trust, the folders in which its imports are searched.
        partly: old modules it imports with `*`, of which aelab offers only a part.
    """

    body: list[ast.stmt]
    value: ast.expr
    roots: tuple[Path, ...] = ()
    partly: tuple[str, ...] = ()

    @cached_property
    def canonical(self) -> list[Any]:
        """The block as nested lists, independent of spacing, comments and Python's version."""
        body = [canonical(node) for node in self.body if not isinstance(node, ast.Pass)]
        return [*body, canonical(self.value)]

    @cached_property
    def names(self) -> frozenset[str]:
        """All names in the block."""
        return names_in((*self.body, self.value))


@dataclass(frozen=True)
class _Program:
    """A block as code: `ParsedBlock`, compiled."""

    body: CodeType
    value: CodeType
    roots: tuple[Path, ...]
    partly: tuple[str, ...]


@dataclass
class Scope:
    """The names shared by the blocks of one run; discarded after the run.

    Args:
        names: the catalogue: name -> part.
        attributes: exact type -> the allowed operations (see `guards`).
        variables: typed matrix values by name.
        trust: run blocks as plain Python.
        folder: the file's folder; under trust, imports are searched here and above.
        places: where each variable was defined, for messages.

    Raises:
        ConfigError: a variable has the name of a part.
    """

    names: Mapping[str, Any]
    attributes: AttributeTable = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    folder: Path | None = None
    places: Mapping[str, Where] = field(default_factory=dict)
    extra_values: dict[str, Any] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    namespace: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        parts = {**CORE_NAMES, **self.names}
        for name in self.variables:
            if name in self.names and name not in CORE_NAMES:
                message = f"the matrix key '{name}' already names a part of the catalogue"
                hint = f"rename it, for instance to 'the_{name}'"
                raise ConfigError(message, where=self.places.get(name), hint=hint)
        variables = {k: v for k, v in self.variables.items() if k not in CORE_NAMES}
        self.namespace = {**parts, **variables, "EXTRA_VALUES": self.extra_values}
        if self.trust:
            self.namespace = {name: real_module(item) for name, item in self.namespace.items()}
            self.namespace["__builtins__"] = builtins
            self.namespace["print"] = _print_aside
        else:
            self.namespace |= guards({**CORE_ATTRIBUTES, **self.attributes})
            self.namespace |= {"__builtins__": {"__import__": _loaded}, "print": self.print}
            named = PartNames(parts)
            self.namespace["globals"] = lambda: named
        self.namespace["__name__"] = "aelab_block"

    def define(self, name: str, value: Any) -> None:
        """Define a name for later blocks; names with an underscore belong to the guards."""
        if name.startswith("_"):
            raise RefusedError(f"a block cannot define '{name}' (it begins with an underscore)")
        self.namespace[name] = value

    def print(self, *values: object) -> None:
        """`print` of a block: keeps the line in `printed`."""
        self.printed.append(" ".join(map(str, values)))


def _loaded(name: str, *context: object) -> None:
    """The import function for C code that a block calls: allows only modules already loaded.

    Under a dispatch mode torch's C code imports `torch` by the builtins of the Python function that
    is running, and takes the module from `sys.modules` itself. Blocks cannot name this.
    """
    if name not in sys.modules:
        raise ImportError(f"a block cannot import {name!r}", name=name)


def _print_aside(*values: object, **options: Any) -> None:
    """`print` of a trusted block, to standard error: standard output holds the verb's answer."""
    builtins.print(*values, **{"file": sys.stderr, **options})


def inspect_block(
    block: Block,
    variables: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
    folder: Path | None = None,
) -> tuple[list[ConfigError], ParsedBlock | None]:
    """The syntax tree of a block, with imports resolved and dictionaries of choices reduced.

    Runs of a matrix share most blocks, so a sound block is inspected once (see `_key`).

    Args:
        block: the text and its place.
        variables: typed matrix values, which select in `{...}[name]`.
        trust: refuse nothing.
        folder: the file's folder; under trust, modules of its project stay real imports.

    Returns:
        All errors: the text is no Python, it has no value, or it uses something that needs --trust
        (a `RefusedError`); and the tree, which must not be changed, or None.
    """
    key = None if trust else _key(block, variables or {}, folder)
    if key is not None and key in _INSPECTED:
        return [], _INSPECTED[key]
    try:
        errors, parsed = _inspect(block, variables or {}, trust=trust, folder=folder)
        if key is not None and parsed is not None and not errors:
            _keep(_INSPECTED, key, parsed)
        return errors, parsed
    except ConfigError as error:
        return [error], None
    except RecursionError:
        return [ConfigError("nested too deeply", where=block.where)], None


#: Sound blocks by `_key`; nobody may change their trees. And the same as code, for `_evaluated`.
_INSPECTED: dict[Hashable, ParsedBlock] = {}
_PROGRAMS: dict[Hashable, _Program] = {}
#: Limit of each, for processes that read files without end.
_MOST_KEPT = 4096


def _keep(kept: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = value


def _key(block: Block, variables: Mapping[str, Any], folder: Path | None) -> Hashable | None:
    """All that the syntax tree of a restricted block depends on; None if it has no such key.

    Of the variables only those count that choose in `{...}[name]`, or have a name of Python's.
    They are compared as the keys of a dictionary are, so 1 and True are equal here.
    """
    try:
        choosing = _names_in_brackets(block)
        chosen = {k: v for k, v in variables.items() if choosing is None or k in choosing}
        key = (block, folder, tuple(chosen.items()), frozenset(variables.keys() & CORE_NAMES))
        hash(key)
        return key
    except (ConfigError, RecursionError, TypeError):  # not Python; or a variable that is a list
        return None


@lru_cache(maxsize=_MOST_KEPT)
def _names_in_brackets(block: Block) -> frozenset[str] | None:
    """The names inside of `[...]`; None for any, since an import may rename a variable."""
    nodes = list(ast.walk(_syntax_tree(block)))
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
        return None
    inside = [n for node in nodes if isinstance(node, ast.Subscript) for n in ast.walk(node.slice)]
    return frozenset(node.id for node in inside if isinstance(node, ast.Name))


def _inspect(
    block: Block, variables: Mapping[str, Any], *, trust: bool, folder: Path | None
) -> tuple[list[ConfigError], ParsedBlock | None]:
    tree = _syntax_tree(block)
    imports = resolve_imports(tree, block.where, trust=trust, folder=folder)
    tree = imports.tree
    errors: list[ConfigError] = list(imports.refused)
    if not trust:
        tree = _WithoutTypes().visit(tree)
    chooser = _Choices(variables, tree, block.where)
    tree = chooser.visit(tree)
    errors += [*chooser.errors, *_taken_for_builtins(tree, variables, block.where)]
    if not trust:
        errors += refusals(tree, block.where)
    try:
        statements, value = _split_value(tree.body, block.where)
        if not errors:
            _refuse_what_python_refuses(statements, value, block.where)
    except ConfigError as error:
        return errors or [error], None
    return errors, ParsedBlock(statements, value, imports.roots, imports.partly)


def _refuse_what_python_refuses(body: list[ast.stmt], value: ast.expr, where: Where) -> None:
    """Raise for code that parses but does not compile: `return` outside a function, `f(x=1, x=2)`.

    Raises:
        ConfigError: with the place that Python reports.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            compile(ast.Module(body=body, type_ignores=[]), str(where.file), "exec")
            compile(ast.Expression(body=value), str(where.file), "eval")
        except SyntaxError as error:
            place = where.at(line=error.lineno or where.line, column=error.offset or where.column)
            raise ConfigError(
                f"this is not Python: {error.msg}", where=place, hint=_SYNTAX_HINTS.get(error.msg)
            ) from None
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            message = f"this is not Python: {in_words(error)}"
            raise ConfigError(message, where=where) from None


def evaluate_block(block: Block, scope: Scope) -> Any:
    """The value of a block; its assignments stay in the scope for later blocks of the run.

    Raises:
        RefusedError: the block uses something that needs --trust.
        ConfigError: any other failure, with file, line, column and key.
        AelabError: errors of the parts themselves, with the place added.
        Problems: several of them at once.
    """
    try:
        return _evaluated(block, scope)
    except ConfigError as error:
        others = [e for e in _plain_to_see(block, scope) if not _same_place(e, error)]
        if not others:
            raise
        raise Problems(sorted([error, *others], key=_position)) from error


def _plain_to_see(block: Block, scope: Scope) -> list[ConfigError]:
    """Unknown names and arguments of parts in a whole block, found without running it."""
    errors, parsed = inspect_block(block, scope.variables, trust=scope.trust, folder=scope.folder)
    if parsed is None or scope.trust:
        return []
    # The names of a refused import or class are reported at the import, not at each use.
    refused = _bound_by_statements(_syntax_tree(block)) if errors else frozenset()
    tree = ast.Module(body=[*parsed.body, ast.Expr(parsed.value)], type_ignores=[])
    nodes = list(ast.walk(tree))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)} | refused
    found: list[ConfigError] = []
    for node in nodes:
        match node:
            case ast.Name(id=name) if "*" not in refused and name not in {
                *bound,
                *scope.namespace,
            }:
                place = block.where.at(line=node.lineno, column=node.col_offset + 1)
                found.append(_no_such_name(name, scope, place, parsed.partly))
            case ast.Call(func=ast.Name(id=name)) if name not in bound:
                found += _wrong_arguments(scope.namespace.get(name), node, block.where)
    return found


def _bound_by_statements(tree: ast.Module) -> frozenset[str]:
    """The names bound by imports, classes, handlers and patterns; `*` for an import of all."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found |= {alias.asname or alias.name.split(".")[0] for alias in aliases}
            case ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name for alias in aliases}
            case ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.add(name)
    return frozenset(found)


def _wrong_arguments(part: Any, call: ast.Call, where: Where) -> list[ConfigError]:
    """Errors for arguments that the called part of the catalogue does not have."""
    found = []
    for keyword in call.keywords:
        if keyword.arg is None or getattr(part, "signature", None) is None:
            continue
        try:
            part.check_names({keyword.arg: None})
        except ConfigError as error:
            error.where = where.at(line=call.lineno, column=call.col_offset + 1)
            found.append(error)
    return found


def _same_place(one: AelabError, other: AelabError) -> bool:
    """Whether two errors have the same place or the same message."""
    return _position(one) == _position(other) or one.message == other.message


def _position(error: AelabError) -> tuple[int, int]:
    where = error.where or Where()
    return where.line or 0, where.column or 0


def _evaluated(block: Block, scope: Scope) -> Any:
    """The value of a block; raises only the first of several mistakes."""
    program = _program(block, scope)
    if scope.trust:
        activate(program.roots, scope.folder)
    context = _importable(scope.folder) if scope.trust and scope.folder else nullcontext()
    try:
        with context:
            exec(program.body, scope.namespace)
            return eval(program.value, scope.namespace)
    except AelabError as error:
        if error.where is None or error.where.line is None:
            error.where = failing_place(error.__traceback__, block.where)
        raise
    except NameError as error:
        raise _unknown_name(error, scope, block, program.partly) from None
    except ImportError as error:
        place = failing_place(error.__traceback__, block.where)
        raise _failed_import(error, place, scope.folder) from error
    except (Exception, SystemExit) as error:
        place = failing_place(error.__traceback__, block.where)
        message, hint = failed_download(error) or (in_words(error), None)
        raise ConfigError(message, where=place, hint=hint) from error


def evaluate_blocks(
    run: RunSpec,
    scope: Scope,
    entering: Callable[[str], AbstractContextManager[Any]] = lambda key: nullcontext(),
) -> dict[str, Any]:
    """Evaluates all blocks of a run in order; `globals` become names of the scope.

    Args:
        run: the run.
        scope: the names for its blocks.
        entering: key -> context manager around the evaluation of that block; not for globals.

    Returns:
        key -> value, for `model`, `train_set`, ...

    Raises:
        AelabError: a block failed; several as `Problems`. A wrong global is raised at once.
    """
    values, mistakes = {}, Mistakes()
    for key, block in run.blocks.items():
        if key.startswith("globals."):
            scope.define(key.removeprefix("globals."), evaluate_block(block, scope))
            continue
        with mistakes.collected(), entering(key):
            values[key] = evaluate_block(block, scope)
    mistakes.tell()
    return values


def _syntax_tree(block: Block) -> ast.Module:
    text = block.text if "\n" in block.text.strip() else block.text.strip(" ")
    first, indent = (block.where.line or 1) - 1, (block.where.column or 1) - 1
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        line = first + (error.lineno or 1)
        place = block.where.at(line=line, column=indent + (error.offset or 1))
        shown = (error.text or "").strip()
        raise ConfigError(f"this is not Python: {error.msg}: {shown}", where=place) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"this is not Python: {error}", where=block.where) from None
    shift = {"lineno": first, "end_lineno": first, "col_offset": indent, "end_col_offset": indent}
    for node in ast.walk(tree):
        for name, amount in shift.items():
            if hasattr(node, name):
                setattr(node, name, getattr(node, name) + amount)
    return tree


class _WithoutTypes(ast.NodeTransformer):
    """Makes `x: T = y` to `x = y`: the type has no effect, and is never evaluated."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """The assignment alone; without a value, or to an attribute, it stays, and is refused."""
        if node.value is None or not isinstance(node.target, ast.Name):
            return node
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


class _Choices(ast.NodeTransformer):
    """Reduces `{"a": x, "b": y}["a"]` to `x`, so that `y` is not built and not in the identity."""

    def __init__(self, variables: Mapping[str, Any], tree: ast.AST, where: Where) -> None:
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        rebound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        self.variables = {k: v for k, v in variables.items() if k not in rebound}
        self.where = where
        self.errors: list[ConfigError] = []

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """The chosen branch of a literal dictionary; other nodes unchanged."""
        if not isinstance(node.value, ast.Dict) or not isinstance(node.ctx, ast.Load):
            return self.generic_visit(node)
        keys = node.value.keys
        if not all(isinstance(key, ast.Constant) for key in keys):
            return self.generic_visit(node)
        match node.slice:
            case ast.Constant(value=wanted):
                pass
            case ast.Name(id=name) if name in self.variables:
                wanted = self.variables[name]
            case _:
                return self.generic_visit(node)
        branches = {key.value: value for key, value in zip(keys, node.value.values, strict=True)
                    if isinstance(key, ast.Constant)}  # fmt: skip
        try:
            chosen: ast.AST = self.visit(branches[wanted])
            return chosen
        except (KeyError, TypeError):
            self.errors.append(self.missing(node, wanted, list(branches)))
            return node

    def missing(self, node: ast.Subscript, wanted: Any, keys: list[Any]) -> ConfigError:
        """The error for a key that the literal dictionary lacks."""
        names = {str(key): repr(key) for key in keys}
        possible = or_possible(str(wanted), names, form=names.__getitem__)
        place = self.where.at(line=node.slice.lineno, column=node.slice.col_offset + 1)
        return ConfigError(f"no choice {wanted!r}{possible}", where=place)


#: Functions whose arguments may be other functions and classes.
_TAKE_FUNCTIONS = ("isinstance", "map", "filter")


def _taken_for_builtins(
    tree: ast.AST, variables: Mapping[str, Any], where: Where
) -> list[ConfigError]:
    """Errors for matrix keys with a name of Python's, such as `set`, where a value is meant.

    `set(...)` and `map(str, ...)` stay what they are, so a key `set` cannot be that name itself.
    """
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    meant = (variables.keys() & CORE_NAMES.keys()) - own
    if not meant:
        return []
    functions: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            functions.add(node.func)
            functions |= {keyword.value for keyword in node.keywords if keyword.arg == "key"}
            if isinstance(node.func, ast.Name) and node.func.id in _TAKE_FUNCTIONS:
                functions |= {inner for argument in node.args for inner in ast.walk(argument)}
    return [
        ConfigError(
            f"'{name.id}' is Python's own name here, not the matrix key",
            where=where.at(line=name.lineno, column=name.col_offset + 1),
            hint=f"write ${{{name.id}}}, in quotes if it is text, or rename the key",
        )
        for name in names
        if name.id in meant and name not in functions
    ]


def _split_value(body: list[ast.stmt], where: Where) -> tuple[list[ast.stmt], ast.expr]:
    """Splits a block into its statements and its value, the last expression."""
    last = body[-1] if body else None
    if isinstance(last, ast.Expr):
        return body[:-1], last.value
    if isinstance(last, ast.Assign):
        target = last.targets[0]
        if isinstance(target, ast.Name):
            return body, ast.copy_location(ast.Name(target.id, ast.Load()), target)
        return body[:-1], last.value
    if last is None:
        raise ConfigError("is empty; it must end in an expression, which is its value", where=where)
    message = "the last line must be an expression or an assignment: it is the value of the block"
    hint = _RETURN_HINT if isinstance(last, ast.Return) else None
    place = where.at(line=last.lineno, column=last.col_offset + 1)
    raise ConfigError(message, where=place, hint=hint)


def _program(block: Block, scope: Scope) -> _Program:
    """A block as code; a restricted one is compiled once for all runs that share it."""
    key = None if scope.trust else _key(block, scope.variables, scope.folder)
    if key is not None and key in _PROGRAMS:
        return _PROGRAMS[key]
    # Not `inspect_block`: the policy rewrites the tree, so it must not be one that is kept.
    try:
        errors, parsed = _inspect(block, scope.variables, trust=scope.trust, folder=scope.folder)
        if errors:
            raise errors[0]
        assert parsed is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            body, value = _compile(parsed, block.where, trust=scope.trust)
    except RecursionError:
        raise ConfigError("nested too deeply", where=block.where) from None
    program = _Program(body, value, parsed.roots, parsed.partly)
    if key is not None:
        _keep(_PROGRAMS, key, program)
    return program


def _compile(parsed: ParsedBlock, where: Where, *, trust: bool) -> tuple[CodeType, CodeType]:
    if not trust:
        return compile_body(parsed.body, where), compile_value(parsed.value, where)
    body = ast.Module(body=parsed.body, type_ignores=[])
    return (
        compile(body, str(where.file), "exec"),
        compile(ast.Expression(body=parsed.value), str(where.file), "eval"),
    )


def failing_place(trace: TracebackType | None, where: Where) -> Where:
    """The innermost line of the experiment file in a traceback."""
    place = where
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == str(where.file):
            # Instructions have two bytes, so this is the entry of the failing one.
            positions = list(code.co_positions())[trace.tb_lasti // 2]
            column = positions[2]
            place = where.at(line=trace.tb_lineno, column=None if column is None else column + 1)
        trace = trace.tb_next
    return place


def _unknown_name(
    error: NameError, scope: Scope, block: Block, partly: Sequence[str]
) -> ConfigError:
    place = failing_place(error.__traceback__, block.where)
    return _no_such_name(error.name or str(error), scope, place, partly)


def _no_such_name(name: str, scope: Scope, place: Where, partly: Sequence[str]) -> ConfigError:
    if not scope.trust and (hasattr(builtins, name) or name in OLD_NAMESPACE):
        return RefusedError(f"a block cannot use '{name}'", where=place, hint=TRUST_HINT)
    known = [known for known in scope.namespace if not known.startswith("_")]
    near = did_you_mean(name, known)
    if partly:
        near = f"; of {', '.join(partly)}, imported with *, aelab has only a part"
    return ConfigError(
        f"'{name}' is neither a part nor defined before{near}",
        where=place,
        hint=reinstall(name) or None,
    )


def _importer(error: ImportError) -> str:
    """Text `FILE needs `, with the innermost file of a traceback that is not Python's importer."""
    file, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        file = file if name.startswith("<") else name
        trace = trace.tb_next
    return f"{file} needs " if file.endswith(".py") else "needs "


def _failed_import(error: ImportError, where: Where, folder: Path | None) -> ConfigError:
    """The error for a failed import: a package, a module of the project, or a name is missing."""
    name = error.name or ""
    top = name.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError):
        return ConfigError(f"{type(error).__name__}: {error}", where=where)
    if top and find_root(top, folder or Path.cwd()) is None and top not in old_packages():
        name = _PUBLISHED_AS.get(top, top)
        hint = f"if it is a published package: pip install {name}; if your own: set PYTHONPATH"
        message = f"{_importer(error)}the package {top}, which is not installed"
        return ConfigError(message, where=where, hint=hint)
    places = "the file's folder, PYTHONPATH, and the folders above the file"
    message = f"there is no module {name} in {places}"
    return ConfigError(message, where=where, hint="the first folder that has its first name counts")


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Context manager: imports are also searched in `folder`."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

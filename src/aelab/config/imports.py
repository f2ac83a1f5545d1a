"""Resolves imports in blocks: to nothing, a name of the catalogue, or a real module.

Files of another program import from its packages. The parts of those packages that aelab has are
plain names of the catalogue, so such an import needs no module; see `old_programs`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from aelab.config.old_programs import known_names, old_packages, old_programs, whole_modules
from aelab.config.policy import TRUST_HINT
from aelab.config.project import find_root, has_module
from aelab.errors import RefusedError, Where

#: Real packages of which the catalogue offers a frozen list of names.
LIBRARIES = ("torch", "torchvision", "math")


@dataclass(frozen=True)
class Resolved:
    """A block's syntax tree with imports of catalogue names replaced.

    Attributes:
        tree: the tree with imports replaced.
        refused: errors for imports that need --trust.
        roots: under trust, the folders in which the remaining imports are found.
        partly: old modules imported with `*`, of which aelab offers only a part.
    """

    tree: ast.Module
    refused: tuple[RefusedError, ...]
    roots: tuple[Path, ...]
    partly: tuple[str, ...]


def resolve_imports(
    tree: ast.Module, where: Where, *, trust: bool = False, folder: Path | None = None
) -> Resolved:
    """Replace imports in a block, including those in functions, by assignments of catalogue names.

    `from src.models.cnn import *` is removed, `from torch import nn as layers` becomes
    `layers = torch.nn`, `import os` is refused. A name from a module path has the meaning of that
    path (`OldProgram.modules`), never that of another part with the same name. Under trust,
    modules of the file's project are real imports. In a copy of the old program itself, names that
    aelab has still mean aelab's parts.
    """
    beside_old = any(_is_old(node) for node in ast.walk(tree))
    resolver = _Resolver(where, trust=trust, folder=folder, beside_old=beside_old)
    body: list[ast.stmt] = []
    for node in tree.body:
        new = resolver.top_level(node)
        body += new if isinstance(new, list) else [new]
    tree.body = body
    return Resolved(
        tree,
        tuple(resolver.refused),
        tuple(dict.fromkeys(resolver.roots)),
        tuple(resolver.partly),
    )


class _Resolver(ast.NodeTransformer):
    """Replaces imports in a block.

    Args:
        where: the block's place.
        trust, folder: as in `resolve_imports`.
        beside_old: whether the block imports known parts of an old program, too. Then packages it
            used have the meaning that those parts need.
    """

    def __init__(self, where: Where, *, trust: bool, folder: Path | None, beside_old: bool) -> None:
        self.where = where
        self.beside_old = beside_old
        self.trust = trust
        self.folder = folder
        self.refused: list[RefusedError] = []
        self.roots: list[Path] = []
        self.partly: list[str] = []

    def top_level(self, node: ast.stmt) -> ast.stmt | list[ast.stmt]:
        """The statements that replace a top-level statement."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self.replaced(node)
        new: ast.stmt = self.visit(node)
        return new

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """The statements that replace an import inside a function, an `if` or a `try`."""
        return _inside(self.replaced(node), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """As `visit_Import`."""
        return _inside(self.replaced(node), node)

    def replaced(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
        """The statements that replace an import; none if it is refused."""
        new: list[ast.stmt] = []
        for single in _single(node):
            module = single.names[0].name if isinstance(single, ast.Import) else single.module or ""
            if self.is_real(single, module):
                root = find_root(module, self.folder) if self.folder else None
                self.roots += [root] if root else []
                new.append(single)
                continue
            statements = _assignments(single)
            if statements is None:
                self.refused.append(self.refusal(single, module))
                continue
            if single.names[0].name == "*" and module not in whole_modules():
                self.partly.append(module)
            new += [_placed(statement, node) for statement in statements]
        return new

    def is_real(self, node: ast.Import | ast.ImportFrom, module: str) -> bool:
        """Whether this stays a real import of Python."""
        if not self.trust or (isinstance(node, ast.ImportFrom) and node.level):
            return self.trust
        root = module.partition(".")[0]
        if root == "torchvision" and find_spec(root) is None:
            return _assignments(node) is None
        if root not in old_packages() and not self.beside_old:
            return True  # a published package that an old program used
        names = known_names(module)
        if isinstance(node, ast.Import) or names is None:
            return True
        name = node.names[0].name
        if name != "*" and name not in names:
            return True
        project = find_root(module, self.folder) if self.folder else None
        if project is None or not has_module(module, self.folder):
            return False
        if not _is_old_program(project):
            return True
        return False

    def refusal(self, node: ast.Import | ast.ImportFrom, module: str) -> RefusedError:
        """The error for an import that needs --trust."""
        place = self.where.at(line=node.lineno, column=node.col_offset + 1)
        root = module.partition(".")[0]
        if isinstance(node, ast.ImportFrom) and not node.level and root in old_packages():
            return RefusedError(
                _missing(module, node.names[0].name), where=place, hint=self.way_out(module)
            )
        possible = (
            "every part is a plain name, and torch, nn, F, math, torchvision are there already"
        )
        message = f"'{ast.unparse(node)}' is refused: {module or '.'} is not offered; {possible}"
        return RefusedError(message, where=place, hint=TRUST_HINT)

    def way_out(self, module: str) -> str:
        """A hint what to type, depending on whether the file's project has the module."""
        if has_module(module, self.folder):
            return f"the file's project has it; {TRUST_HINT}"
        path = module.replace(".", "/")
        return f"if it is your own: put {path}.py into a folder above the file, and type --trust"


def _is_old(node: ast.AST) -> bool:
    """Whether a node imports from a module of an old program of which aelab has parts."""
    if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
        return False
    return node.module.partition(".")[0] in old_packages() and known_names(node.module) is not None


def _single(node: ast.Import | ast.ImportFrom) -> list[ast.Import | ast.ImportFrom]:
    """Splits an import into one statement for each name: aelab may have only some of them."""
    made: list[ast.Import | ast.ImportFrom] = []
    for alias in node.names:
        if isinstance(node, ast.Import):
            new: ast.Import | ast.ImportFrom = ast.Import(names=[alias])
        else:
            new = ast.ImportFrom(module=node.module, names=[alias], level=node.level)
        made.append(ast.copy_location(new, node))
    return made


def _inside(statements: list[ast.stmt], node: ast.stmt) -> list[ast.stmt]:
    """Prepares statements for a function, where `x = x` would read an unbound local name."""
    kept = [s for s in statements if not (isinstance(s, ast.Assign) and _names_itself(s))]
    return kept or [ast.copy_location(ast.Pass(), node)]


def _names_itself(statement: ast.Assign) -> bool:
    target, value = statement.targets[0], statement.value
    return isinstance(target, ast.Name) and isinstance(value, ast.Name) and target.id == value.id


def _is_old_program(root: Path) -> bool:
    """Whether a project is a copy of a program that old files were written for."""
    return any(all((root / name).is_file() for name in program.files) for program in old_programs())


def _missing(module: str, name: str) -> str:
    """Text that names the part of an import which aelab lacks."""
    names = known_names(module)
    if names is not None:
        there = ", ".join(names)
        return f"{name} is missing: of {module} aelab has {there}"
    what = "whatever it holds is missing" if name == "*" else f"{name} is missing"
    return f"{module} is not part of aelab: {what}"


def _assignments(node: ast.Import | ast.ImportFrom) -> list[ast.stmt] | None:
    """The assignments for the import of one name; None if aelab does not have it."""
    alias = node.names[0]
    if isinstance(node, ast.Import):
        root = alias.name.split(".")[0]
        if root not in LIBRARIES:
            return None
        return [_assign(alias.asname or root, alias.name if alias.asname else root)]
    module = node.module or ""
    if node.level:
        return None
    names = known_names(module)
    if names is not None:
        if alias.name == "*":
            return []
        known = alias.name in names
        return [_assign(alias.asname or alias.name, alias.name)] if known else None
    if module.split(".")[0] not in LIBRARIES or alias.name == "*":
        return None
    return [_assign(alias.asname or alias.name, f"{module}.{alias.name}")]


def _assign(name: str, dotted: str) -> ast.stmt:
    value = ast.parse(dotted, mode="eval").body
    return ast.Assign(targets=[ast.Name(name, ast.Store())], value=value)


def _placed(new: ast.stmt, old: ast.stmt) -> ast.stmt:
    """Gives `new` and its children the position of `old`, so that errors point to the import."""
    for node in ast.walk(new):
        if isinstance(node, ast.expr | ast.stmt):
            ast.copy_location(node, old)
    return new

"""The subset of Python allowed in blocks, checked on the syntax tree before anything runs.

Denied by default: a kind of node that is not listed is refused by name. The rest is rewritten by
RestrictedPython, so that every attribute, item, iteration, write and context goes through `guards`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType
from typing import Any

from RestrictedPython.compile import compile_restricted_eval, compile_restricted_exec
from RestrictedPython.transformer import RestrictingNodeTransformer

from aelab.errors import RefusedError, Where

TRUST_HINT = "if the file is your own: aelab ... --trust"

#: Every kind of syntax a block may use.
ALLOWED_SYNTAX: frozenset[type[ast.AST]] = frozenset(
    {
        # statements
        ast.Module, ast.Expression, ast.Expr, ast.Assign, ast.AugAssign, ast.Assert, ast.Pass,
        ast.If, ast.For, ast.Break, ast.Continue, ast.FunctionDef, ast.Return, ast.With, ast.Delete,
        # expressions
        ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Call,
        ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare,
        ast.IfExp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
        ast.JoinedStr, ast.FormattedValue,
        # parts of them
        ast.comprehension, ast.arguments, ast.arg, ast.keyword, ast.withitem,
        ast.Load, ast.Store, ast.Del, ast.And, ast.Or, ast.Not, ast.Invert, ast.UAdd, ast.USub,
        ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult,
        ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor,
        ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot, ast.In, ast.NotIn,
    }
)  # fmt: skip

#: The only attribute that a block may set, `parameter.requires_grad = False`.
WRITABLE_ATTRIBUTE = "requires_grad"

_WORDS: dict[str, str] = {
    "ClassDef": "class",
    "Try": "try",
    "TryStar": "try",
    "While": "while",
    "Yield": "yield",
    "YieldFrom": "yield",
    "Global": "global",
    "Nonlocal": "nonlocal",
    "Raise": "raise",
    "Match": "match",
    "Await": "await",
    "AsyncFunctionDef": "async def",
    "AsyncFor": "async for",
    "AsyncWith": "async with",
    "NamedExpr": "the operator :=",
    "AnnAssign": "an assignment with a type",
    "Import": "an import inside a function",
    "ImportFrom": "an import inside a function",
}


def refusals(tree: ast.AST, where: Where) -> list[RefusedError]:
    """Errors for everything in `tree` that a block may not contain, in the order of the text.

    Args:
        tree: a tree with line numbers of the file.
        where: gives file and key.
    """
    found = []
    for node in _nodes(tree):
        if message := _complaint(node):
            line, column = getattr(node, "lineno", where.line), getattr(node, "col_offset", 0) + 1
            place = where.at(line=line, column=column)
            found.append(RefusedError(message, where=place, hint=TRUST_HINT))
    return sorted(found, key=lambda error: (error.where.line or 0) if error.where else 0)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those inside a class: the class itself is already refused."""
    yield tree
    if not isinstance(tree, ast.ClassDef):
        for child in ast.iter_child_nodes(tree):
            yield from _nodes(child)


def compile_body(body: list[ast.stmt], where: Where) -> CodeType:
    """Compiles statements with restrictions; RestrictedPython rewrites the tree in place."""
    tree = ast.Module(body=body, type_ignores=[])
    return _checked(compile_restricted_exec(tree, filename=str(where.file), policy=Policy), where)


def compile_value(expression: ast.expr, where: Where) -> CodeType:
    """Compiles one expression with restrictions; the tree is rewritten in place."""
    tree = ast.Expression(body=expression)
    return _checked(compile_restricted_eval(tree, filename=str(where.file), policy=Policy), where)


class Policy(RestrictingNodeTransformer):
    """RestrictedPython's rules, with guarded `with` and an ordinary `print`."""

    def visit_Name(self, node: ast.Name) -> Any:
        """RestrictedPython's rule for names, except that `print` may be read."""
        if node.id == "print" and isinstance(node.ctx, ast.Load):
            return node  # an ordinary name: `Scope` provides a function that collects lines
        return super().visit_Name(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Removes the annotation of the result."""
        node.returns = None
        return super().visit_FunctionDef(node)

    def visit_arg(self, node: ast.arg) -> Any:
        """Removes the annotation of an argument."""
        # Annotations have no effect here, and resolving one given as text would run it unguarded.
        node.annotation = None
        return super().visit_arg(node)

    def visit_withitem(self, node: ast.withitem) -> Any:
        """Passes the object of a `with` through the guard."""
        item: Any = super().visit_withitem(node)
        guard = ast.Name("_context_", ast.Load())
        call = ast.Call(func=guard, args=[item.context_expr], keywords=[])
        item.context_expr = ast.fix_missing_locations(ast.copy_location(call, item.context_expr))
        return item


def _checked(result: Any, where: Where) -> CodeType:
    if result.errors or result.code is None:
        raise RefusedError("; ".join(result.errors), where=where, hint=TRUST_HINT)
    code: CodeType = result.code
    return code


def _complaint(node: ast.AST) -> str | None:
    kind = type(node)
    if kind not in ALLOWED_SYNTAX:
        return f"a block cannot use {_WORDS.get(kind.__name__, kind.__name__)}"
    match node:
        case ast.Attribute(attr=name) if name.startswith("_"):
            return f"a block cannot reach '.{name}' (names that begin with an underscore)"
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()) if name != WRITABLE_ATTRIBUTE:
            return f"a block cannot set or delete '.{name}'; possible: .{WRITABLE_ATTRIBUTE} = ..."
        case ast.Attribute(ctx=ast.Del()):
            return "a block cannot delete attributes"
        case ast.Name(id=name) if name.startswith("_") and name != "_":
            return f"a block cannot use the name '{name}' (it begins with an underscore)"
        case ast.arg(arg=name) | ast.keyword(arg=str(name)) if name.startswith("_") and name != "_":
            return f"a block cannot use the name '{name}' (it begins with an underscore)"
        case ast.FunctionDef(decorator_list=[_, *_]):
            return "a block cannot use decorators"
        case ast.FunctionDef(name=name) if name.startswith("_"):
            return f"a block cannot use the name '{name}' (it begins with an underscore)"
        case ast.List(ctx=ast.Store()):
            return "a block cannot assign to [a, b]; write: a, b = ..."
    return None

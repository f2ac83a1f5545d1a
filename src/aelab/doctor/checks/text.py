"""Checks of the Python code of a file for mistakes that raise no error."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aelab.doctor.checks.subject import BuiltRun
from aelab.findings import Finding

#: Methods of tensors that only return a result and change nothing.
_PURE = frozenset(
    "abs clamp clamp_max clamp_min clip detach exp expm1 float flatten log log1p mean mul add sub "
    "div nan_to_num permute pow relu repeat reshape round sigmoid softmax sqrt square squeeze sum "
    "tanh to transpose unsqueeze view".split()
)


def unused_results(run: BuiltRun) -> Iterator[Finding]:
    """Finds lines that discard their result, such as `log_var.clamp(-10, 5)`."""
    for key, block in run.spec.blocks.items():
        try:
            tree = ast.parse(block.text)
        except SyntaxError:  # blocks of old files with another syntax
            continue
        value = tree.body[-1] if tree.body else None
        for node in ast.walk(tree):
            if not isinstance(node, ast.Expr) or node is value:
                continue
            call = node.value
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr not in _PURE:
                continue
            line = (block.where.line or 1) + node.lineno - 1
            text = ast.unparse(call)
            owner = ast.unparse(call.func.value)
            yield Finding(
                "warning",
                "result-unused",
                f"{key}: the result of `{text}` is thrown away: the line does nothing",
                f"write: {owner} = {text}",
                block.where.at(line=line, column=None),
            )

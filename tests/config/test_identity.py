"""What changes the identity of a run, and what does not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from aelab.config import load
from aelab.config.canonical import canonical

Write = Callable[..., Path]

BASE = """\
experiment_name: a
batch_size: 8
learnrate: 0.001
optimizer: Adam
max_inputs: 100
matrix: {ds: [x], lr: [1], unused: [0]}
globals: {SHAPE: "(1, 8, 8)", N: "3"}
train_set: |
  a = lr
  {"x": f(SHAPE, a), "y": g()}[ds]
model: |
  from src.models.cnn import *
  M(SHAPE, code=N)
"""


def identity(tmp_path: Path, text: str) -> str:
    path = tmp_path / "f.yml"
    path.write_text(text)
    (run,) = load(path).runs()
    return run.identity


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("M(SHAPE, code=N)", "M( SHAPE,\n\n     code = N )  # a comment"),
        ("experiment_name: a", "experiment_name: b"),
        ("batch_size: 8\nlearnrate: 0.001", "learnrate: 1e-3\nbatch_size: 8"),
        ('"y": g()', '"y": something_else(5)'),
        ("unused: [0]", "unused: [1]"),
        ("  from src.models.cnn import *\n", ""),
        ("max_inputs: 100", "max_inputs: 1e2\nkeep_checkpoints: all\nnum_train_loss_steps: 5"),
        ("max_inputs: 100", "max_inputs: 100\nnum_workers: 3"),
        ('"(1, 8, 8)"', '"(1,8,8)"'),
        ('{"x": f(SHAPE, a), "y": g()}[ds]', "f(SHAPE, a)"),
        ("optimizer: Adam", "optimizer: {Adam: {}}"),
    ],
)
def test_appearance_does_not_change_the_identity(tmp_path: Path, old: str, new: str) -> None:
    assert old in BASE
    assert identity(tmp_path, BASE.replace(old, new)) == identity(tmp_path, BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("code=N", "code=N + 1"),
        ("batch_size: 8", "batch_size: 9"),
        ("max_inputs: 100", "max_inputs: 101"),
        ("max_inputs: 100", "max_inputs: 100\nseed: 1"),
        ("lr: [1]", "lr: [2]"),
        ("f(SHAPE, a)", "f(SHAPE, 2)"),
        ('"(1, 8, 8)"', '"(1, 8, 9)"'),
        ("optimizer: Adam", "optimizer: {Adam: {eps: 1.0}}"),
        ("max_inputs: 100", "max_inputs: 100\ntrainer: Trainer"),
        ("max_inputs: 100", "max_inputs: 100\nload: other"),
        ("ds: [x]", "ds: [y]"),
    ],
)
def test_what_changes_the_result_changes_the_identity(tmp_path: Path, old: str, new: str) -> None:
    assert old in BASE
    assert identity(tmp_path, BASE.replace(old, new)) != identity(tmp_path, BASE)


def test_the_identity_is_the_same_for_ever(tmp_path: Path) -> None:
    """If this fails, FORMAT_VERSION must rise, or the change must be undone."""
    assert identity(tmp_path, BASE) == (
        "e4e8e3e575785d4aadabfadb5ba709507bc41da2ae099e19693ddebb85f9f92a"
    )


def test_trees_are_written_alike_on_every_python() -> None:
    tree = ast.parse("def f(a, *b, c=1):\n    return lambda x: f'{x!r:>3}' + [*b][a:c]").body[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.type_params = []  # as Python 3.12 has it
    text = str(canonical(tree))
    assert "type_params" not in text
    assert "ctx" not in text
    assert text.startswith("['FunctionDef', {'name': 'f', 'args': ['arguments', {'args':")

"""Blocks: values, scope of one run, places in messages, choices, trust."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aelab.config import Block, Scope, evaluate_block, evaluate_blocks, load
from aelab.config.blocks import inspect_block
from aelab.config.guards import CORE_ATTRIBUTES, CORE_NAMES, FrozenModule
from aelab.errors import ConfigError, RefusedError, ShapeError, Where


def value(
    text: str, names: Mapping[str, Any] | None = None, *, trust: bool = False, **variables: Any
) -> Any:
    scope = Scope(names or {}, {}, variables, trust)
    return evaluate_block(Block(text, Where("f.yml", 11, 3, "model")), scope)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 1", 2),
        ("a = 3\na * 2", 6),
        ("a = 3", 3),
        ("a, b = 1, (2, 3)\n(b, a)", ((2, 3), 1)),
        ("def f(x, *rest, k=2):\n    return x * k + sum(rest)\nf(*[1, 2], **{'k': 5})", 7),
        ("[(lambda y: y + 1)(x) for x in range(3) if x]", [2, 3]),
        ("{k: v for k, v in zip('ab', [1, 2])}", {"a": 1, "b": 2}),
        ("t = 0\nfor i in range(4):\n    if i == 2:\n        continue\n    t += i\nt", 4),
        ("x = [1, 2]\nx[0] = 5\nx.append(3)\nx", [5, 2, 3]),
        ("f'{3:>4}' + '%d' % 2 + ','.join(['a'])", "   32a"),
        ("max(math.prod((2, 3)), 1) if not False else None", 6),
        ("sorted([3, 1], key=lambda v: -v)[0]", 3),
        ("next_ = [x for _ in range(2) for x in (1,)]\nnext_", [1, 1]),
        ("from math import prod as p\np([2, 2])", 4),
        ("import math\nmath.pi > 3", True),
        ("from src.models.cnn import *\nfrom math import prod as p\np([2, 2])", 4),
        ("helper = lambda n: n * later\nlater = 3\nhelper(2)", 6),
        ("isinstance(1, int) and not isinstance('', int)", True),
        ("assert 1 < 2\nd = {}\nd['a'] = 1\ndel d['a']\nlen(d)", 0),
    ],
)  # fmt: skip
def test_the_last_expression_is_the_value(text: str, expected: object, trust: bool) -> None:
    assert value(text, trust=trust) == expected


def test_print_is_collected() -> None:
    scope = Scope({}, {})
    evaluate_block(Block("print('a', 1)\n1"), scope)
    assert scope.printed == ["a 1"]


def test_extra_values_are_kept() -> None:
    scope = Scope({}, {})
    evaluate_block(Block("EXTRA_VALUES['ratio'] = 1 / 4\n1"), scope)
    assert scope.extra_values == {"ratio": 0.25}


def test_matrix_values_are_variables() -> None:
    assert value("lr * 2 if ds == 'mnist' else 0", lr=0.5, ds="mnist") == 1.0


def test_a_variable_cannot_hide_a_part() -> None:
    with pytest.raises(ConfigError, match="'Part' already names a part"):
        Scope({"Part": 1}, {}, {"Part": 2})


def test_only_the_chosen_branch_is_built() -> None:
    built: list[str] = []

    def make(name: str) -> str:
        built.append(name)
        return name

    text = "{\n 'a': make('a'),\n 'b': {1: make('b1'), 2: make('b2')}[k],\n}['b']"
    assert value(text, {"make": make}, k=2) == "b2"
    assert built == ["b2"]
    assert value("{'a': 1, 'b': 2}[key]", key="a") == 1
    assert value("key = 'b'\n{'a': 1, 'b': 2}[key]", key="a") == 2  # no longer constant


def test_a_missing_choice_says_what_is_possible() -> None:
    said = r"no choice 'mnits'; did you mean 'mnist'\? Possible: 'mnist', 'rpg'"
    with pytest.raises(ConfigError, match=said):
        value("x = 1\n{'mnist': 1, 'rpg': 2}['mnits']")


@pytest.mark.parametrize("trust", [False, True])
def test_errors_name_line_and_column_of_the_file(trust: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        value("a = 1\ndef f(x):\n    return 1 / x\nf(0)", trust=trust)
    assert str(caught.value) == "f.yml:13:14: model: ZeroDivisionError: division by zero"
    with pytest.raises(ConfigError, match=r"f\.yml:12:3: model: 'EncodrConv' is neither"):
        value("a = 1\nEncodrConv(3)", {"EncoderConv": print}, trust=trust)
    with pytest.raises(ConfigError, match=r"f\.yml:12:10: model: this is not Python"):
        value("a = 1\nb = 1 +", trust=trust)


def test_errors_of_parts_get_a_place() -> None:
    def part() -> None:
        raise ShapeError("too small")

    with pytest.raises(ShapeError, match=r"f.yml:12:3: model: too small"):
        value("a = 1\npart()", {"part": part})


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for text in ("-" * 50_000 + "1", "x" + ".a" * 20_000):
        with pytest.raises(ConfigError):
            value(text)


def test_blocks_need_a_value() -> None:
    for text in ("", "# only a comment", "for i in [1]:\n  pass", "def f():\n  return 1"):
        with pytest.raises(ConfigError):
            value(text)


def test_blocks_of_a_run_share_one_scope_and_nothing_leaks(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_text(
        "matrix: {n: [1, 2]}\nexperiment_name: ${n}\nbatch_size: 1\nlearnrate: 1\n"
        "optimizer: Adam\nmax_inputs: 1\n"
        "validation_set: |\n  made = B\n  made\n"
        "model: made + A\ntrain_set: list(range(n))\n"
        "globals:\n  A: n + 1\n  B: A * 10\n"
    )
    results = [evaluate_blocks(run, run.scope({}, {})) for run in load(path).runs()]
    assert results == [
        {"validation_set": 20, "model": 22, "train_set": [0]},
        {"validation_set": 30, "model": 33, "train_set": [0, 1]},
    ]


def test_imports_are_resolved_in_the_tree() -> None:
    block = Block(
        "from src.models.cnn import Conv2dBlock as B\nimport torch.nn as layers\nB", Where("f")
    )
    _, parsed = inspect_block(block)
    assert parsed is not None
    assert [ast.unparse(node) for node in parsed.body] == ["B = Conv2dBlock", "layers = torch.nn"]


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "from os import path",
        "import torch, os",
        "from . import x",
        "from torch import *",
        "import numpy as np",
        "from importlib import import_module",
        "from __future__ import annotations",
    ],
)
def test_other_imports_are_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        value(f"{text}\n1")


def test_trust_imports_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "my_own_parts.py").write_text("ANSWER = 42\n")
    block = Block("from my_own_parts import ANSWER\nANSWER")
    assert evaluate_block(block, Scope({}, {}, {}, True, tmp_path)) == 42
    with pytest.raises(RefusedError, match="my_own_parts is not offered"):
        evaluate_block(block, Scope({}, {}, {}, False, tmp_path))


def test_trust_sees_the_real_modules() -> None:
    names = {
        "math": FrozenModule("math", {"pi": 3}),
        "VT": FrozenModule("no_such.module", {"a": 1}),
    }
    assert value("math.floor(math.pi * 10)", names, trust=True) == 31
    assert value("VT.a", names, trust=True) == 1
    assert value("math.pi", names) == 3


def test_what_is_allowed_on_plain_values_is_listed() -> None:
    """Reading this list is reading what a block can do to Python's own types."""
    assert {kind.__name__: sorted(rights) for kind, rights in CORE_ATTRIBUTES.items()
            if rights != frozenset(["for"])} == {
        "str": ["[]", "count", "endswith", "find", "for", "index", "isalnum", "isalpha", "isdigit",
                "join", "lower", "lstrip", "replace", "rsplit", "rstrip", "split", "splitlines",
                "startswith", "strip", "title", "upper", "zfill"],
        "list": ["[]", "[] =", "append", "copy", "count", "extend", "for", "index", "insert", "pop",
                 "reverse", "sort"],
        "dict": ["[]", "[] =", "copy", "for", "get", "items", "keys", "pop", "setdefault", "update",
                 "values"],
        "tuple": ["[]", "count", "for", "index"],
        "range": ["[]", "for"],
        "float": ["is_integer"],
        "PartNames": ["[]"],
        "set": ["add", "copy", "difference", "discard", "for", "intersection", "union", "update"],
    }  # fmt: skip
    dangerous = (
        "open eval exec getattr setattr hasattr type vars dir globals locals iter next object "
        "super compile input format id repr memoryview bytes classmethod property breakpoint"
    )
    assert not set(dangerous.split()) & set(CORE_NAMES)


def test_a_function_of_a_block_runs_under_a_dispatch_mode() -> None:
    """torch's C code imports torch by the builtins of the function that is running."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from aelab.catalogue import attributes

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            return func(*args, **(kwargs or {}))

    loss = evaluate_block(Block("lambda a, b: (a - b).abs().mean()"), Scope({}, attributes()))
    with Watching():
        assert loss(torch.ones(2), torch.zeros(2)).item() == 1.0


def test_what_c_code_imports_with_gives_nothing_away() -> None:
    namespace = Scope({}).namespace
    importing = namespace["__builtins__"]["__import__"]
    assert set(namespace["__builtins__"]) == {"__import__"}
    assert importing("os") is None
    with pytest.raises(ImportError):
        importing("a_module_that_nobody_has_loaded")
    with pytest.raises(RefusedError):
        evaluate_block(Block("__import__('os')"), Scope({}))


@pytest.mark.parametrize("text", ['8 if set == "a" else 4', "EncoderMLP(SHAPE, max)", "[set]"])
def test_a_matrix_key_with_a_name_of_python_is_not_taken_for_a_value(text: str) -> None:
    errors, _ = inspect_block(Block(text, Where("f.yml", 3, 1)), {"set": "a", "max": 4})
    (error,) = errors
    assert "is Python's own name here, not the matrix key" in error.message
    assert "rename the key" in error.hint and error.where.line == 3
    assert inspect_block(Block(text, Where("f.yml", 3, 1)), {})[0] == []


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}[set]', "len(set([1]))", "isinstance(1, int)", "list(map(str, [1]))",
     "sorted([1], key=abs)", "set = 4\nset + 1"],
)  # fmt: skip
def test_a_function_of_python_stays_one_beside_a_matrix_key_of_its_name(text: str) -> None:
    keys = {"set": "a", "int": 1, "str": 2, "abs": 3}
    errors, parsed = inspect_block(Block(text, Where("f.yml", 3, 1)), keys)
    assert errors == [] and parsed is not None

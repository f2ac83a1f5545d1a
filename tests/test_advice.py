"""What messages advise can be typed in a block without --trust."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.catalogue import attributes, names
from aelab.config.guards import members_of
from aelab.errors import AelabError

SOURCE = Path(__file__).parents[1] / "src" / "aelab"
#: `.resize(`, and `x.abs(` of a tensor that is called x.
METHOD = re.compile(r"(?:(?<![\w)\]])|\bx)\.([a-z_]+)\(")
#: Data sets, model parts, modules and functions of torch.
PART = re.compile(r"(?<![\w.])((?:nn|F)\.\w+|[A-Z]\w+|[a-z]\w*_(?:dataset|ae|of))\(")
#: Text of model cards, which are for plain Python.
PLAIN_PYTHON = {"model_card.py"}


def _messages() -> Iterator[tuple[str, str]]:
    """(file, text) of every text of several words in the source that is no docstring."""
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in PLAIN_PYTHON:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in texts and " " in node.value:
                yield path.name, node.value


def test_methods_in_messages_are_allowed_in_blocks() -> None:
    allowed = frozenset().union(*attributes().values())
    advised = [(file, m[1]) for file, text in _messages() for m in METHOD.finditer(text)]
    assert len(advised) > 15
    assert [(file, name) for file, name in advised if name not in allowed] == []


def test_parts_in_messages_are_names_of_blocks() -> None:
    known = names()
    advised = [(file, m[1]) for file, text in _messages() for m in PART.finditer(text)]
    assert len(advised) > 60
    assert [(file, name) for file, name in advised if not _is_known(name, known)] == []


def _is_known(name: str, known: Mapping[str, Any]) -> bool:
    """Whether a block knows `mnist_dataset` or `nn.Linear`."""
    module, dot, member = name.rpartition(".")
    return member in members_of(known[module]) if dot else name in known


@pytest.mark.parametrize(
    ("train_set", "told"),
    [
        ("shapes_dataset(100, (3, 8, 9))", "write shape=(1, 8, 9) and change the channels "
         "afterwards: .resize((3, 8, 9))"),
        ("shapes_dataset(100, (1, 8, 9)).resize((3, 8, 9))", None),
        ("colored_shapes_dataset(100, (1, 8, 9))", "write shape=(3, 8, 9)"),
        ("noise_dataset((3, 8, 9), 50).filter(lambda x: x.isfinite().all())", None),
    ],
)  # fmt: skip
def test_the_advice_about_a_set_works_in_a_block(
    train_set: str, told: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "one.yml"
    file.write_text(
        f"experiment_name: one\ntrain_set: |\n  {train_set}\nmodel: |\n"
        "  EncoderDecoder(EncoderMLP((3, 8, 9), 4), DecoderMLP((3, 8, 9), 4))\n"
        "batch_size: 8\nlearnrate: 0.1\noptimizer: Adam\nmax_images: 80\n",
        encoding="utf-8",
    )
    plan = lab.check(file, runs=tmp_path)
    problems = [str(problem) for problem in plan.problems]
    assert any(told in each for each in problems) if told else problems == []


def test_python_with_a_colon_in_one_line_is_told_how_to_be_written(tmp_path: Path) -> None:
    file = tmp_path / "one.yml"
    file.write_text("train_set: noise_dataset(SHAPE, 9).filter(lambda x: x.any())\n", "utf-8")
    with pytest.raises(AelabError, match=r"'train_set: \|', and in the next line, indented: noise"):
        lab.check(file, runs=tmp_path)

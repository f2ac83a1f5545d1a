"""Runs that share a block share its tree and its code, and nothing else."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from aelab.config import blocks
from aelab.config.blocks import Block, Scope, evaluate_block, inspect_block
from aelab.config.guards import CORE_ATTRIBUTES, CORE_NAMES
from aelab.errors import ConfigError, Where

CHOICE = '{"a": first, "b": second}[(which)]'


def value(text: str, **variables: Any) -> Any:
    return evaluate_block(
        Block(text, Where("f.yml", 3, 1)), Scope(CORE_NAMES, CORE_ATTRIBUTES, variables)
    )


def test_a_block_is_inspected_once_for_all_values_that_do_not_choose() -> None:
    block = Block("size * 2 + 12345", Where("f.yml", 1, 1))
    trees = {id(inspect_block(block, {"size": size})[1]) for size in range(5)}
    assert len(trees) == 1
    assert [value(block.text, size=size) for size in (1, 2)] == [12347, 12349]


def test_a_value_that_chooses_gives_another_tree() -> None:
    given = {"first": 1, "second": 2}
    assert [value(CHOICE, which=which, **given) for which in "aba"] == [1, 2, 1]


def test_the_kept_tree_is_not_the_one_that_the_policy_rewrites() -> None:
    block = Block("pair = [7, 8, 9]\npair[1]", Where("f.yml", 1, 1))
    _, before = inspect_block(block)
    assert before is not None
    text = [ast.dump(node) for node in (*before.body, before.value)]
    assert evaluate_block(block, Scope(CORE_NAMES, CORE_ATTRIBUTES, {})) == 8
    _, after = inspect_block(block)
    assert after is before
    assert [ast.dump(node) for node in (*after.body, after.value)] == text


def test_a_wrong_block_is_reported_every_time_with_its_own_place() -> None:
    for line in (4, 9):
        block = Block('{"a": 1}[which]', Where("f.yml", line, 1))
        with pytest.raises(ConfigError, match="no choice 'b'") as caught:
            evaluate_block(block, Scope(CORE_NAMES, CORE_ATTRIBUTES, {"which": "b"}))
        assert caught.value.where is not None and caught.value.where.line == line


def test_an_alias_of_an_import_may_choose_too() -> None:
    block = Block('import math as which\n{"a": 1}[which]', Where("f.yml", 1, 1))
    assert blocks._key(block, {"which": "a"}, None) != blocks._key(block, {"which": "b"}, None)


def test_a_list_as_a_variable_that_chooses_is_no_key() -> None:
    block = Block("rows[which[0]]", Where("f.yml", 1, 1))
    assert blocks._key(block, {"which": [1]}, None) is None
    assert value(block.text, which=[1], rows=[5, 6]) == 6

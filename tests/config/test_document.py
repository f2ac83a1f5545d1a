"""YAML with positions: typing of scalars, duplicates, aliases, messages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.config.document import Text, YamlMapping, parse, scalar_value, to_python
from aelab.errors import Problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1_000_000", 1_000_000), ("-3", -3), ("+4", 4), ("0x1f", 31), ("0o17", 15), ("010", 10),
        ("1e-4", 0.0001), ("1e5", 100_000.0), ("1.", 1.0), (".5", 0.5), ("-1.5e+3", -1500.0),
        ("1_0.5", 10.5), ("true", True), ("False", False), ("~", None), ("", None), ("null", None),
        ("yes", "yes"), ("off", "off"), ("1:30", "1:30"), ("(1, 28, 28)", "(1, 28, 28)"),
        ("None", "None"), ("1e", "1e"), ("_1", "_1"), (".inf", math.inf), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_scalars_are_typed_by_yaml_1_2_with_underscores(text: str, value: object) -> None:
    found = scalar_value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_printed_float_is_read_back(number: float) -> None:
    assert scalar_value(repr(number)) == number


@given(st.integers())
def test_every_printed_integer_is_read_back(number: int) -> None:
    assert scalar_value(f"{number:_}") == number
    assert type(scalar_value(str(number))) is int


def test_every_key_and_value_knows_its_place() -> None:
    table = parse("a: 1\nb:\n  c: x\n  d: |\n      first\n      second\n", "f.yml")
    inner = table.entries["b"].tree
    assert isinstance(inner, YamlMapping)
    assert str(inner.entries["c"].where) == "f.yml:3:3: b.c"
    block = inner.entries["d"].tree
    assert isinstance(block, Text)
    assert (block.where.line, block.where.column) == (5, 7)
    assert block.text == "first\nsecond\n"


def messages(text: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, "f.yml")
    return [str(error) for error in caught.value.errors]


def test_a_key_given_twice_is_reported_with_both_lines() -> None:
    assert messages("a: 1\nb: 2\na: 3\n") == ["f.yml:3:1: a: is given twice, first in line 1"]


def test_a_reference_in_a_flow_value_is_mended_in_the_message() -> None:
    (message,) = messages("a: 1\nb: [${x}, 2]\n")
    assert message.startswith("f.yml:2:")
    assert 'write: b: ["${x}", 2]' in message
    (message,) = messages("b: {c: pre${x}, d: 2}\n")
    assert 'write: b: {c: "pre${x}", d: 2}' in message


def test_what_is_no_yaml_is_reported_with_line_and_column() -> None:
    (message,) = messages("a: b: c\n")
    assert message.startswith("f.yml:1:5: this is not YAML")
    assert "no keys" in messages("")[0]
    assert "no keys" in messages("- a\n- b\n")[0]


def test_tags_mean_nothing() -> None:
    assert "no meaning" in messages("a: !!python/object/apply:os.system ['x']\n")[0]
    assert "no meaning" in messages("a: !include b.yml\n")[0]


def test_alias_bombs_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in messages("\n".join(lines))[0]


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    assert messages("a: " + "[" * 5_000 + "]" * 5_000)


def test_merge_keys_work() -> None:
    table = parse("base: &b {x: 1, y: 2}\nnew:\n  <<: *b\n  y: 3\n", "f.yml")
    assert to_python(table)["new"] == {"x": 1, "y": 3}


def test_a_number_of_thousands_of_digits_is_no_crash() -> None:
    assert scalar_value("9" * 5000) != 9

"""`${name}`: text, then typed again; comments never matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.config import Experiment, load
from aelab.config.document import Text, scalar_value
from aelab.config.substitute import Substitution, unquoted
from aelab.errors import ConfigError, Where

Load = Callable[..., Experiment]
Find = Callable[..., list[str]]


def scalar(text: str, style: str = "plain", **values: object) -> Text:
    errors: list[ConfigError] = []
    value = scalar_value(text) if style == "plain" else text
    found = Substitution(values, errors).scalar(Text(text, value, style, Where("f.yml", 1, 1)))
    assert not errors
    return found


@given(st.one_of(st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)))
def test_a_single_reference_keeps_the_type(value: object) -> None:
    assert scalar("${x}", x=value).value == value
    assert scalar("${x}", "quoted", x=value).value == value


def test_text_is_typed_again() -> None:
    assert scalar("${a}e-${b}", a=1, b=4).value == 0.0001
    assert scalar("${x}", x="1e-4").value == 0.0001
    assert scalar("${x}", x="'l1'").value == "l1"
    assert scalar("${x}", x="'1'").value == "1"
    assert scalar("n${x}", "quoted", x=3).value == "n3"
    assert scalar("1${x}", "quoted", x=3).value == "13"
    assert scalar("${x}", x=[1, "a"]).text == "[1, 'a']"


@given(st.text())
def test_one_pair_of_quotes_is_stripped(text: str) -> None:
    assert unquoted(f"'{text}'") == text
    assert unquoted(f'"{text}"') == text


def test_matrix_values_reach_settings(write: Callable[..., Path]) -> None:
    text = """
    matrix: {lr: [1e-4], opt: [AdamW], n: [7]}
    scheduler: {"Warm${opt}": {"images": "${n}"}}
    seed: "${n}"
    objective: {l1: "${lr}", l2: 0.5}
    """
    settings = load(write(text)).runs()[0].settings
    assert settings.objective == {"l1": 0.0001, "l2": 0.5}
    assert settings.fit.scheduler == ("WarmAdamW", {"images": 7})
    assert settings.fit.seed == 7


def test_comments_do_not_matter(load_text: Load) -> None:
    run = load_text(
        "# ${unknown} in a comment of YAML\n"
        "matrix: {n: [3]}\n"
        "validation_set: |\n"
        "  # ${unknown} in a comment of Python, with a quote '\n"
        '  noise_dataset(SHAPE, ${n}, name="#${n}")  # ${another}\n'
    ).runs()[0]
    text = run.blocks["validation_set"].text
    assert 'noise_dataset(SHAPE, 3, name="#3")' in text
    assert "${another}" in text


def test_an_unknown_name_is_reported_with_its_line(problems: Find) -> None:
    assert problems("matrix: {num: [3]}\nvalidation_set: |\n  a = 1\n  f(${nun})\n") == [
        "file.yml:4:3: validation_set: ${nun} is not defined; did you mean 'num'? "
        "Possible: ${matrix_id}, ${matrix_slug}, ${num}"
    ]


def test_keys_are_substituted_too(load_text: Load) -> None:
    run = load_text("matrix: {epoch: [5]}\ntrain_set${epoch}: noise_dataset(SHAPE, 3)\n").runs()[0]
    assert "train_set5" in run.blocks


def test_slug_and_id_can_be_used_anywhere(write: Callable[..., Path]) -> None:
    path = write("matrix: {a: [x, y]}\nseed: ${matrix_id}\nloss_function: l${matrix_id}\n")
    runs = load(path).runs()
    assert [run.seed for run in runs] == [1, 2]
    assert [run.settings.loss_function for run in runs] == ["l1", "l2"]


@pytest.mark.parametrize("name", ["matrix_slug", "matrix_id"])
def test_without_a_matrix_there_is_one_run(load_text: Load, name: str) -> None:
    (run,) = load_text(f"load: x${{{name}}}\n").runs()
    assert run.settings.load == {"matrix_slug": "x", "matrix_id": "x1"}[name]
    assert run.folder == "test"

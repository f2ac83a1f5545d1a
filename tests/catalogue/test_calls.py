"""The call log keeps an old run what it was, when defaults change later."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from aelab.catalogue import CallLog, Part
from aelab.catalogue.index import PartIndex
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ConfigError


def encoder(
    size: int, depth: int = 2, act: Any = nn.ReLU, shape: tuple[int, ...] = (1, 2)
) -> SimpleNamespace:
    return SimpleNamespace(values=[size, depth, act, shape])


def encoder_with_other_defaults(
    size: int, depth: int = 9, act: Any = nn.GELU, shape: tuple[int, ...] = (7,)
) -> SimpleNamespace:
    return SimpleNamespace(values=[size, depth, act, shape])


def wrap(inner: Any, factor: float = float("inf")) -> tuple[Any, float]:
    return inner, factor


def run(log: CallLog, text: str, function: Any = encoder) -> Any:
    names = {
        "encoder": Part("encoder", function, log),
        "wrap": Part("wrap", wrap, log),
        "relu": Part("nn.ReLU", nn.ReLU, log),
    }
    log.parts = PartIndex(names)
    value = evaluate_block(Block(text), Scope(names, {}))
    log.finish()
    return value


def recorded(text: str) -> list[dict[str, Any]]:
    log = CallLog()
    run(log, text)
    stored: list[dict[str, Any]] = json.loads(json.dumps(log.to_json()))
    return stored


def test_calls_are_recorded_with_defaults_and_references() -> None:
    assert recorded("wrap(encoder(3, shape=[4, 5]))") == [
        {
            "name": "encoder",
            "arguments": {
                "size": 3, "depth": 2, "act": {"part": "nn.ReLU"}, "shape": {"tuple": [4, 5]},
            },
            "given": ["size", "shape"],
        },
        {
            "name": "wrap",
            "arguments": {"inner": {"call": 0}, "factor": {"float": "inf"}},
            "given": ["inner"],
        },
    ]  # fmt: skip


def test_a_replay_takes_missing_arguments_from_the_record() -> None:
    text = "wrap(encoder(3, depth=5))"
    value = run(CallLog(recorded(text)), text, encoder_with_other_defaults)
    assert value[0].values == [3, 5, nn.ReLU, (1, 2)]
    assert value[1] == float("inf")
    fresh = run(CallLog(), text, encoder_with_other_defaults)
    assert fresh[0].values == [3, 5, nn.GELU, (7,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder(3)", "no longer calls wrap"),
        ("wrap(wrap(3))", "calls wrap where it called encoder"),
        ("wrap(wrap(encoder(3)))", "now also calls wrap"),
    ],
)
def test_another_sequence_of_calls_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(CallLog(recorded("wrap(encoder(3))")), text)


def test_an_argument_that_is_gone_is_an_error() -> None:
    def smaller(size: int) -> list[Any]:
        return [size]

    with pytest.raises(ConfigError, match="encoder no longer has the argument 'depth'"):
        run(CallLog(recorded("encoder(3)")), "encoder(3)", smaller)


def test_calls_after_the_end_are_not_recorded() -> None:
    log = CallLog()
    function = run(log, "lambda x: encoder(x)")
    assert function(3).values[0] == 3
    assert len(log) == 0


def test_data_of_any_kind_can_be_stored() -> None:
    log = CallLog()
    run(log, "wrap({1: [None, True, 'a', (2.5,)], 'x': lambda v: v})")
    (call,) = json.loads(json.dumps(log.to_json()))
    assert call["arguments"]["inner"] == {
        "dict": [[1, [None, True, "a", {"tuple": [2.5]}]], ["x", {"object": "function"}]]
    }

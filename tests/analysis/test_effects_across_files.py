"""A matrix value is not called without effect because another file has it in its text."""

from __future__ import annotations

from aelab.analysis.effects import without_effect


def test_a_key_that_another_file_lacks_keeps_its_value() -> None:
    records = [
        {"folder": "a", "matrix": {"lr": 0.001}, "effect": "same", "seed": 1},
        {"folder": "b", "matrix": {}, "effect": "same", "seed": 2},
        {"folder": "c", "matrix": {"lr": 0.002}, "effect": "other", "seed": 1},
    ]
    assert without_effect(records) == {"a": set(), "b": set(), "c": set()}

from __future__ import annotations

from typing import Any

from aelab.analysis.effects import seed_keys, value_key, without_effect


def record(folder: str, effect: str | None, of_seed: int = 0, /, **matrix: Any) -> dict[str, Any]:
    return {"folder": folder, "matrix": matrix, "effect": effect, "seed": of_seed}


def test_a_key_without_effect_is_found_for_the_runs_concerned_only() -> None:
    records = [
        record("28f", "same", aa=False, res=28),
        record("28t", "same", aa=True, res=28),
        record("20f", "small-nearest", aa=False, res=20),
        record("20t", "small-smooth", aa=True, res=20),
    ]
    assert without_effect(records) == {"28f": {"aa"}, "28t": {"aa"}, "20f": set(), "20t": set()}


def test_seeds_are_no_settings_without_effect() -> None:
    records = [
        record("a", "e", 0, aa=False, seed=0),
        record("b", "e", 1, aa=False, seed=1),
        record("c", "e", 2, aa=True, seed=2),
    ]
    assert without_effect(records) == {"a": {"aa"}, "b": {"aa"}, "c": {"aa"}}
    assert without_effect(records[:2]) == {"a": set(), "b": set()}


def test_two_keys_without_effect_are_both_found() -> None:
    records = [record(f"{a}{b}", "e", aa=a, bb=b) for a in (False, True) for b in (1, 2)]
    assert all(keys == {"aa", "bb"} for keys in without_effect(records).values())


def test_runs_that_differ_in_two_keys_at_once_tell_nothing_about_either() -> None:
    records = [record("a", "e", aa=False, bb=1), record("b", "e", aa=True, bb=2)]
    assert without_effect(records) == {"a": set(), "b": set()}


def test_records_without_effect_hash_are_left_alone() -> None:
    records = [record("a", None, aa=False), record("b", None, aa=True)]
    assert without_effect(records) == {"a": set(), "b": set()}


def test_keys_that_always_are_the_seed_only_repeat_runs() -> None:
    records = [record("a", "e", 3, s=3, n=1), record("b", "e", 4, s=4, n=1)]
    assert seed_keys(records) == {"s"}
    assert seed_keys([record("a", "e", 1, n=1)]) == set()
    assert seed_keys([record("a", "e", 0, trial=1)]) == {"trial"}


def test_values_of_different_types_are_different() -> None:
    assert len({value_key(value) for value in (1, 1.0, True, "1", [1], None)}) == 6

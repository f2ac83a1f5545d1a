"""Finds settings without effect, such as `aa` if no image was resized."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

#: Matrix keys that repeat a run instead of changing it.
REPEATS = ("seed", "trial", "trials")


def seed_keys(records: Iterable[Mapping[str, Any]]) -> set[str]:
    """Matrix keys that only repeat runs: `seed`, `trial`, or a key that is always the run's seed.

    Args:
        records: contents of `run.json`.
    """
    records = list(records)
    keys = {key for record in records for key in record["matrix"]}
    found = keys & set(REPEATS)
    for key in keys - found:
        pairs = [
            (record["matrix"][key], record.get("seed"))
            for record in records
            if key in record["matrix"]
        ]
        seeds = {seed for _, seed in pairs}
        if len(seeds) > 1 and all(_same(value, seed) for value, seed in pairs):
            found.add(key)
    return found


def without_effect(records: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """For each run, the matrix keys whose value had no effect on it.

    If runs have an equal `effect` hash (same images, model and settings, even with another text)
    and differ in only one key, and perhaps in the seed, this key had no effect.

    Args:
        records: contents of `run.json` with `folder`, `matrix` and `effect`; records without
            `effect` are ignored.

    Returns:
        Matrix keys by `folder`; every record has an entry, which is usually empty.
    """
    records = list(records)
    repeats = seed_keys(records)
    groups: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if record.get("effect"):
            groups[record["effect"]].append(record)
    found: dict[str, set[str]] = {record["folder"]: set() for record in records}
    for group in groups.values():
        for key in {key for record in group for key in record["matrix"]} - repeats:
            alike: dict[Hashable, list[Mapping[str, Any]]] = defaultdict(list)
            for record in group:
                if key not in record["matrix"]:
                    continue  # another file: the value may be written in its text
                alike[matrix_key(record["matrix"], without=repeats | {key})].append(record)
            for others in alike.values():
                if len({value_key(record["matrix"][key]) for record in others}) > 1:
                    for record in others:
                        found[record["folder"]].add(key)
    return found


def matrix_key(matrix: Mapping[str, Any], without: Iterable[str] = ()) -> Hashable:
    """Matrix values as a hashable key, without some keys; the order does not matter."""
    left_out = set(without)
    return tuple(sorted((k, value_key(v)) for k, v in matrix.items() if k not in left_out))


def value_key(value: Any) -> str:
    """A matrix value as text; 1 and True, 1 and 1.0 are different values."""
    return json.dumps(value, sort_keys=True, default=str)


def _same(value: Any, seed: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == seed

"""Several runs in one row of a table: repeats of one setting, or an average over a matrix key."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import takewhile
from typing import Any

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.analysis.seeds import difference, spread
from aelab.analysis.trend import together
from aelab.errors import UserError, did_you_mean, one_of
from aelab.report.cells import Column, Facts
from aelab.report.comparing import ranked

Rows = list[dict[str, Any]]
Groups = list[list[Facts]]


def merge_repeats(
    facts: list[Facts], columns: list[Column]
) -> tuple[Rows, Groups, list[Column], list[str]]:
    """One row for all finished runs of the same settings, with mean and spread of the loss.

    Runs that are unfinished, failed, or at another number of images keep rows of their own.

    Returns:
        rows, the runs of each, the columns (with `±`, `runs` and `differs from best` where they
        say something), and lines for below the table.
    """
    repeats = seed_keys([fact.run.record for fact in facts])
    groups: dict[Hashable, list[Facts]] = defaultdict(list)
    for number, fact in enumerate(facts):
        groups[_settings(fact, repeats) if _complete(fact) else number].append(fact)
    listed = list(groups.values())
    rows = [_merged(group, repeats) for group in listed]
    if all(len(group) == 1 for group in listed):
        return rows, listed, columns, []
    notes = [
        "± is half the range of 2 runs, the sample standard deviation of 3 and more; "
        "--each shows every run"
    ]
    added = [Column("spread", "±", "spread", ("std",)), Column("n", "runs", "count")]
    if _compare_with_best(rows, listed):
        added.append(Column("differs", "differs from best"))
        notes.append(
            "differs from best: 95 % t interval, in pairs where the seeds agree, "
            "not corrected for several comparisons"
        )
    columns = [column for column in columns if not _empty(column, rows)]
    place = next((i for i, column in enumerate(columns) if column.key == "loss"), -1) + 1
    return rows, listed, [*columns[:place], *added, *columns[place:]], notes


def average_rows(
    facts: list[Facts], columns: list[Column], average: str, average_std: Sequence[str]
) -> tuple[Rows, Groups, list[Column]]:
    """Rows that differ only in one matrix key as one: means of numbers, the maximum of texts.

    Args:
        facts: the runs.
        columns: of the table.
        average: the matrix key.
        average_std: columns that get smallest, largest and sample standard deviation beside them.

    Raises:
        UserError: if there is no such matrix key or column.
    """
    averaged = f"matrix.{average}"
    keys = [column.header for column in columns if column.key.startswith("matrix.")]
    if averaged not in {column.key for column in columns}:
        raise UserError(
            f"--average: the matrix has no key {average!r}{did_you_mean(average, keys)}",
            hint=f"possible: {one_of(keys)}",
        )
    wide = {_numeric(columns, name).key for name in average_std}
    groups: dict[Hashable, list[Facts]] = defaultdict(list)
    for fact in facts:
        shown = {k: v for k, v in fact.cells.items() if k.startswith("matrix.")}
        where = fact.run.record.get("experiment")
        groups[(where, matrix_key(shown, without={averaged}))].append(fact)
    listed = list(groups.values())
    rows: Rows = []
    for group in listed:
        row = _merged(group, set())
        row["num"] = len(group)
        for key in wide:
            row |= _extremes(key, [fact.cells.get(key) for fact in group])
        rows.append(row)
    made: list[Column] = []
    counted = Column("num", f"num {average}s", "count")
    for column in columns:
        if column.key not in (averaged, "id", "run", "slug"):
            made.append(column)
        if column.key in wide:
            made += [
                Column(f"{column.key} {what}", f"{column.header} ({what})", column.kind)
                for what in ("min", "max", "std")
            ]
    place = sum(column.key.startswith("matrix.") for column in made)
    return rows, listed, [*made[:place], counted, *made[place:]]


def _complete(fact: Facts) -> bool:
    loss = fact.loss
    return fact.run.state == "finished" and loss is not None and math.isfinite(loss)


def _settings(fact: Facts, repeats: set[str]) -> Hashable:
    record = fact.run.record
    shown = {k[7:]: v for k, v in fact.cells.items() if k.startswith("matrix.") and v is not None}
    same: Hashable = record.get("effect")
    if not same:  # an old record: only what differs by its seed alone is a repeat
        seeded = record.get("trial") is not None or bool(repeats & set(record["matrix"]))
        same = (record.get("max_inputs"), None if seeded else fact.run.folder)
    settings = matrix_key(shown, without=repeats)
    return record.get("experiment"), same, fact.cells["images"], settings


def _merged(group: list[Facts], repeats: set[str]) -> dict[str, Any]:
    if len(group) == 1:
        return {**group[0].cells, "spread": None, "n": 1}
    row: dict[str, Any] = {}
    for key in dict.fromkeys(key for fact in group for key in fact.cells):
        row[key] = _joined(key, [fact.cells.get(key) for fact in group])
    for key in repeats:
        row[f"matrix.{key}"] = None
    row["trend"] = together([fact.trend for fact in group if fact.trend is not None]) or None
    losses = [fact.loss for fact in group if fact.loss is not None and math.isfinite(fact.loss)]
    row["spread"] = spread(losses).plus_minus if losses else None
    row["n"] = len(group)
    return row


def _joined(key: str, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if key in ("id", "seed", "trial"):
        return list(dict.fromkeys(known))
    if key in ("run", "slug"):
        return _common_name([str(name) for name in known])
    if key == "state":
        return _tally(known)
    if all(value == known[0] and type(value) is type(known[0]) for value in known):
        return known[0]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return math.fsum(known) / len(known)
    return max(known, key=str)


def _common_name(names: list[str]) -> str:
    """What names share, with a star for what differs: a glob that other verbs understand."""
    if len(set(names)) == 1:
        return names[0]
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return f"{start}*{end}"


def _common_start(texts: list[str]) -> str:
    alike = takewhile(lambda signs: len(set(signs)) == 1, zip(*texts, strict=False))
    return "".join(signs[0] for signs in alike)


def _tally(words: list[str]) -> str:
    """The common state, or `2 finished, 1 failed`."""
    if len(set(words)) == 1:
        return words[0]
    firsts = Counter(word.split(" ")[0].rstrip(":") for word in words)
    return ", ".join(f"{count} {word}" for word, count in firsts.most_common())


def _extremes(key: str, values: list[Any]) -> dict[str, Any]:
    known = [float(value) for value in values if isinstance(value, int | float)]
    if not known:
        return {}
    facts = spread(known)
    return {f"{key} min": facts.low, f"{key} max": facts.high, f"{key} std": facts.std}


def _numeric(columns: list[Column], name: str) -> Column:
    wanted = name.lower()
    numbers = [column for column in columns if column.is_number]
    for fits in (wanted.__eq__, lambda word: wanted in word):
        for column in numbers:
            words = (column.header, column.key.partition(".")[2] or column.key, *column.aliases)
            if any(fits(word.lower()) for word in words):
                return column
    headers = [column.header for column in numbers]
    raise UserError(
        f"--average-std: no column of numbers is called {name!r}{did_you_mean(name, headers)}",
        hint=f"possible: {', '.join(headers)}",
    )


def _compare_with_best(rows: Rows, groups: Groups) -> bool:
    """Fill `differs`; whether rows compare and have the repeats that this needs."""
    by_seed = [
        {fact.seed or 0: fact.loss for fact in group if fact.loss is not None and _complete(fact)}
        for group in groups
    ]
    compared = [i for i, losses in enumerate(by_seed) if losses and rows[i]["loss"] is not None]
    repeated = [i for i in compared if len(by_seed[i]) > 1]
    if len(repeated) < 2 or not ranked([groups[i][0].run.record for i in compared]):
        return False
    best = min(compared, key=lambda i: rows[i]["loss"])
    for i in compared:
        told = None if i == best else difference(by_seed[i], by_seed[best]).distinguishable
        rows[i]["differs"] = "best" if i == best else {True: "yes", False: "no"}.get(told, "?")  # type: ignore[arg-type]
    return True


def _empty(column: Column, rows: Rows) -> bool:
    """A matrix column that only told repeats apart says nothing any more."""
    return column.key.startswith("matrix.") and all(row.get(column.key) is None for row in rows)

"""Merges runs into one row of a table: repeats of a setting, or an average over a matrix key."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import takewhile
from typing import Any

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.analysis.seeds import (
    ALPHA,
    SAME_WITHIN,
    Judgement,
    against_best,
    half_interval,
    spread,
)
from aelab.analysis.trend import together
from aelab.errors import UserError, did_you_mean, one_of
from aelab.report.cells import Column, Facts
from aelab.report.outlook import outlook_of_repeats as outlook_of
from aelab.report.twins import distinct

Rows = list[dict[str, Any]]
Groups = list[list[Facts]]

SPREAD_NOTE = (
    "± is the sample standard deviation of the runs of a row (n - 1); --each shows every run"
)
#: Of rows that merge several runs.
REPEATS = (Column("spread", "±", "spread", ("std",)), Column("n", "runs", "count"))
INTERVAL_NOTE = (
    f"±{1 - ALPHA:.0%}: the mean over all possible seeds lies within this distance with that "
    "probability (Student's t over the runs of the row)"
)
VERDICT = (
    Column("differs", "differs from best"),
    Column("difference", "from best", "percent", ("difference",)),
    Column("seeds_needed", "seeds needed", "count"),
)
VERDICT_NOTE = (
    "differs from best: t tests, paired where the seeds agree, corrected for every pair of rows "
    f"(Holm): a table of equal settings says yes in at most {ALPHA:.0%} of cases. no: within "
    f"{SAME_WITHIN:.0%} of the best. from best: the difference and its interval at that level. "
    "seeds needed: roughly how many seeds per row would show a difference of this size (in 80% of "
    "cases)."
)


def merge_repeats(
    facts: list[Facts], columns: list[Column], *, interval: bool = False
) -> tuple[Rows, Groups, list[Column], list[str]]:
    """Merges finished runs of the same settings into one row with mean and spread of the loss.

    Runs that are unfinished, failed, or at another number of images keep separate rows. Runs that
    are equal in everything, including seed and losses, count once.

    Args:
        facts: the runs.
        columns: columns of the table.
        interval: add a column with the interval of each included term and of the times.

    Returns:
        rows, the runs of each, the columns (with `±`, `runs` and `differs from best` if they have
        values), and lines for below the table.
    """
    repeats = seed_keys([fact.run.record for fact in facts])
    groups: dict[Hashable, list[Facts]] = defaultdict(list)
    for number, fact in enumerate(facts):
        groups[_settings(fact, repeats) if _complete(fact) else number].append(fact)
    listed = list(groups.values())
    rows = [_merged(group, repeats) for group in listed]
    if all(len(group) == 1 for group in listed):
        return rows, listed, columns, []
    added, notes = [*REPEATS], [SPREAD_NOTE]
    if _judge(rows, listed):
        added += VERDICT
        notes.append(VERDICT_NOTE)
    columns = [column for column in columns if not _empty(column, rows)]
    place = next((i for i, column in enumerate(columns) if column.key == "loss"), -1) + 1
    columns = [*columns[:place], *added, *columns[place:]]
    columns = [c for c in columns if c.key != "seeds_needed" or not _empty(c, rows)]
    if interval:
        columns = _with_intervals(columns, rows, listed)
        notes.append(INTERVAL_NOTE)
    return rows, listed, columns, notes


def interval_key(column: Column) -> str:
    """Key of the column with the interval of another column."""
    return f"{column.key} interval"


def _with_intervals(columns: list[Column], rows: Rows, groups: Groups) -> list[Column]:
    """Adds the intervals of included terms and times to the rows; the columns with theirs."""
    made: list[Column] = []
    for column in columns:
        made.append(column)
        if not (column.key.startswith("term.") or column.format == "minutes"):
            continue
        key = interval_key(column)
        for row, group in zip(rows, groups, strict=True):
            known = [fact.cells.get(column.key) for fact in distinct(group)]
            values = [float(value) for value in known if isinstance(value, int | float)]
            row[key] = half_interval(values)
        if any(row[key] is not None for row in rows):
            made.append(Column(key, f"{column.header} ±{1 - ALPHA:.0%}", "spread"))
    return made


def average_rows(
    facts: list[Facts], columns: list[Column], average: str, average_std: Sequence[str]
) -> tuple[Rows, Groups, list[Column]]:
    """Merges rows that differ only in one matrix key: means of numbers, the maximum of texts.

    If only some of a row's runs are finished, the means are over these and `partial` is true: a
    mean over other values of the key cannot be ranked with the others.

    Args:
        facts: the runs.
        columns: columns of the table.
        average: the matrix key.
        average_std: columns that also get minimum, maximum and sample standard deviation.

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
        ended = [fact for fact in group if _complete(fact)] or group
        row = _merged(ended, set())
        row["state"] = _joined("state", [fact.cells.get("state") for fact in group])
        row["num"] = len(ended)
        row["partial"] = len(ended) < len(group)
        for key in wide:
            row |= _extremes(key, [fact.cells.get(key) for fact in ended])
        rows.append(row)
    made: list[Column] = []
    counted = Column("num", f"num {average}s", "count")
    for column in columns:
        if column.key not in (averaged, "id", "run", "slug"):
            made.append(column)
        if column.key in wide:
            made += [
                Column(f"{column.key} {what}", f"{column.header} ({what})", column.format)
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
    if not same:  # an old record: only runs that differ by the seed alone are repeats
        seeded = record.get("trial") is not None or bool(repeats & set(record["matrix"]))
        same = (record.get("max_inputs"), None if seeded else fact.run.folder)
    settings = matrix_key(shown, without=repeats)
    return record.get("experiment"), same, fact.cells["images"], settings


def _merged(group: list[Facts], repeats: set[str]) -> dict[str, Any]:
    if len(group) == 1:
        return {**group[0].cells, "spread": None, "n": 1}
    row: dict[str, Any] = {}
    counted = distinct(group)
    for key in dict.fromkeys(key for fact in group for key in fact.cells):
        named = key in ("id", "seed", "trial", "run", "slug")
        row[key] = _joined(key, [fact.cells.get(key) for fact in (group if named else counted)])
    for key in repeats:
        row[f"matrix.{key}"] = None
    row["trend"] = together([fact.trend for fact in counted if fact.trend is not None]) or None
    row["forecast"] = outlook_of([fact.outlook for fact in counted if fact.outlook is not None])
    losses = [fact.loss for fact in counted if fact.loss is not None and math.isfinite(fact.loss)]
    row["spread"] = spread(losses).std if losses else None
    row["n"] = len(counted)
    return row


def _joined(key: str, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if key in ("id", "seed", "trial"):
        return list(dict.fromkeys(known))
    if key == "group.key":
        return tuple(sorted({number for value in known for number in value}))
    if key == "group":
        return " + ".join(dict.fromkeys(known))
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
    """The common parts of names with a star for differences: a glob for other verbs."""
    if len(set(names)) == 1:
        return names[0]
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return f"{start}*{end}"


def _common_start(texts: list[str]) -> str:
    alike = takewhile(lambda signs: len(set(signs)) == 1, zip(*texts, strict=False))
    return "".join(signs[0] for signs in alike)


def _tally(words: list[str]) -> str:
    """The common state, or counts such as `2 finished, 1 failed`."""
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


def _judge(rows: Rows, groups: Groups) -> bool:
    """Fills in the difference of each row from the best of those it compares with.

    Returns:
        Whether any two rows compare and have enough repeats.
    """
    families: dict[Hashable, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.get("loss") is not None and all(map(_complete, groups[i])):
            families[row.get("group.key")].append(i)
    repeated = [sum(rows[i]["n"] > 1 for i in family) for family in families.values()]
    if not any(count > 1 for count in repeated):
        return False
    placed = [family for family in families.values() if len(family) > 1]
    losses = [[_by_seed(groups[i], i) for i in family] for family in placed]
    for family, judged in zip(placed, against_best(losses), strict=True):
        for i, judgement in zip(family, judged, strict=True):
            rows[i] |= _judgement_cells(judgement)
    return True


def _judgement_cells(judgement: Judgement) -> dict[str, Any]:
    known = judgement.percent is not None
    return {
        "differs": judgement.verdict,
        "difference": (judgement.percent, judgement.low, judgement.high) if known else None,
        "seeds_needed": judgement.seeds_needed,
    }


def _by_seed(group: list[Facts], row: int) -> dict[Hashable, float]:
    """The loss of each distinct run by its seed, for pairing with other rows."""
    counted = Counter(fact.seed for fact in distinct(group))
    return {
        (fact.seed if counted[fact.seed] == 1 else (row, number)): fact.loss
        for number, fact in enumerate(distinct(group))
        if fact.loss is not None
    }


def _empty(column: Column, rows: Rows) -> bool:
    """Whether a matrix column has no values left after merging repeats."""
    sometimes = column.key.startswith("matrix.") or column.key == "seeds_needed"
    return sometimes and all(row.get(column.key) is None for row in rows)

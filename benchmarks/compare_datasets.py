"""Which orderings of document 000's 36-row table hold in one's own runs?

    python benchmarks/compare_datasets.py RUNS_FOLDER [--legacy True]

Prints Markdown: the published and the measured loss of each row side by side, and each claim of the
document with the number of pairs for which it holds. The published values are those of
`docs/results/compare-datasets.md`, from the document's table (validation loss at 1,000,000 images).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

from aelab import lab

#: (data set, resolution, aa) -> validation loss at learning rate 0.0003 and 0.001.
PUBLISHED = {
    ("mnist", 20, False): (0.0274497, 0.0221466),
    ("fmnist", 20, False): (0.0482327, 0.0421959),
    ("rpg", 20, False): (0.052915, 0.0454093),
    ("mnist", 28, False): (0.0351929, 0.0326754),
    ("fmnist", 28, False): (0.0534702, 0.0491466),
    ("rpg", 28, False): (0.0514313, 0.0472919),
    ("mnist", 32, False): (0.0333494, 0.0300777),
    ("fmnist", 32, False): (0.0495315, 0.0459637),
    ("rpg", 32, False): (0.0532157, 0.0485321),
    ("mnist", 20, True): (0.0193185, 0.0157305),
    ("fmnist", 20, True): (0.0337913, 0.0278209),
    ("rpg", 20, True): (0.0337807, 0.0281536),
    ("mnist", 28, True): (0.0357742, 0.0321101),
    ("fmnist", 28, True): (0.0528828, 0.0492271),
    ("rpg", 28, True): (0.0369611, 0.0349186),
    ("mnist", 32, True): (0.0246818, 0.0221171),
    ("fmnist", 32, True): (0.0380947, 0.0357977),
    ("rpg", 32, True): (0.0533928, 0.0489479),
}
NATIVE = {"mnist": 28, "fmnist": 28, "rpg": 32}
RATES = (0.0003, 0.001)


class Row(NamedTuple):
    """One setting of the table."""

    ds: str
    res: int
    aa: bool
    lr: float


Losses = dict[Row, float]


def published() -> Losses:
    """The document's 36 values."""
    return {
        Row(*key, lr): loss
        for key, pair in PUBLISHED.items()
        for lr, loss in zip(RATES, pair, strict=True)
    }


def measured(runs: str, legacy: bool, term: str) -> Losses:
    """One's own last validation values of a term by setting."""
    found = {}
    for run in json.loads(lab.table(runs=runs, format="json", each=True)):
        values = run["matrix"]
        if values["legacy"] is legacy and run["state"] == "finished":
            row = Row(values["ds"], values["res"], values["aa"], values["lr"])
            found[row] = run["losses"]["last"][term]
    return found


Pair = tuple[Row, Row]


def claims(rows: Losses) -> Iterator[tuple[str, list[Pair]]]:
    """(claim, pairs of rows of which the first must have the smaller loss)."""
    resized = [row for row in rows if row.aa and row.res != NATIVE[row.ds]]
    yield (
        "bilinear is easier than nearest wherever something is resized",
        [(row, row._replace(aa=False)) for row in resized],
    )
    yield (
        "learning rate 0.001 beats 0.0003",
        [(row, row._replace(lr=0.0003)) for row in rows if row.lr == 0.001],
    )
    plain = [row for row in rows if not row.aa]
    for harder in ("fmnist", "rpg"):
        yield (
            f"without interpolation mnist is easier than {harder}",
            [(row, row._replace(ds=harder)) for row in plain if row.ds == "mnist"],
        )
    at28 = [row for row in rows if row.aa and row.res == 28]
    yield (
        "28 pixels, bilinear: rpg is easier than fmnist",
        [(row, row._replace(ds="fmnist")) for row in at28 if row.ds == "rpg"],
    )
    at32 = [row for row in rows if row.aa and row.res == 32]
    for easier, harder in itertools.pairwise(("mnist", "fmnist", "rpg")):
        yield (
            f"32 pixels, bilinear: {easier} is easier than {harder}",
            [(row, row._replace(ds=harder)) for row in at32 if row.ds == easier],
        )


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's coefficient (no ties expected)."""

    def ranks(values: list[float]) -> list[int]:
        order = sorted(range(len(values)), key=values.__getitem__)
        return [order.index(position) for position in range(len(values))]

    a, b = ranks(first), ranks(second)
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (n * (n * n - 1))


def report(mine: Losses, theirs: Losses) -> str:
    """The comparison as Markdown."""
    lines = [
        "| data | res | aa | lr | published, 1,000,000 images | measured |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in sorted(mine, key=lambda row: (row.lr, row.aa, row.res, row.ds)):
        aa = "" if row.res == NATIVE[row.ds] else row.aa
        lines.append(
            f"| {row.ds} | {row.res} | {aa} | {row.lr:g} | {theirs[row]:.5f} | {mine[row]:.5f} |"
        )
    lines += ["", "| claim of the document | published | measured |", "|---|--:|--:|"]
    for claim, pairs in claims(theirs):
        have = [pair for pair in pairs if set(pair) <= mine.keys()]
        lines.append(f"| {claim} | {_holds(theirs, pairs)} | {_holds(mine, have)} |")
    for name, sets in (("all rows", NATIVE), ("mnist and fmnist only", ("mnist", "fmnist"))):
        rows = [row for row in mine if row.ds in sets]
        value = rank_correlation([theirs[r] for r in rows], [mine[r] for r in rows])
        lines.append(f"| rank correlation with the published table, {name} | 1 | {value:.2f} |")
    ranges = [_repeats(theirs, mine), _repeats(mine, mine)]
    lines.append(f"| difference between repeats of one setting | {ranges[0]} | {ranges[1]} |")
    return "\n".join(lines)


def _repeats(losses: Losses, known: Losses) -> str:
    """Smallest and largest difference, in percent, where nothing was resized: `aa` says nothing."""
    pairs = [(row, row._replace(aa=True)) for row in known if not row.aa]
    percent = [
        abs(losses[a] - losses[b]) / losses[a] * 100
        for a, b in pairs
        if a.res == NATIVE[a.ds] and b in known
    ]
    return f"{min(percent):.1f} to {max(percent):.1f} %" if percent else "-"


def _holds(losses: Losses, pairs: list[Pair]) -> str:
    return f"{sum(losses[a] < losses[b] for a, b in pairs)} of {len(pairs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", help="folder of the runs")
    parser.add_argument("--legacy", choices=("True", "False"), default="True")
    parser.add_argument("--term", default="loss", help="logged term to compare")
    given = parser.parse_args()
    print(report(measured(given.runs, given.legacy == "True", given.term), published()))


if __name__ == "__main__":
    main()

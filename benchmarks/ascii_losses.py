"""Which loss makes ASCII art that is read, and seen, as the original?

    aelab run experiments/ascii/losses.yml
    python benchmarks/ascii_losses.py RUNS_FOLDER

Prints Markdown: each loss (the key `loss` of the matrix) with mean ± standard deviation over seeds
on held-out pictures, ranked by blurred SSIM and contour agreement (the mean of the two ranks), and
below what blank paper and the nearest training picture reach. Runs that were not measured yet are.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from aelab import lab
from aelab.runs.evaluation import evaluated_values

#: key -> heading.
COLUMNS = {
    "accuracy_without_spaces": "accuracy without spaces",
    "rendered_ssim_blur_2": "blurred SSIM",
    "skill_ssim_blur_2": "its skill against blank paper",
    "contour_agreement": "contour agreement",
    "blank_share": "blank",
}
#: What decides the order; larger is better.
RANKED = ("rendered_ssim_blur_2", "contour_agreement")
#: Prefix in `characters_baseline` -> what a reader calls it.
BASELINES = {"spaces": "blank paper", "nearest": "nearest training picture"}
METRICS = ("characters", "characters_baseline")

#: loss -> what was measured, one entry a seed.
Found = dict[str, list[dict[str, float]]]


def measured(folder: str, only: str | None = None, device: str = "auto") -> Found:
    """The values of every run whose matrix has a loss; those that lack them are evaluated."""
    found: Found = defaultdict(list)
    for run in lab.find_runs(only=only, runs=folder):
        loss = run.record.get("matrix", {}).get("loss")
        if loss is None:
            continue
        if not {*COLUMNS, "spaces_accuracy"} <= set(evaluated_values(run)):
            for entry in lab.evaluate([run.folder], metrics=METRICS, runs=folder, device=device):
                if entry.problem:
                    print(f"{run.folder}: {entry.problem}", file=sys.stderr)
        values = evaluated_values(run)
        if set(RANKED) <= set(values):
            found[str(loss)].append(values)
    return dict(found)


def mean(entries: Sequence[Mapping[str, float]], key: str) -> float:
    """Over the seeds."""
    return statistics.fmean(entry[key] for entry in entries)


def ranked(found: Found) -> list[str]:
    """The losses, the best first: by the mean of their ranks in what is ranked."""
    ranks: dict[str, float] = dict.fromkeys(found, 0.0)
    for key in RANKED:
        order = sorted(found, key=lambda loss: -mean(found[loss], key))
        for rank, loss in enumerate(order, start=1):
            ranks[loss] += rank / len(RANKED)
    return sorted(found, key=lambda loss: (ranks[loss], -mean(found[loss], RANKED[0])))


def cell(entries: Sequence[Mapping[str, float]], key: str) -> str:
    """Mean, and the standard deviation over seeds where there are two."""
    values = [entry[key] for entry in entries if not math.isnan(entry.get(key, math.nan))]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def table(found: Found) -> list[str]:
    """Markdown lines: losses by rank, then the baselines."""
    lines = ["| rank | loss | seeds | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|--:|---|" + "--:|" * (len(COLUMNS) + 1))
    for rank, loss in enumerate(ranked(found), start=1):
        cells = [cell(found[loss], key) for key in COLUMNS]
        lines.append(f"| {rank} | {loss} | {len(found[loss])} | " + " | ".join(cells) + " |")
    # Without a model there are no seeds: every run of the file has the same held-out pictures.
    any_run = [next(iter(found.values()))[0]]
    for prefix, name in BASELINES.items():
        cells = [cell(any_run, f"{prefix}_{key}") for key in COLUMNS]
        lines.append(f"| - | *{name}* | - | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Reads the folder, measures what is missing, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs")
    parser.add_argument("--only", help="glob that a run's name must match")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    found = measured(given.folder, given.only, given.device)
    if not found:
        parser.error(f"{given.folder} holds no run of a matrix with a key 'loss' that writes")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()

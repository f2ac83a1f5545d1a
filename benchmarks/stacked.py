"""What joining layers one at a time gives: a table and the loss curves with the joining moments.

    python benchmarks/stacked.py RUNS_FOLDER... [--picture FILE.png]

Prints Markdown: for each setting of `experiments/stacked.yml` the validation L1 at the end (mean
and range over the folders' seeds), the largest rise between two validations, and the rate.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from aelab import lab
from aelab.report.plots import STYLE, save_figure
from aelab.runs.record import Run

#: The document's colours, and how a layer joins as a line style.
COLOURS = {"white": "#8a8f98", "cyan": "#1fa7b5", "yellow": "#c9a400", "purple": "#8e4ec6"}
DASHES = {"at_once": "-", "fade": "--", "identity": ":"}


class Setting(NamedTuple):
    """One row of the matrix."""

    run: str
    join: str
    symmetric: bool


def found(folders: list[str]) -> dict[Setting, list[Run]]:
    """Finished runs by setting, in the order of the file."""
    runs: dict[Setting, list[Run]] = defaultdict(list)
    for folder in folders:
        for run in lab.find_runs(runs=folder, may_be_empty=True):
            if run.state == "finished" and run.record["name"].startswith("stacked/"):
                values = run.record["matrix"]
                runs[Setting(values["run"], values["join"], values["symmetric"])].append(run)
    return dict(runs)


def curve(run: Run, split: str = "validation") -> list[tuple[int, float]]:
    """(images, L1) of every validation, or every logged training loss."""
    return [(row["images"], row["l1"]) for row in run.metrics(split)]


def table(runs: dict[Setting, list[Run]]) -> str:
    """One row a setting."""
    lines = [
        "| run | join | weights | parameters | L1 at the end | largest rise | images/s |",
        "|:--|:--|:--|--:|--:|--:|--:|",
    ]
    for setting, group in runs.items():
        ends = [curve(run)[-1][1] for run in group]
        rises = [
            max((b - a for (_, a), (_, b) in itertools.pairwise(curve(run))), default=0.0)
            for run in group
        ]
        rate = sum(float(run.status["images_per_second"]) for run in group) / len(group)
        end = f"{sum(ends) / len(ends):.4f}"
        if len(ends) > 1:
            end += f" ({min(ends):.4f} to {max(ends):.4f})"
        weights = "shared" if setting.symmetric else "two"
        if setting.run == "white":
            weights = "two"
        lines.append(
            f"| {setting.run} | {setting.join.replace('_', ' ')} | {weights} | "
            f"{group[0].record['parameters']['model']:,} | {end} | {max(rises):.4f} | {rate:.0f} |"
        )
    return "\n".join(lines)


def picture(runs: dict[Setting, list[Run]], file: Path, every: int, layers: int) -> None:
    """Validation L1 over images of the symmetric runs of the first folder; joins as grey lines."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        panel = figure.subplots()
        for joined in range(1, layers + 1):
            panel.axvline(joined * every, color="#d4d7dc", linewidth=1.0, zorder=0)
        panel.axvline(layers * every, color="#5b616b", linewidth=1.0, zorder=0)
        for setting, group in runs.items():
            if not setting.symmetric:
                continue
            images, losses = zip(*curve(group[0]), strict=True)
            label = setting.run
            if setting.run == "yellow":
                label += f", {setting.join.replace('_', ' ')}"
            panel.plot(
                images, losses, DASHES[setting.join], color=COLOURS.get(setting.run, "#b3403a"),
                linewidth=1.4, label=label,
            )  # fmt: skip
        panel.set_xlabel("images")
        panel.set_ylabel("validation L1")
        panel.set_ylim(0, None)
        panel.grid(False, axis="x")
        panel.legend(frameon=False, fontsize=8, ncols=3)
        save_figure(figure, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs, one a seed")
    parser.add_argument("--picture", help="PNG file to write")
    parser.add_argument("--every", type=int, default=1_000, help="images between two joins")
    parser.add_argument("--layers", type=int, default=10, help="layers that join")
    given = parser.parse_args()
    runs = found(given.runs)
    print(table(runs))
    if given.picture:
        picture(runs, Path(given.picture), given.every, given.layers)


if __name__ == "__main__":
    main()

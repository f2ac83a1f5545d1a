"""Which spatial frequencies do stored runs get wrong, and what is the L1 of their pictures?

    python benchmarks/frequency.py RUNS_FOLDER [RUN ...] [--only GLOB] [--out frequency.png]

Prints a Markdown table of every run on the first held-out images of its own validation set, in
evaluation mode: L1, L2, SSIM, and per band of spatial frequency the squared error relative to the
target's square and the share of the amplitude that is reproduced. Draws it with `--out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aelab.assembly.workspace import Workspace
from aelab.ops.subset import said
from aelab.report import plots
from aelab.study.frequency import Measured, frequency_errors, frequency_figure

#: Bands of the table, cycles per pixel: from above the first value up to the second.
BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.72))


def bands(entry: Measured) -> list[str]:
    """`relative error, transfer` of each band, the rings weighted by the target's power."""
    found = entry.by_frequency
    cells = []
    for low, high in BANDS:
        inside = (found.frequency > low) & (found.frequency <= high)
        power = found.target[inside].sum()
        error = found.error[inside].sum() / power
        arrives = (found.transfer[inside] * found.target[inside]).sum() / power
        cells.append(f"{error:.3f}, {arrives:.2f}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the runs")
    parser.add_argument("runs", nargs="*", help="runs or globs below it; default all")
    parser.add_argument("--only", help="glob that a run's name must match")
    parser.add_argument("--state", default="latest", help="latest, best, or images seen")
    parser.add_argument("--out", type=Path, help="draw all runs as this PNG or SVG")
    given = parser.parse_args()
    measured = frequency_errors(
        given.runs, Workspace(given.folder), only=given.only, state=given.state
    )
    heads = [f"{low:g}-{min(high, 0.71):g}" for low, high in BANDS]
    print("| run | L1 | L2 | SSIM | " + " | ".join(heads) + " |")
    print("|:--|--:|--:|--:|" + "--:|" * len(heads))
    for entry in measured:
        numbers = f"{entry.l1:.4f} | {entry.l2:.5f} | {entry.ssim:.3f}"
        print(f"| {entry.run.record['name']} | {numbers} | {' | '.join(bands(entry))} |")
    for line in dict.fromkeys(said(e.images, e.total, "held-out images") for e in measured):
        print(f"\nover {line}")
    if given.out:
        print(plots.save_figure(frequency_figure(measured), given.out))


if __name__ == "__main__":
    main()

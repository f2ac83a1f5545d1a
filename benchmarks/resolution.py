"""Is the extra resolution real? One row a run of `experiments/manifold-resolution.yml`.

    AELAB_DATA=... python benchmarks/resolution.py RUNS_FOLDER [--images 500] [--out FOLDER]

Renders every stored run of the file at twice the size (four times too, where the originals are that
large), compares with the true originals, and prints Markdown. Sheets and the values of each image
are left in the output folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aelab import lab
from aelab.runs.record import Run
from aelab.study.superresolution_score import OF_ORIGINAL, OF_RECONSTRUCTION, RENDER, Scores

FILE = Path(__file__).parents[1] / "experiments" / "manifold-resolution.yml"
HEAD = (
    "| data | decoder | own L2 | size | render, dB | bicubic of reconstruction, dB | render wins "
    "| bicubic of original, dB | render wins |\n|:--|:--|--:|:--|--:|--:|--:|--:|--:|"
)


def row(run: Run, score: Scores) -> str:
    """PSNR of the three pictures, mean ± standard deviation over the images."""
    own = run.status["best"]["loss"]
    cells = [run.record["matrix"]["ds"], run.record["matrix"]["decoder"], f"{own:.5f}"]
    cells += [f"{score.size[1]}x{score.size[0]}", psnr(score, RENDER)]
    for other in (OF_RECONSTRUCTION, OF_ORIGINAL):
        cells += [psnr(score, other), f"{100 * score.wins_over(other):.0f} %"]
    return f"| {' | '.join(cells)} |"


def psnr(score: Scores, picture: str) -> str:
    """Mean ± standard deviation over the images, dB."""
    values = score.errors[picture].psnr
    return f"{float(values.mean()):.2f} ± {float(values.std()):.2f}"


def main() -> None:
    """Scores every stored run of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", help="folder of the runs")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", default="renders")
    given = parser.parse_args()
    print(HEAD)
    for run in lab.find_runs(FILE, runs=given.runs):
        made = lab.render(
            f"{run.folder}@best", truth=True, images=given.images, out=given.out, runs=given.runs
        )
        for score in made.scores:
            print(row(run, score), flush=True)


if __name__ == "__main__":
    main()

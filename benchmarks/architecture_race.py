"""Which architecture reaches a stated error first? Images, seconds and FLOPs, over seeds.

    python benchmarks/architecture_race.py RUNS_FOLDER
    python benchmarks/architecture_race.py RUNS_FOLDER --rates rates.json
    python benchmarks/architecture_race.py RUNS_FOLDER --measure rates.json

Reads the finished runs of experiments/architecture-race.yml and prints Markdown. Where a
validation curve crosses an error is interpolated between two validations, both axes logarithmic. An
error below the first validation of a run is "< images"; one that no validation reached is "-".

FLOPs are three times those of a forward pass, times images; the optimiser's own are not among
them. Seconds are images times the measured CPU seconds of one image (forward, backward and
optimiser; no validation). `--measure` takes one run of each entry, trains it in interleaved windows
in one process on one thread, and writes the median to a file that `--rates` reads.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aelab import config, lab
from aelab.assembly.parts import build, fit_settings
from aelab.assembly.workspace import Workspace
from aelab.runs.record import Run
from aelab.train import fit, make_state
from aelab.types import Images

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "architecture-race.yml"
ERRORS = (0.03, 0.02, 0.015, 0.0125, 0.01, 0.0085)
TERM = "l2"
#: FLOPs of a training step over those of its forward pass.
STEP = 3

#: (images, error) of each validation.
Points = Sequence[tuple[float, float]]


def entry(run: Run) -> str:
    """The name of a run without its seed."""
    values = run.record["matrix"]
    return f"{values['arch']}, {values['setting']}"


def crossing(points: Points, error: float) -> float | None:
    """Images at which the curve first falls to `error`; negative if before the first point."""
    before: tuple[float, float] | None = None
    for images, value in points:
        if value <= error:
            if before is None:
                return -images
            share = math.log(before[1] / error) / math.log(before[1] / value)
            return math.exp(math.log(before[0]) + share * math.log(images / before[0]))
        before = (images, value)
    return None


def validations(run: Run) -> Points:
    """The run's validation curve of the squared error."""
    return [(row["images"], row[TERM]) for row in run.metrics("validation")]


def spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """Mean, and standard deviation where there are several."""
    mean = shown(statistics.mean(values))
    return f"{mean} ± {shown(statistics.stdev(values))}" if len(values) > 1 else mean


def reached(values: Sequence[float | None], scale: float, digits: str) -> str:
    """One cell: mean and spread over the seeds that reached the error, and how many did."""
    got = [abs(value) * scale for value in values if value is not None]
    if not got:
        return "-"
    words = spread(got, lambda value: format(value, digits))
    if any(value is not None and value < 0 for value in values):
        words = f"< {format(max(got), digits)}"
    return words if len(got) == len(values) else f"{words} ({len(got)} of {len(values)})"


def tables(runs: Sequence[Run], rates: dict[str, float]) -> str:
    """The race as Markdown: final errors, then images, FLOPs and seconds to each stated error."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[entry(run)].append(run)
    last = {name: [validations(run)[-1][1] for run in group] for name, group in groups.items()}
    order = sorted(groups, key=lambda name: statistics.mean(last[name]))
    lines = [
        "| entry | parameters | MFLOP an image, forward | ms an image | seeds | L2 at the end |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for name in order:
        record = groups[name][0].record
        ms = f"{1000 * rates[name]:.2f}" if name in rates else "-"
        lines.append(
            f"| {name} | {record['parameters']['model']:,} | {record['flops_per_image'] / 1e6:.1f} "
            f"| {ms} | {len(groups[name])} | {spread(last[name], lambda v: f'{v:.5f}')} |"
        )
    scales: list[tuple[str, str, dict[str, float]]] = [
        ("thousand images", ".1f", dict.fromkeys(order, 1e-3)),
        ("TFLOP", ".2f", {n: STEP * groups[n][0].record["flops_per_image"] / 1e12 for n in order}),
    ]
    if rates:
        scales.append(("CPU seconds", ".1f", rates))
    for unit, digits, scale in scales:
        lines += ["", f"| {unit} to an L2 of | " + " | ".join(map(str, ERRORS)) + " |"]
        lines.append("|:--|" + "--:|" * len(ERRORS))
        for name in order:
            if name not in scale:
                continue
            curves = [validations(run) for run in groups[name]]
            cells = [
                reached([crossing(curve, error) for curve in curves], scale[name], digits)
                for error in ERRORS
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(names: Sequence[str], rounds: int, images: int) -> dict[str, float]:
    """CPU seconds of training one image, median of interleaved windows on one thread."""
    torch.set_num_threads(1)
    pixels = Images(torch.randint(0, 256, (10_000, 1, 28, 28), dtype=torch.uint8))
    windows: dict[str, Callable[[], int]] = {}
    for spec in config.load(EXPERIMENT).runs():
        name = f"{spec.matrix['arch']}, {spec.matrix['setting']}"
        if name in names and name not in windows:
            windows[name] = _window(spec, pixels, images)
    seconds: dict[str, list[float]] = {name: [] for name in windows}
    for number in range(rounds + 1):
        for name, window in windows.items():
            start = time.process_time()
            trained = window()
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - start) / trained)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _window(spec: config.RunSpec, pixels: Images, images: int) -> Callable[[], int]:
    """Trains at least so many images more each time it is called; returns how many."""
    parts = build(spec, Workspace(device="cpu"))
    settings = fit_settings(spec, parts, threads=1)
    state = make_state(parts.model, settings)

    def train() -> int:
        start = state.clock.images
        for _ in fit(
            state,
            parts.objective,
            pixels,
            None,
            settings,
            should_stop=lambda: state.clock.images >= start + images,
        ):
            pass
        return state.clock.images - start

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", help="folder of the runs")
    parser.add_argument("--rates", type=Path, help="file that --measure wrote")
    parser.add_argument("--measure", type=Path, help="measure seconds an image and write them here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=320, help="of a measured window")
    given = parser.parse_args()
    runs = [run for run in lab.find_runs(runs=given.runs) if run.state == "finished"]
    rates: dict[str, float] = {}
    if given.measure:
        rates = measure(list(dict.fromkeys(map(entry, runs))), given.rounds, given.images)
        given.measure.write_text(json.dumps(rates, indent=2) + "\n")
    elif given.rates:
        rates = json.loads(given.rates.read_text())
    print(tables(runs, rates))


if __name__ == "__main__":
    main()

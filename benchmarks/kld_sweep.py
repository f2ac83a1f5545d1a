"""Which claims of document 004's sweep of the KL weight hold in one's own runs?

    aelab run experiments/convvae-mnist.yml --set trials=2
    aelab evaluate "convvae-mnist/*" --all
    python benchmarks/kld_sweep.py RUNS_FOLDER

Prints Markdown: what was measured of every setting (mean over seeds), and each claim with the
numbers that decide it. Which numbers those are stands in the head of the experiment file.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections import defaultdict

from aelab import lab
from aelab.runs.evaluation import evaluated_values

#: Measured values by latent size and KL weight, one entry a seed.
Found = dict[tuple[int, float], list[dict[str, float]]]

SIZES = (16, 256)
WEIGHTS = (0.5, 0.05, 0.005, 0.0005, 0.00005, 0.000005)
#: key -> heading and digits, a table each.
BOUND = {
    "rate_nats": ("rate", 3),
    "distortion_nats": ("distortion", 1),
    "elbo_nats": ("evidence bound", 1),
    "iwae_nats": ("IWAE", 1),
    "active_units": ("active units", 0),
}
QUALITY = {
    "l1": ("L1", 4),
    "ssim": ("SSIM", 3),
    "recall": ("recall", 3),
    "precision": ("precision", 3),
    "diversity": ("diversity", 3),
    "frechet": ("Frechet", 1),
    "knn_latent": ("k-NN", 3),
    "probe_latent": ("probe", 3),
}


def measured(folder: str) -> Found:
    """What `aelab evaluate` stored of every run of the sweep."""
    found: Found = defaultdict(list)
    for run in lab.find_runs(runs=folder):
        values = evaluated_values(run)
        if values:
            matrix = run.record["matrix"]
            found[int(matrix["ls"]), float(matrix["kldw"])].append(values)
    return dict(found)


def mean(entries: list[dict[str, float]], key: str) -> float:
    """Over the seeds that have it; not a number where none has."""
    values = [entry[key] for entry in entries if key in entry]
    return sum(values) / len(values) if values else math.nan


def spread(entries: list[dict[str, float]], key: str) -> float:
    """Largest minus smallest over seeds; 0 of a single one."""
    values = [entry[key] for entry in entries if key in entry]
    return max(values, default=0.0) - min(values, default=0.0)


def word(weight: float) -> str:
    """0.00005 -> 5e-5."""
    digits, _, exponent = f"{weight:.0e}".partition("e")
    return f"{digits}e{int(exponent)}"


def table(found: Found, columns: dict[str, tuple[str, int]]) -> list[str]:
    """Every setting: means, and the standard deviation over seeds where there are several."""
    lines = ["| latent | weight | seeds | " + " | ".join(h for h, _ in columns.values()) + " |"]
    lines.append("|" + "--:|" * (len(columns) + 3))
    order = sorted(found, key=lambda setting: (setting[0], -setting[1]))
    for size, weight in order:
        entries, cells = found[size, weight], []
        for key, (_, digits) in columns.items():
            text = f"{mean(entries, key):.{digits}f}"
            if sum(key in entry for entry in entries) > 1:
                values = [entry[key] for entry in entries if key in entry]
                text += f" ± {statistics.stdev(values):.{digits}f}"
            cells.append(text)
        lines.append(f"| {size} | {word(weight)} | {len(entries)} | " + " | ".join(cells) + " |")
    return lines


def collapsed(entries: list[dict[str, float]]) -> bool:
    """Rate below 0.1 nats and no active unit."""
    return mean(entries, "rate_nats") < 0.1 and mean(entries, "active_units") == 0


def collapse(found: Found) -> str:
    """Claim 1."""
    rows = {key: collapsed(entries) for key, entries in found.items()}
    holds = all(value == (weight >= 0.05) for (_, weight), value in rows.items())
    named = ", ".join(f"{size} at {word(weight)}" for (size, weight), v in rows.items() if v)
    return f"{_says(holds)}: collapsed are {named or 'none'}"


def most_diverse(found: Found) -> str:
    """Claim 2."""
    answers = []
    for size in SIZES:
        recall = {w: mean(found[size, w], "recall") for w in WEIGHTS if (size, w) in found}
        best = max(recall, key=lambda weight: recall[weight])
        ratio = mean(found[size, 0.005], "l1") / mean(found[size, 0.0005], "l1")
        holds = best == 0.005 and ratio <= 1.5
        answers.append(
            f"{_says(holds)} for {size}: highest recall {recall[best]:.3f} at {word(best)}, "
            f"{recall[0.005]:.3f} at 5e-3; L1 at 5e-3 is {ratio:.2f} times that at 5e-4"
        )
    return "; ".join(answers)


def no_difference(found: Found) -> str:
    """Claim 3."""
    answers = []
    for size in SIZES:
        steps = []
        for left, right in itertools.pairwise(WEIGHTS[2:]):
            step = abs(mean(found[size, left], "ssim") - mean(found[size, right], "ssim"))
            seeds = max(spread(found[size, w], "ssim") for w in (left, right))
            steps.append((step < max(0.02, seeds), f"{word(left)}-{word(right)} {step:.3f}"))
        shown = ", ".join(text for _, text in steps)
        answers.append(f"{_says(all(ok for ok, _ in steps))} for {size}: SSIM differs by {shown}")
    return "; ".join(answers)


def no_better_separated(found: Found) -> str:
    """Claim 4."""
    answers = []
    for weight in WEIGHTS:
        small, large = found.get((16, weight)), found.get((256, weight))
        if small is None or large is None or collapsed(small) or collapsed(large):
            continue
        parts, holds = [], True
        for key in ("knn_latent", "probe_latent"):
            gain = mean(large, key) - mean(small, key)
            seeds = max(spread(small, key), spread(large, key))
            holds = holds and gain <= seeds
            parts.append(f"{key} {gain:+.3f} (seeds {seeds:.3f})")
        answers.append(f"{_says(holds)} at {word(weight)}: {', '.join(parts)}")
    return "; ".join(answers)


def _says(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def main() -> None:
    """Reads the folder and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    found = measured(parser.parse_args().folder)
    for columns in (BOUND, QUALITY):
        print("\n".join(table(found, columns)), end="\n\n")
    claims = (collapse, most_diverse, no_difference, no_better_separated)
    for number, claim in enumerate(claims, start=1):
        print(f"{number}. {claim(found)}")


if __name__ == "__main__":
    main()

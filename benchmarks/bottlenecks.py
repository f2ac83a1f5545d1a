"""Bits an image and error of the stored runs of `experiments/bottlenecks.yml`.

    AELAB_DATA=... python benchmarks/bottlenecks.py RUNS_FOLDER

Prints Markdown, the mean over seeds. The rate of a Gaussian is its KL divergence, and belongs to
sampled latents; the L1 of their mean, which the table of the runs shows, has no finite rate.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

import torch

from aelab import open_model
from aelab.data import mnist_dataset
from aelab.ops.random import keyed_seed
from aelab.runs.store import Store

BATCH = 500


def measure(folder: str, name: str, pixels: torch.Tensor) -> dict[str, float]:
    """Rates in bits an image, L1 of mean and of sampled latents, over held-out images."""
    model = open_model(f"{name}@latest", runs=folder)
    noise = torch.Generator().manual_seed(keyed_seed(0, "bottlenecks", 0))
    found: dict[str, float] = defaultdict(float)
    counts = torch.zeros(getattr(model, "codebook_size", None) or 1, dtype=torch.int64)
    per_image = 0
    with torch.no_grad():
        for start in range(0, len(pixels), BATCH):
            images = pixels[start : start + BATCH] / 255
            share = len(images) / len(pixels)
            output = model(images)
            found["l1"] += share * (output.reconstruction - images).abs().mean().item()
            if model.noise_shape is not None:
                numbers = torch.randn(len(images), *model.noise_shape, generator=noise)
                sampled = model(images, numbers).reconstruction
                found["sampled"] += share * (sampled - images).abs().mean().item()
                mean, log_std = output.posterior["mean"], output.posterior["log_std"]
                kl = 0.5 * (mean.square() + torch.expm1(2 * log_std) - 2 * log_std)
                found["bits"] += share * kl.sum(dim=1).mean().item() / math.log(2)
            if "index" in output.posterior:
                index = output.posterior["index"]
                per_image = index.shape[1]
                counts += torch.bincount(index.reshape(-1), minlength=len(counts))
    if per_image:
        shares = counts / counts.sum()
        entropy = -torch.xlogy(shares, shares).sum().item()
        found["bits"] = per_image * math.log2(len(counts))
        found["entropy bits"] = per_image * entropy / math.log(2)
        found["used"] = (counts > 0).float().mean().item()
        found["perplexity"] = math.exp(entropy)
    return dict(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", help="folder of the runs")
    folder = parser.parse_args().runs
    pixels = mnist_dataset(train=False, shape=(1, 28, 28)).load().pixels
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for run in Store(folder).list():
        groups[run.record["matrix"]["bottleneck"]].append(measure(folder, run.folder, pixels))
    columns = ("l1", "sampled", "bits", "entropy bits", "used", "perplexity")
    print("| bottleneck | runs | " + " | ".join(columns) + " |")
    print("|:--|--:|" + "--:|" * len(columns))
    for name, rows in groups.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows if column in row]
            mean = sum(values) / len(values) if values else None
            spread = f" ({min(values):.4g} to {max(values):.4g})" if values else ""
            cells.append("" if mean is None else f"{mean:.4g}{spread}")
        print(f"| {name} | {len(rows)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

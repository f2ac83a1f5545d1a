"""How much an image's reconstruction depends on the images beside it in the batch.

    AELAB_DATA=... python benchmarks/company.py RUNS_FOLDER [GLOB ...]

Prints Markdown, one row a stored MNIST run: L1 in evaluation mode (no dropout) over the same 1,024
held-out images in batches of several kinds, and how far apart two reconstructions of one image lie
(mean |difference| of pixels) when nothing but its company changes. Images without company are
batches of one. A model that sees one image at a time has one L1 and no differences.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aelab import open_model
from aelab.data import mnist_dataset
from aelab.runs.store import Store

COUNT = 1024
BATCH = 64


def reconstruct(model: nn.Module, images: Tensor, order: Tensor, size: int) -> Tensor:
    """Every image once, in batches of `size` taken in `order`; in the images' own order."""
    result = torch.empty_like(images)
    with torch.no_grad():
        for part in order.split(size):
            result[part] = model(images[part]).reconstruction
    return result


def among(model: nn.Module, images: Tensor, company: Tensor) -> Tensor:
    """Every image once, each with the same `company` beside it."""
    with torch.no_grad():
        alone = (torch.cat([image[None], company]) for image in images)
        return torch.cat([model(batch).reconstruction[:1] for batch in alone])


def measure(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[float]:
    """The numbers of a row, in the order of the header."""
    random = torch.Generator().manual_seed(0)
    in_order = reconstruct(model, images, torch.arange(COUNT), BATCH)
    shuffled = [
        reconstruct(model, images, torch.randperm(COUNT, generator=random), BATCH) for _ in range(2)
    ]
    sorted_by_digit = reconstruct(model, images, labels.argsort(stable=True), BATCH)
    alone = reconstruct(model, images, torch.arange(COUNT), 1)
    whole = reconstruct(model, images, torch.arange(COUNT), COUNT)
    for made in (in_order, shuffled[0], sorted_by_digit, whole, alone):
        yield (made - images).abs().mean().item()
    yield (shuffled[0] - shuffled[1]).abs().mean().item()
    zeros, ones = (images[labels == digit][: BATCH - 1] for digit in (0, 1))
    some = images[:128]
    yield (among(model, some, zeros) - among(model, some, ones)).abs().mean().item()


HEADER = [
    "run", "L1, 64 in order", "64 shuffled", "64 by digit", f"{COUNT:,} at once", "alone",
    "change: other 63", "change: 63 zeros to 63 ones",
]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs")
    parser.add_argument("only", nargs="*", default=["*"])
    arguments = parser.parse_args()
    held_out = mnist_dataset(train=False, shape=(1, 28, 28)).load()
    images = held_out.pixels[:COUNT].float() / 255
    labels = held_out.labels
    assert labels is not None  # MNIST has them
    print("| " + " | ".join(HEADER) + " |")
    print("|:--|" + "--:|" * (len(HEADER) - 1))
    for run in Store(arguments.runs).select(arguments.only):
        if run.state == "finished":
            model = open_model(f"{run.folder}@latest", runs=arguments.runs)
            numbers = [f"{value:.4f}" for value in measure(model, images, labels[:COUNT])]
            print(f"| {run.folder} | " + " | ".join(numbers) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Memory and time of `HistogramLoss` against the formula as the documents' system computed it.

    python benchmarks/histogram.py [--rounds 5] [--check]

A batch of 64 images of 3x32x32, forward and backward, one thread. Time: both in this process, in
turning order. Memory: the peak of each in a process of its own, above what it had before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from aelab.founding.losses import HistogramLoss

#: (bins, sigma) of the document.
SETTINGS = ((50, 200), (100, 100), (200, 50), (200, 200))
SHAPE = (64, 3, 32, 32)
#: At least so many times less memory and time than the direct form, with 200 bins.
TARGET = 4.0


class Direct(nn.Module):
    """Every difference of sigmoids at once: (B * C, bins, H * W) numbers, several times."""

    def __init__(self, bins: int, sigma: float) -> None:
        super().__init__()
        self.bins, self.sigma = bins, sigma

    def counts(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * C, bins)."""
        delta = 1 / self.bins
        centres = delta * (torch.arange(self.bins) + 0.5)
        away = images.flatten(0, 1).flatten(1)[:, None, :] - centres[None, :, None]
        upper = torch.sigmoid(self.sigma * (away + delta / 2))
        return (upper - torch.sigmoid(self.sigma * (away - delta / 2))).sum(-1)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """One value for the batch."""
        return (self.counts(output) - self.counts(target)).abs().mean()


def make(kind: str, bins: int, sigma: float) -> nn.Module:
    """The module of that kind."""
    if kind == "direct":
        return Direct(bins, sigma)
    return HistogramLoss(bins, sigma=sigma, normalize=False)


def once(module: nn.Module, output: Tensor, target: Tensor) -> float:
    """Seconds of a forward and a backward pass."""
    output.grad = None
    started = time.perf_counter()
    module(output, target).mean().backward()
    return time.perf_counter() - started


def batch() -> tuple[Tensor, Tensor]:
    """A reconstruction that wants gradients, and a target."""
    generator = torch.Generator().manual_seed(0)
    output = torch.rand(SHAPE, generator=generator, requires_grad=True)
    return output, torch.rand(SHAPE, generator=generator)


def peak_mb(kind: str, bins: int, sigma: float) -> float:
    """Peak memory of two passes above what the process had before, in a fresh process."""
    command = [sys.executable, __file__, "--measure", kind, str(bins), str(sigma)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(kind: str, bins: int, sigma: float) -> None:
    """What the fresh process does."""
    output, target = batch()
    once(make(kind, 2, sigma), output, target)  # what torch itself allocates once
    before = peak_kb()
    for _ in range(2):
        once(make(kind, bins, sigma), output, target)
    print((peak_kb() - before) / 1024)


def peak_kb() -> int:
    """Most memory that this process has held so far (Linux; `getrusage` keeps the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help=f"exit with 1 below {TARGET} times")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        measure(given.measure[0], int(given.measure[1]), float(given.measure[2]))
        return
    output, target = batch()
    print("| bins | sigma | direct, ms | ours, ms | ratio | direct, MB | ours, MB |")
    print("|--:|--:|--:|--:|---|--:|--:|")
    enough = True
    for bins, sigma in SETTINGS:
        modules = {kind: make(kind, bins, sigma) for kind in ("direct", "ours")}
        seconds: dict[str, list[float]] = {kind: [] for kind in modules}
        for number in range(given.rounds + 1):
            kinds = list(modules) if number % 2 else list(modules)[::-1]
            for kind in kinds:
                taken = once(modules[kind], output, target)
                if number:  # the first warms up
                    seconds[kind].append(taken)
        pairs = zip(seconds["direct"], seconds["ours"], strict=True)
        ratios = sorted(direct / ours for direct, ours in pairs)
        ms = {kind: 1e3 * statistics.median(values) for kind, values in seconds.items()}
        memory = {kind: peak_mb(kind, bins, sigma) for kind in modules}
        middle = statistics.median(ratios)
        enough &= bins < 200 or min(middle, memory["direct"] / max(memory["ours"], 1)) >= TARGET
        print(
            f"| {bins} | {sigma} | {ms['direct']:.0f} | {ms['ours']:.0f} | **{middle:.1f}** "
            f"[{ratios[0]:.1f} .. {ratios[-1]:.1f}] "
            f"| {memory['direct']:.0f} | {memory['ours']:.0f} |"
        )
    if given.check and not enough:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What `on_nan: rollback` costs while nothing goes wrong: copies of good states, and looks at them.

    python benchmarks/guard.py [--images N] [--rounds N] [--check]

The same training with and without it, in turns, in one process; CPU seconds of the process, so that
other programs disturb little. Prints one row a model: the median of the ratios, and their range.
`--check` exits with 1 where a median is above 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from aelab.losses import make_objective
from aelab.models import (
    DecoderConv2d,
    DecoderMLP,
    EncoderConv2d,
    EncoderDecoder,
    EncoderMLP,
)
from aelab.train import FitSettings, fit, make_state
from aelab.types import Images, TermSpec

SHAPE = (1, 28, 28)


def conv() -> nn.Module:
    """Convolutions: much work a weight, so that copies cost least."""
    return EncoderDecoder(
        EncoderConv2d(SHAPE, code_size=32, channels=(16, 24)),
        DecoderConv2d(SHAPE, code_size=32, channels=(24, 16)),
    )


def mlp() -> nn.Module:
    """Linear layers: little work a weight, so that copies cost most."""
    return EncoderDecoder(EncoderMLP(SHAPE, code_size=32), DecoderMLP(SHAPE, code_size=32))


MODELS: dict[str, Callable[[], nn.Module]] = {"conv": conv, "mlp": mlp}


def seconds(make: Callable[[], nn.Module], on_nan: str, images: int, batch_size: int) -> float:
    """CPU seconds of one training."""
    torch.manual_seed(0)
    settings = FitSettings(
        batch_size=batch_size,
        learnrate=1e-3,
        max_images=images,
        log_every_images=1000,
        threads=1,
        on_nan=on_nan,  # type: ignore[arg-type]
    )
    pixels = torch.randint(0, 256, (4096, *SHAPE), dtype=torch.uint8)
    state = make_state(make(), settings)
    objective = make_objective((TermSpec("l1", "l1", 1.0),))
    start = time.process_time()
    for _ in fit(state, objective, Images(pixels), None, settings):
        pass
    return time.process_time() - start


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    worst = 0.0
    print("| model | batch | states kept | cost, median (range) |\n|:--|--:|--:|--:|")
    for name, make in MODELS.items():
        for batch_size in (16, 64):
            seconds(make, "stop", 4000, batch_size)
            ratios = []
            for turn in range(chosen.rounds):
                taken = {}
                for on_nan in ("stop", "rollback")[:: 1 if turn % 2 else -1]:
                    taken[on_nan] = seconds(make, on_nan, chosen.images, batch_size)
                ratios.append(taken["rollback"] / taken["stop"] - 1)
            ratios.sort()
            worst = max(worst, statistics.median(ratios))
            kept = chosen.images // (batch_size * 100)
            print(
                f"| {name} | {batch_size} | {kept} | {statistics.median(ratios):+.2%} "
                f"({ratios[0]:+.2%} to {ratios[-1]:+.2%}) |",
                flush=True,
            )
    if chosen.check and worst > 0.02:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

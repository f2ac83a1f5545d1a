"""What `on_nan: rollback` costs while nothing goes wrong: copies of good states, and looks at them.

    python benchmarks/guard.py [--images N] [--rounds N] [--check]

The share of a training's CPU seconds that is spent in the guard, looks for the log included, which
every run makes: so an upper bound. Measured inside of one training, so that other programs disturb
little. Prints one row a model: the median share, and the range over rounds. `--check` exits with 1
where a median is above 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

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
from aelab.train.guard.guard import Guard
from aelab.train.guard.ring import APART
from aelab.types import Images, TermSpec

SHAPE = (1, 28, 28)
PLAIN = {name: getattr(Guard, name) for name in ("keep", "failures", "keep_due")}


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


class Spent:
    """CPU seconds in functions wrapped with `timed`; calls inside of each other count once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is added up."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            start, self._depth = time.process_time(), self._depth + 1
            try:
                return function(*arguments, **keywords)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - start

        return call


def share(make: Callable[[], nn.Module], images: int, batch_size: int) -> float:
    """The share of one training that the guard takes."""
    torch.manual_seed(0)
    settings = FitSettings(
        batch_size=batch_size,
        learnrate=1e-3,
        precision="float32",
        max_images=images,
        log_every_images=1000,
        threads=1,
        on_nan="rollback",  # type: ignore[arg-type]
    )
    pixels = torch.randint(0, 256, (4096, *SHAPE), dtype=torch.uint8)
    state = make_state(make(), settings)
    objective = make_objective((TermSpec("l1", "l1", 1.0),))
    spent = Spent()
    for name in ("keep", "failures", "keep_due"):
        setattr(Guard, name, spent.timed(PLAIN[name]))
    start = time.process_time()
    for _ in fit(state, objective, Images(pixels), None, settings):
        pass
    return spent.seconds / (time.process_time() - start)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    worst = 0.0
    print("| model | batch | states kept | share, median (range) |\n|:--|--:|--:|--:|")
    for name, make in MODELS.items():
        for batch_size in (16, 64):
            share(make, 2000, batch_size)  # warm-up
            shares = sorted(share(make, chosen.images, batch_size) for _ in range(chosen.rounds))
            median = statistics.median(shares)
            worst = max(worst, median)
            kept = chosen.images // (batch_size * APART) + 1
            print(
                f"| {name} | {batch_size} | {kept} | {median:.2%} "
                f"({shares[0]:.2%} to {shares[-1]:.2%}) |",
                flush=True,
            )
    if chosen.check and worst > 0.02:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

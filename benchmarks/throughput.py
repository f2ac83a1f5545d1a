"""Images per second of the product's own loop against a bare eager PyTorch loop: a ratio.

Both train the variational autoencoder of document 000 for 28-pixel images (convolutions
1-16-24-32, latent 128, 4,034,705 parameters; L1 + KL; batch 64; Adam; cosine schedule) on the same
generated images, in one process, on one thread, in interleaved windows. CPU seconds are counted,
because they survive other load on the machine better than the clock on the wall.

The reference is what one writes by hand: plain modules, NCHW, `torch.optim.Adam` as it comes,
resident uint8 images gathered by batch, no DataLoader to slow it down.

`fit` tells glibc to keep freed memory, and that holds for the whole process. The reference's
windows put back the thresholds that glibc reaches by itself in this loop (the largest freed block,
7.6 MiB; trim at twice that). The heap stays grown all the same, so in one process the reference
profits from the product's allocator; `--processes` gives each its own and shows the whole gain.

    python benchmarks/throughput.py                the ratio (target: at least 1.2)
    python benchmarks/throughput.py --parts        what each part of the gain gives
    python benchmarks/throughput.py --processes    each variant in processes of its own
    python benchmarks/throughput.py --at-least 1.2 exit code 1 below that
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.inspect import count_parameters
from aelab.losses import make_objective
from aelab.models import (
    DecoderConv2d,
    EncoderConv2d,
    VariationalAutoencoder,
    VariationalEncoder,
)
from aelab.train import FitSettings, fit, keep_freed_memory, make_state
from aelab.types import Images

BATCH, LATENT, IMAGES = 64, 128, 1_000_000
SHAPE = (1, 28, 28)
PARAMETERS = 4_034_705

#: Trains so many batches.
Window = Callable[[int], None]


class Bare(nn.Module):
    """The same architecture as one writes it by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(),
            nn.Conv2d(24, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 22 * 22, LATENT),
        )  # fmt: skip
        self.mean = nn.Linear(LATENT, LATENT)
        self.log_std = nn.Linear(LATENT, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 32 * 22 * 22), nn.Unflatten(1, (32, 22, 22)),
            nn.ConvTranspose2d(32, 24, 3), nn.ReLU(), nn.ConvTranspose2d(24, 16, 3), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encoder(images)
        mean, log_std = self.mean(features), self.log_std(features)
        latent = mean + log_std.exp() * torch.randn_like(mean)
        return self.decoder(latent), mean, log_std


def bare_loop(pixels: Tensor, *, fused: bool = False, channels_last: bool = False) -> Window:
    """The reference; `fused` and `channels_last` only to tell the parts of the gain apart."""
    model = Bare()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    options = {"fused": True} if fused else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, IMAGES // BATCH)
    assert count_parameters(model)["model"] == PARAMETERS

    def train(batches: int) -> None:
        for _ in range(batches):
            batch = pixels[torch.randint(len(pixels), (BATCH,))].float() / 255
            batch = batch.to(memory_format=layout)
            output, mean, log_std = model(batch)
            kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1).mean()
            loss = F.l1_loss(output, batch) + kl / batch[0].numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    return train


def product_loop(pixels: Tensor, **changes: object) -> Window:
    """`aelab.train.fit` on the product's own model and objective."""
    encoder = EncoderConv2d(SHAPE, code_size=LATENT, channels=(16, 24, 32), kernel_size=3)
    decoder = DecoderConv2d(SHAPE, code_size=LATENT, channels=(32, 24, 16), kernel_size=3)
    weight = 1 / (SHAPE[1] * SHAPE[2])
    model = VariationalAutoencoder(
        VariationalEncoder(encoder, LATENT, LATENT),
        decoder,
        reconstruction_loss="l1",
        kl_loss_weight=weight,
    )
    assert count_parameters(model)["model"] == PARAMETERS
    settings = FitSettings(
        batch_size=BATCH,
        learnrate=3e-4,
        precision="float32",
        max_images=IMAGES,
        scheduler=("CosineAnnealingLR", {}),  # type: ignore[arg-type]
        threads=torch.get_num_threads(),
        **changes,  # type: ignore[arg-type]
    )
    state = make_state(model, settings)
    objective = make_objective(model.terms)

    def train(batches: int) -> None:
        last = state.clock.batches + batches
        for _ in fit(
            state,
            objective,
            Images(pixels),
            None,
            settings,
            should_stop=lambda: state.clock.batches >= last,
        ):
            pass

    return train


def as_glibc_comes(window: Window) -> Window:
    """`window` under the thresholds that glibc's own adaptation settles at in the bare loop."""
    largest_freed = LATENT * 32 * 22 * 22 * 4  # bytes of one linear layer's gradient

    def train(batches: int) -> None:
        if platform.libc_ver()[0] == "glibc":
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-3, largest_freed)  # M_MMAP_THRESHOLD
            mallopt(-1, 2 * largest_freed)  # M_TRIM_THRESHOLD
        window(batches)

    return train


def keeping_memory(window: Window) -> Window:
    """`window` with the product's allocator settings."""

    def train(batches: int) -> None:
        keep_freed_memory()
        window(batches)

    return train


def rate(window: Window, batches: int) -> tuple[float, float]:
    """Images per CPU second and per second on the wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    window(batches)
    images = batches * BATCH
    return images / (time.process_time() - cpu), images / (time.perf_counter() - wall)


def compare(variants: dict[str, Window], rounds: int, batches: int) -> dict[str, list[float]]:
    """Images per CPU second of every variant in every round; the order turns each round."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for window in variants.values():
        window(3)
    for number in range(rounds):
        names = list(variants)
        names = names[number % len(names) :] + names[: number % len(names)]
        for name in names:
            rates[name].append(rate(variants[name], batches)[0])
    return rates


def compare_processes(rounds: int, batches: int, threads: int) -> dict[str, list[float]]:
    """As `compare`, each window in a fresh process."""
    rates: dict[str, list[float]] = {"bare loop": [], "aelab fit": []}
    for number in range(rounds):
        names = list(rates) if number % 2 else list(rates)[::-1]
        for name in names:
            command = [sys.executable, __file__, "--only", name, "--batches", str(batches)]
            command += ["--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rates[name].append(float(done.stdout))
    return rates


def report(rates: dict[str, list[float]], reference: str) -> float:
    """Prints a table; returns the median ratio of the last variant."""
    print(f"{'variant':44} img/s (median)   ratio to {reference} [range]")
    median = 0.0
    for name, values in rates.items():
        ratios = [v / r for v, r in zip(values, rates[reference], strict=True)]
        median = statistics.median(ratios)
        spread = f"[{min(ratios):.2f} .. {max(ratios):.2f}]"
        print(f"{name:44} {statistics.median(values):14.0f}   {median:5.2f} {spread}")
    return median


def variants_of(pixels: Tensor, parts: bool) -> dict[str, Window]:
    """Bare loop and product; with `parts` also what lies between."""
    bare = bare_loop(pixels)
    variants = {"bare loop": as_glibc_comes(bare)}
    if parts:
        fused = bare_loop(pixels, fused=True)
        nhwc = bare_loop(pixels, fused=True, channels_last=True)
        variants["bare + kept memory"] = keeping_memory(bare)
        variants["bare + kept memory + fused Adam"] = keeping_memory(fused)
        variants["bare + kept memory + fused + channels-last"] = keeping_memory(nhwc)
        variants["aelab fit, NCHW"] = product_loop(pixels, channels_last=False)
    return variants | {"aelab fit": product_loop(pixels)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=12, help="per window")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", action="store_true", help="tell the parts of the gain apart")
    parser.add_argument("--at-least", type=float, help="exit code 1 if the ratio is below")
    parser.add_argument("--processes", action="store_true", help="a fresh process a window")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (10_000, *SHAPE), dtype=torch.uint8)
    if given.only:
        window = bare_loop(pixels) if given.only == "bare loop" else product_loop(pixels)
        window(3)
        print(rate(window, given.batches)[0])
        return 0
    print(f"torch {torch.__version__}, {given.threads} thread(s), batch {BATCH}, ", end="")
    print(f"{given.rounds} rounds of {given.batches} batches, images per CPU second")
    if given.processes:
        rates = compare_processes(given.rounds, given.batches, given.threads)
    else:
        rates = compare(variants_of(pixels, given.parts), given.rounds, given.batches)
    ratio = report(rates, "bare loop")
    if given.at_least is not None and ratio < given.at_least:
        print(f"below {given.at_least}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

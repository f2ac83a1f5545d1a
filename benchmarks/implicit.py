"""Images per second of `ImageManifoldDecoder`, forward and backward, against a loop over images.

The reference is the documents' form written plainly: for each image concat(latent, position code)
for all pixels, linear layers with GELU, `torch.nn.BatchNorm1d` over the pixels of this image,
residual sums, sigmoid. Both have the same weights and train on the same targets (mean square), in
one process, in interleaved windows. CPU seconds are counted on a CPU, the wall on a GPU.

    python benchmarks/implicit.py                       all settings, chunks 1, 4, 16
    python benchmarks/implicit.py --settings 8x2x128    one of them
    python benchmarks/implicit.py --presets             the better decoders as well
    python benchmarks/implicit.py --device cuda         target there: 20 times the loop
    python benchmarks/implicit.py --at-least 1          exit code 1 if the default chunk is slower
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.models import (
    ImageManifoldDecoder,
    anti_aliased_decoder,
    fast_implicit_decoder,
    film_decoder,
    fourier_decoder,
    siren_decoder,
)
from aelab.train import keep_freed_memory

LATENT, CHANNELS, SIZE = 128, 3, 32
#: blocks, layers of each, hidden; the documents' main settings.
SETTINGS = {"8x2x128": (8, 2, 128), "4x2x64": (4, 2, 64), "2x2x256": (2, 2, 256)}

#: The better decoders, as they come.
PRESETS = (
    fourier_decoder,
    siren_decoder,
    film_decoder,
    anti_aliased_decoder,
    fast_implicit_decoder,
)

#: One batch forward and backward; returns the loss.
Step = Callable[[], float]


class PlainBlock(nn.Module):
    """Batch normalisation, linear layers with GELU, and the input added."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.BatchNorm1d(hidden)]
        for _ in range(layers):
            parts += [nn.Linear(hidden, hidden), nn.GELU()]
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.parts(x)


class PlainLoop(nn.Module):
    """The documents' decoder as one writes it by hand: one image after the other."""

    def __init__(self, blocks: int, layers: int, hidden: int) -> None:
        super().__init__()
        axis = torch.linspace(-1, 1, SIZE)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        p = torch.stack((x.flatten(), y.flatten()), dim=1)
        waves = [function(f * p) for function in (torch.sin, torch.cos) for f in (7, 17)]
        self.register_buffer("code", torch.cat((p, *waves), dim=1))
        self.network = nn.Sequential(
            nn.Linear(LATENT + 10, hidden),
            nn.GELU(),
            *(PlainBlock(hidden, layers) for _ in range(blocks)),
            nn.Linear(hidden, CHANNELS),
            nn.Sigmoid(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        images = []
        for one in latent:
            inputs = torch.cat((one.expand(len(self.code), -1), self.code), dim=1)
            images.append(self.network(inputs).T.reshape(CHANNELS, SIZE, SIZE))
        return torch.stack(images)


def product(blocks: int, layers: int, hidden: int, chunk: int | None) -> ImageManifoldDecoder:
    """The product's decoder with the documents' settings."""
    return ImageManifoldDecoder(
        LATENT, CHANNELS, hidden, blocks, layers, default_shape=(SIZE, SIZE), chunk=chunk
    )


def copy_weights(loop: PlainLoop, decoder: ImageManifoldDecoder) -> None:
    """Gives the product the loop's weights."""
    first, _, *blocks, last, _ = loop.network
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (first, decoder.inputs.linear),
        (last, decoder.linear_out),
    ]
    for theirs, own in zip(blocks, decoder.blocks, strict=True):
        norm, *layers = theirs.parts
        pairs.append((norm, own.norm))
        pairs += zip(layers[::2], own.linears, strict=True)
    for source, target in pairs:
        target.load_state_dict(source.state_dict())


def variants_of(setting: str, chunks: list[int], presets: bool) -> dict[str, nn.Module]:
    """The loop first, then the product with each chunk and the same weights."""
    loop = PlainLoop(*SETTINGS[setting])
    variants: dict[str, nn.Module] = {"loop over images": loop}
    for chunk in [*chunks, None]:
        decoder = product(*SETTINGS[setting], chunk)
        copy_weights(loop, decoder)
        variants[f"chunk {chunk or 'as it comes'}"] = decoder
    if presets:
        shape = (CHANNELS, SIZE, SIZE)
        variants |= {make.__name__: make(shape, LATENT) for make in PRESETS}
    return variants


def step_of(decoder: nn.Module, latent: Tensor, target: Tensor) -> Step:
    """Forward and backward, with gradients for weights and latent."""
    decoder.to(latent.device).train()

    def step() -> float:
        decoder.zero_grad(set_to_none=True)
        given = latent.clone().requires_grad_()
        loss = F.mse_loss(decoder(given), target)
        loss.backward()
        return loss.item()

    return step


def seconds(step: Step, repeats: int, device: str) -> float:
    """CPU seconds of one step; wall seconds on another device (`item` waits for it)."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    for _ in range(repeats):
        step()
    return (clock() - start) / repeats


def compare(
    steps: dict[str, Step], rounds: int, repeats: int, device: str
) -> dict[str, list[float]]:
    """Seconds of every variant in every round; the order turns each round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for number in range(rounds):
        names = list(steps)
        names = names[number % len(names) :] + names[: number % len(names)]
        for name in names:
            times[name].append(seconds(steps[name], repeats, device))
    return times


def report(times: dict[str, list[float]], batch: int) -> dict[str, float]:
    """Prints a table; returns the median ratio of each variant to the loop."""
    reference = times["loop over images"]
    medians = {}
    for name, values in times.items():
        ratios = [r / v for r, v in zip(reference, values, strict=True)]
        medians[name] = statistics.median(ratios)
        spread = f"[{min(ratios):.2f} .. {max(ratios):.2f}]"
        rate = batch / statistics.median(values)
        print(f"  {name:24} {rate:10.1f} img/s {medians[name]:7.2f} {spread}")
    return medians


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--chunks", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--presets", action="store_true", help="the better decoders too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1, help="batches a window")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at-least", type=float, help="exit code 1 if the default chunk is below")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # for the loop as well: it is not what is measured here
    latent = torch.randn(given.batch, LATENT, device=given.device)
    target = torch.rand(given.batch, CHANNELS, SIZE, SIZE, device=given.device)
    print(f"torch {torch.__version__}, {given.device}, {given.threads} thread(s), ", end="")
    print(f"batch {given.batch}, {given.rounds} rounds; ratio of images/s to the loop")
    is_fast = True
    for setting in given.settings:
        print(f"{setting} (blocks x layers x hidden), {SIZE}x{SIZE}, latent {LATENT}")
        variants = variants_of(setting, given.chunks, given.presets)
        steps = {name: step_of(decoder, latent, target) for name, decoder in variants.items()}
        ratio = report(compare(steps, given.rounds, given.repeats, given.device), given.batch)
        is_fast = is_fast and ratio["chunk as it comes"] >= (given.at_least or 0)
    if not is_fast:
        print(f"below {given.at_least}", file=sys.stderr)
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())

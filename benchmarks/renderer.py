"""Pictures per second of `FontRenderer` against drawing with Pillow, by character and by line.

    python benchmarks/renderer.py [--grid 32] [--font-res 9] [--rounds 7] [--check]

Batches of random grids, in the font's own cell, one thread, CPU seconds, in turning order each
round. Ratios are to Pillow by line, the faster of both. Learned is onehot2raa; its weights
are trained before the clock starts. What Pillow draws includes the way into one float tensor.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from aelab.ascii.glyphs import (
    ALPHABET,
    find_font,
    font_renderer,
    learned_renderer,
    match_glyphs,
    to_lines,
)

#: Hard rendering at least so many times as fast as Pillow by line.
TARGET = 2.0


def with_pillow(numbers: Tensor, font_res: int, by_line: bool) -> Tensor:
    """(B, H, W) -> (B, 1, H * h, W * w), 0..1, one call of Pillow a line or a character."""
    font = ImageFont.truetype(str(find_font()), font_res, layout_engine=ImageFont.Layout.BASIC)
    height, width = font_renderer(font_res).cell
    pages = []
    for grid in numbers:
        page = Image.new("L", (grid.shape[1] * width, grid.shape[0] * height), 255)
        draw = ImageDraw.Draw(page)
        for row, line in enumerate(to_lines(grid)):
            pieces = [line] if by_line else line
            for column, text in enumerate(pieces):
                draw.text((column * width, row * height), text, fill=0, font=font)
        pages.append(np.asarray(page))
    return torch.from_numpy(np.stack(pages))[:, None].float() / 255


def ways(numbers: Tensor, font_res: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the reference first."""
    renderer, learned = font_renderer(font_res), learned_renderer(font_res)
    one_hots = F.one_hot(numbers, len(ALPHABET)).permute(0, 3, 1, 2).float().contiguous()
    wanted = one_hots.clone().requires_grad_()
    pictures, shape = renderer.draw(numbers), (numbers.shape[1], numbers.shape[2])
    return {
        "Pillow, by line": lambda: with_pillow(numbers, font_res, True),
        "Pillow, by character": lambda: with_pillow(numbers, font_res, False),
        "`draw` (hard)": lambda: renderer.draw(numbers),
        "`forward` (soft)": lambda: renderer(one_hots),
        "`forward` and backward": lambda: torch.autograd.grad(renderer(wanted).sum(), wanted),
        "learned, forward": lambda: learned(one_hots),
        "learned, forward and backward": lambda: torch.autograd.grad(learned(wanted).sum(), wanted),
        "`match_glyphs` (back)": lambda: match_glyphs(pictures, shape, renderer),
    }


def once(way: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    way()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grid", type=int, default=32, help="lines and columns")
    parser.add_argument("--font-res", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true", help=f"exit with 1 below {TARGET} times")
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (given.batch, given.grid, given.grid)
    timed = ways(torch.randint(len(ALPHABET), shape, generator=generator), given.font_res)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(given.rounds + 1):
        for name in list(timed)[:: 1 if number % 2 else -1]:
            taken = once(timed[name])
            if number:  # the first warms up
                seconds[name].append(taken)
    print("| way | pictures/s | ratio to Pillow by line |")
    print("|:--|--:|---|")
    reference = seconds["Pillow, by line"]
    middle = {}
    for name, values in seconds.items():
        ratios = sorted(slow / fast for slow, fast in zip(reference, values, strict=True))
        middle[name] = statistics.median(ratios)
        speed = given.batch / statistics.median(values)
        print(
            f"| {name} | {speed:.0f} | {middle[name]:.2f} [{ratios[0]:.2f} .. {ratios[-1]:.2f}] |"
        )
    if given.check and middle["`draw` (hard)"] < TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()

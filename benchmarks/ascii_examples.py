"""Before and after: held-out texts of a run beside what it makes of them, as Markdown.

    python benchmarks/ascii_examples.py RUN --runs RUNS_FOLDER --count 20
    python benchmarks/ascii_examples.py RUN --part "held-out fonts"

The pictures are evenly taken from the whole held-out set, not chosen. At the head stands what
`aelab evaluate` measures over all of the set; over each picture its own values. `--part` takes
FIGlet words of another part of `figlet_ascii_dataset` instead of the run's own validation set.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import torch

from aelab.ascii.data.figlet import figlet_ascii_dataset
from aelab.ascii.glyphs import font_renderer, side_by_side, to_lines
from aelab.ascii.metrics.characters import accuracy_without_spaces, characters, clamped_numbers
from aelab.ascii.metrics.contours import contour_agreement
from aelab.lab import Lab
from aelab.metrics import Subject
from aelab.study.evaluation import subject_of
from aelab.study.opened import OpenedRun

if TYPE_CHECKING:
    from torch import Tensor


def subject(opened: OpenedRun, part: str | None, samples: int) -> Subject:
    """The run with its own held-out texts, or with words of a part of the FIGlet set."""
    own = subject_of(opened)
    if part is None:
        return own
    height, width = own.images.shape[-2:]
    words = figlet_ascii_dataset((height, width), part, samples=samples)  # type: ignore[arg-type]
    return Subject(own.model, words.load(), seed=own.seed, device=own.device)


def spaced(total: int, count: int) -> list[int]:
    """Numbers of `count` pictures, evenly from `total`."""
    return [place * total // min(count, total) for place in range(min(count, total))]


def beside(wanted: Tensor, found: Tensor) -> list[str]:
    """Both (H, W) as text, without the lines that are blank in both."""
    pairs = zip(to_lines(wanted), to_lines(found), strict=True)
    kept = [pair for pair in pairs if any(line.strip() for line in pair)]
    lines = side_by_side([one for one, _ in kept], [other for _, other in kept])
    return [line.rstrip() for line in lines]


def example(wanted: Tensor, found: Tensor, title: str) -> list[str]:
    """One picture as Markdown: its values and both texts.

    Args:
        wanted, found: (H, W) character numbers.
        title: what stands above.
    """
    renderer = font_renderer()
    ours, theirs = (renderer.draw(grid[None]) for grid in (wanted, found))
    right = accuracy_without_spaces(wanted, found)
    agreement = contour_agreement(ours, theirs, renderer.cell[0]).item()
    head = f"{title}: {right:.2f} of the characters right, contour agreement {agreement:.2f}"
    return [head, "", "```text", *beside(wanted, found), "```", ""]


def measured(measures: dict[str, float]) -> list[str]:
    """Key and value, a line each."""
    return ["| measure | value |", "|---|--:|"] + [
        f"| `{key}` | {value:.3f} |" for key, value in measures.items()
    ]


def main() -> None:
    """Opens the run and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="RUN, RUN@best, RUN@latest or RUN@images")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--part", help="held-out words, held-out fonts or held-out both")
    parser.add_argument("--samples", type=int, default=1000, help="words of --part")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    opened = Lab(given.runs, device=given.device).open(given.run)
    of = subject(opened, given.part, given.samples)
    if of.medium.is_brightness:
        parser.error(f"{given.run} does not write: its held-out images are pictures")
    with torch.no_grad():
        print("\n".join([*measured(characters(of)), ""]))
        wanted, found = clamped_numbers(of.images), clamped_numbers(of.reconstructions)
        for place in spaced(len(wanted), given.count):
            print("\n".join(example(wanted[place], found[place], f"Picture {place + 1}")))


if __name__ == "__main__":
    main()

"""Pictures as colours of a palette against pixel losses: errors, exact pixels, Frechet distance.

    python benchmarks/palette.py RUNS_FOLDER [--set sprites] [--out FOLDER]

For the runs of experiments/palette/: a Markdown table over the held-out images of each set. All
runs are compared as drawn pictures in red, green and blue with the same originals, and by the same
feature net. Writes a sheet of reproductions and samples, and the errors by frequency, with `--out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from aelab.lab import Lab
from aelab.losses import l1, l2, ssim
from aelab.medium import medium_of
from aelab.metrics import error_by_frequency, frechet_distance
from aelab.metrics.distances import draw_images
from aelab.metrics.features import train_features
from aelab.palette.medium import Colours
from aelab.report import plots
from aelab.report.frequency import Spectrum, spectra_figure

#: Bands of the table, cycles per pixel: from above the first value up to the second.
BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.72))
SHOWN, ZOOM = 14, 3


def pictures(opened: Any, images: Tensor) -> Tensor:
    """Images of a run as drawn pictures (B, 3, H, W) in 0..1, as 8 bits show them."""
    return medium_of(opened.model).picture(images.clamp(0, 1)).float() / 255


def bands(found: Any) -> list[str]:
    """`relative error, transfer` of each band, the rings weighted by the target's power."""
    cells = []
    for low, high in BANDS:
        inside = (found.frequency > low) & (found.frequency <= high)
        power = found.target[inside].sum()
        error = found.error[inside].sum() / power
        arrives = (found.transfer[inside] * found.target[inside]).sum() / power
        cells.append(f"{error:.2f}, {arrives:.2f}")
    return cells


def sheet(rows: list[tuple[str, Tensor]]) -> Image.Image:
    """Named rows of pictures (B, 3, H, W) under each other, enlarged by whole pixels."""
    side = rows[0][1].shape[-1]
    zoom = max(1, ZOOM * 16 // side)
    step, name = side * zoom + 4, 210
    page = Image.new("RGB", (name + SHOWN * step, len(rows) * step + 4), "#f4f4f2")
    pen = ImageDraw.Draw(page)
    for number, (label, images) in enumerate(rows):
        top = 4 + number * step
        pen.text((6, top + step // 2 - 8), label, fill="#22262c")
        for column, image in enumerate(images[:SHOWN]):
            values = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            large = Image.fromarray(values).resize((side * zoom,) * 2, Image.Resampling.NEAREST)
            page.paste(large, (name + column * step, top))
    return page


def measured(lab: Lab, names: list[str], out: Path | None, kind: str) -> None:
    runs = {name: lab.open(name) for name in names}
    model = next(run.model for run in runs.values() if isinstance(medium_of(run.model), Colours))
    palette = medium_of(model).palette
    pixel_run = next(run for run in runs.values() if not isinstance(medium_of(run.model), Colours))
    subject = pixel_run.subject()
    net = train_features(subject)
    target = subject.images
    real = net.features(target)
    wanted = palette.stored((target * 255).round().byte(), alpha=False)
    # The same pictures for every run, in the order of the pixel run's subject.
    given = Colours(palette).drawn(wanted).float() / 255
    lines, shown, made_up = [], [("held out", target)], []
    shown.append((f"in {palette.count} colours", given))
    heads = " | ".join(f"{low:g}-{min(high, 0.71):g}" for low, high in BANDS)
    print("| run | exact pixels | exact images | L1 | L2 | SSIM | frechet of reproductions "
          f"| of samples | {heads} |")  # fmt: skip
    print("|:--|" + "--:|" * (7 + len(BANDS)))
    for name, run in runs.items():
        own = run.subject()
        unit = wanted.float() / 255 if isinstance(medium_of(run.model), Colours) else target
        with torch.no_grad():
            parts = [run.model(part).reconstruction for part in torch.split(unit, 100)]
        made = pictures(run, torch.cat(parts))
        right = palette.stored((made * 255).round().byte(), alpha=False) == wanted
        samples = pictures(run, draw_images(own, "gaussian", len(target)))
        frechets = [frechet_distance(net.features(images), real) for images in (made, samples)]
        spectrum = error_by_frequency(made, target)
        numbers = [
            f"{right.float().mean():.3f}", f"{right.flatten(1).all(1).float().mean():.3f}",
            f"{l1(made, target).mean():.4f}", f"{l2(made, target).mean():.4f}",
            f"{1 - ssim(made, target).mean():.3f}", *(f"{value:.2f}" for value in frechets),
            *bands(spectrum),
        ]  # fmt: skip
        short = name.split("-", 1)[1]
        print(f"| {short} | {' | '.join(numbers)} |")
        lines.append(Spectrum(short, spectrum.frequency.tolist(), spectrum.relative.tolist(),
                           spectrum.transfer.tolist()))  # fmt: skip
        shown.append((short, made))
        made_up.append((f"samples: {short}", samples))
    halves = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
    half = len(real) // 2
    floor = frechet_distance(halves[:half], halves[half : 2 * half])
    print(f"\nover {len(target)} held-out images; frechet of two halves of them: {floor:.2f}")
    for name, run in runs.items():
        print(f"{name}: {_parameters(run):,} parameters")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        sheet([*shown, *made_up]).save(out / f"palette-{kind}.png", optimize=True)
        print(plots.save_figure(spectra_figure(lines), out / f"palette-{kind}-frequency.png"))


def _parameters(run: Any) -> int:
    return sum(parameter.numel() for parameter in run.model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the runs")
    parser.add_argument("--set", choices=("sprites", "rpg"), default="sprites")
    parser.add_argument("--out", type=Path, help="folder for the sheet and the figure")
    given = parser.parse_args()
    lab = Lab(given.folder)
    names = sorted(
        path.name
        for path in (given.folder / "palette").iterdir()
        if path.name.startswith(given.set)
    )
    names.sort(key=lambda name: "colours" not in name)
    measured(lab, [f"palette/{name}" for name in names], given.out, given.set)


if __name__ == "__main__":
    main()

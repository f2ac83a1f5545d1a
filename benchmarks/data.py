"""Batched augmentation and resize against the per-sample pipeline: ratios.

Five questions, each with the product's own functions on one side and on the other what a file of
the old tool made of it: one image at a time, in Python, collated by a DataLoader (no workers: for
images this small they cost more than they give).

    augment   crop 128 -> 32, shift by 4, flips: batched, from resident bytes to float batches;
              references: the same as tensor operations a sample, and as Pillow operations a sample
    resize    28 -> 32, bilinear, antialiased, for the documents' 1,000,000 images of a set of
              60,000: the whole set once and a gather each time; references, at each access as the
              old tool: tensor -> Pillow -> tensor, and torch's interpolate
    nearest   the same with nearest
    once      the resize alone, once an image: no reference profits from epochs
    gather    bytes to a float batch; reference: `lambda x: x.unsqueeze(0).float() / 255.` a sample

CPU seconds on one thread, variants interleaved, their order turned each round.

    python benchmarks/data.py                  all tables (target: at least 10 in the first rows)
    python benchmarks/data.py --at-least 10    exit code 1 below that
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aelab.data import augment
from aelab.ops.augmented import changed_batch
from aelab.ops.random import keyed_generator
from aelab.ops.resize import resize

BATCH = 64
#: Of the documents: 1,000,000 images of 60,000.
EPOCHS = 17
Variant = Callable[[], int]


class PerSample(Dataset[tuple[Tensor]]):
    """The old tool's set over a `TensorDataset`: functions of one item, called at every access."""

    def __init__(self, pixels: Tensor, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.source, self.transforms = TensorDataset(pixels), transforms

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        (item,) = self.source[index]
        for transform in self.transforms:
            item = transform(item)
        return (item,)


def loaded(pixels: Tensor, *transforms: Callable[[Tensor], Tensor]) -> Variant:
    """One epoch of a DataLoader; gives the number of images."""

    def run() -> int:
        loader = DataLoader(PerSample(pixels, transforms), BATCH, shuffle=True)
        return sum(len(batch) for (batch,) in loader)

    return run


class RandomCrop(nn.Module):
    """As torchvision's on tensors: padding, then a window."""

    def __init__(self, side: int, padding: int = 0) -> None:
        super().__init__()
        self.side, self.padding = side, padding

    def forward(self, image: Tensor) -> Tensor:
        if self.padding:
            image = F.pad(image, (self.padding,) * 4)
        return crop_tensor(image, self.side)


class RandomFlip(nn.Module):
    """As torchvision's on tensors."""

    def __init__(self, p: float, axis: int) -> None:
        super().__init__()
        self.p, self.axis = p, axis

    def forward(self, image: Tensor) -> Tensor:
        return image.flip(self.axis) if torch.rand(1) < self.p else image


def to_float(image: Tensor) -> Tensor:
    """The old set's dtype and multiply."""
    return image.to(torch.float32) * (1 / 255)


AUGMENT = (
    to_float,
    RandomCrop(32),
    RandomCrop(32, padding=4),
    RandomFlip(0.4, -1),
    RandomFlip(0.2, -2),
)


def crop_tensor(image: Tensor, side: int) -> Tensor:
    top = int(torch.randint(0, image.shape[1] - side + 1, (1,)))
    left = int(torch.randint(0, image.shape[2] - side + 1, (1,)))
    return image[:, top : top + side, left : left + side]


def augment_pillow(image: Tensor) -> Tensor:
    """The same with Pillow."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture = crop_pillow(picture, 32)
    padded = Image.new("RGB", (40, 40))
    padded.paste(picture, (4, 4))
    picture = crop_pillow(padded, 32)
    if torch.rand(1) < 0.4:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if torch.rand(1) < 0.2:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255.0


def crop_pillow(picture: Image.Image, side: int) -> Image.Image:
    left = int(torch.randint(0, picture.width - side + 1, (1,)))
    top = int(torch.randint(0, picture.height - side + 1, (1,)))
    return picture.crop((left, top, left + side, top + side))


def resize_pillow(filter: Image.Resampling) -> Callable[[Tensor], Tensor]:
    def change(image: Tensor) -> Tensor:
        picture = Image.fromarray(image[0].numpy()).resize((32, 32), filter)
        return torch.from_numpy(np.array(picture))[None].float() / 255.0

    return change


def resize_tensor(**options: object) -> Callable[[Tensor], Tensor]:
    def change(image: Tensor) -> Tensor:
        batch = image[None].float() / 255.0
        return F.interpolate(batch, (32, 32), **options)[0]  # type: ignore[arg-type]

    return change


def augment_batched(pixels: Tensor) -> Variant:
    """An epoch as the training loop takes it: gather, then the batch's random changes."""
    changes = (augment.RandomWindow((32, 32)), augment.RandomShift(4), augment.RandomFlip())

    def run() -> int:
        order = torch.randperm(len(pixels))
        for number, index in enumerate(torch.split(order, BATCH)):
            changed_batch(pixels, index, changes, keyed_generator(0, "augment", number))
        return len(pixels)

    return run


def resized(pixels: Tensor, filter: str) -> Variant:
    def run() -> int:
        return len(resize(pixels, (32, 32), filter))

    return run


def resized_once(pixels: Tensor, filter: str) -> Variant:
    """So many epochs of a set that is resized when it is loaded."""

    def run() -> int:
        batches = gathered(resize(pixels, (32, 32), filter))
        return sum(batches() for _ in range(EPOCHS))

    return run


def gathered(pixels: Tensor) -> Variant:
    def run() -> int:
        order = torch.randperm(len(pixels))
        for index in torch.split(order, BATCH):
            pixels[index].float().mul_(1 / 255.0)
        return len(pixels)

    return run


def questions() -> dict[str, dict[str, Variant]]:
    """Question -> variant by name; the product's is the first."""
    generator = torch.Generator().manual_seed(0)
    large = torch.randint(0, 256, (2048, 3, 128, 128), dtype=torch.uint8, generator=generator)
    small = torch.randint(0, 256, (4096, 1, 28, 28), dtype=torch.uint8, generator=generator)
    bilinear = resize_tensor(mode="bilinear", antialias=True)
    return {
        "augment": {
            "aelab, batched": augment_batched(large),
            "tensor operations a sample": loaded(large, *AUGMENT),
            "Pillow operations a sample": loaded(large, augment_pillow),
        },
        "resize": {
            "aelab, once for 17 epochs": resized_once(small, "bilinear"),
            "Pillow a sample": loaded(small, resize_pillow(Image.Resampling.BILINEAR)),
            "interpolate a sample": loaded(small, bilinear),
        },
        "nearest": {
            "aelab, once for 17 epochs": resized_once(small, "nearest"),
            "Pillow a sample": loaded(small, resize_pillow(Image.Resampling.NEAREST)),
            "interpolate a sample": loaded(small, resize_tensor(mode="nearest")),
        },
        "once": {
            "aelab, whole set": resized(small, "bilinear"),
            "Pillow a sample": loaded(small, resize_pillow(Image.Resampling.BILINEAR)),
            "interpolate a sample": loaded(small, bilinear),
        },
        "gather": {
            "aelab, batched": gathered(small),
            "lambda a sample": loaded(small[:, 0], lambda x: x.unsqueeze(0).float() / 255.0),
        },
    }


def measure(variants: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU an image, by variant, one value a round."""
    names = list(variants)
    for name in names:
        variants[name]()  # warm
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(rounds):
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            images, started = 0, time.process_time()
            while time.process_time() - started < 0.1:
                images += variants[name]()
            times[name].append((time.process_time() - started) / images * 1e6)
    return times


def report(question: str, times: dict[str, list[float]]) -> float:
    """Print one table; the least median ratio of a per-sample variant to the product."""
    own, *others = times
    print(f"\n{question}\n  {own:28} {statistics.median(times[own]):8.1f} us/image")
    least = float("inf")
    for name in others:
        ratios = [other / ours for other, ours in zip(times[name], times[own], strict=True)]
        median = statistics.median(ratios)
        least = min(least, median)
        print(
            f"  {name:28} {statistics.median(times[name]):8.1f} us/image   ratio {median:6.1f} "
            f"[{min(ratios):.1f} .. {max(ratios):.1f}]"
        )
    return least


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each variant")
    parser.add_argument("--at-least", type=float, help="exit code 1 below this ratio")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, Pillow {PIL.__version__}, Python {platform.python_version()}, "
        f"one thread, batch {BATCH}, n = {options.rounds}, CPU seconds"
    )
    least = {
        question: report(question, measure(variants, options.rounds))
        for question, variants in questions().items()
    }
    headline = min(least["augment"], least["resize"])
    print(f"\naugment and resize, least ratio to a per-sample pipeline: {headline:.1f}")
    return int(options.at_least is not None and headline < options.at_least)


if __name__ == "__main__":
    sys.exit(main())

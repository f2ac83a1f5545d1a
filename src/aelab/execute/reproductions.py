"""Reproductions during training: the same sixteen images of each set, from all classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aelab.assembly.parts import Sets
from aelab.ops.augmented import chosen_images
from aelab.ops.subset import show_order
from aelab.ops.value_range import to_unit
from aelab.report.texts import without_blank_edges
from aelab.runs.record import Run
from aelab.tensor_pictures import png, row, seen_and_reproduced
from aelab.types import Images

#: Number of images of each set.
COUNT = 16

#: Factor between the image counts at which pictures are stored: about thirty for any run length.
SPACING = 1.5


class Reproductions:
    """Writes `images/<set>-originals.png` once, then `images/<set>-<images>.png` ever more rarely.

    For a model that hides parts of its images, `images/<set>-inputs.png` shows what it sees.

    For a medium with texts also `text/<set>-originals.txt` and `text/<set>-<images>.txt`, with
    originals and reproductions side by side.

    Args:
        run: where to write.
        sets: the images by name, `train` and `heldout`. Sixteen of each are shown, without
            augmentation, one of each class in turn. They are the same for all runs on a set, so
            that runs and times can be compared. A run that started with other images keeps them.

    Attributes:
        shown: the chosen rows of each set.
        files: their file names, for sets of files.
        example: the first held-out (else training) text beside its latest reproduction; empty
            if images have no text, or nothing was written yet.
    """

    def __init__(self, run: Run, sets: dict[str, Images]) -> None:
        self._run = run
        rows = {name: shown_rows(run, name, images) for name, images in sets.items()}
        self.shown = {name: chosen.tolist() for name, chosen in rows.items()}
        self.files = {
            name: [images.file_names[row] for row in self.shown[name]]
            for name, images in sets.items()
            if images.file_names
        }
        self._samples = {name: chosen_images(sets[name], rows[name]) for name in sets}
        self._labels = {
            name: None if images.labels is None else images.labels[rows[name]]
            for name, images in sets.items()
        }
        self._media = {name: images.medium for name, images in sets.items()}
        self._ranges = {name: images.value_range for name, images in sets.items()}
        self._next_images = 0
        self.example = ""

    def originals(self) -> None:
        """Writes the originals, and records which images they are."""
        self._run.update_record(shown=self.shown, shown_files=self.files)
        for name, sample in self._samples.items():
            medium = self._media[name]
            self._run.write_bytes(
                f"images/{name}-originals.png", png(row(self._unit(name), medium))
            )
            if blocks := medium.texts(sample):
                self._run.write_bytes(f"text/{name}-originals.txt", _file_of(blocks))

    def _unit(self, name: str) -> Tensor:
        """The shown images of a set, (n, C, H, W) in 0..1."""
        return to_unit(self._samples[name], self._ranges[name])

    def due(self, images: int) -> bool:
        """Whether pictures are due at this many images seen."""
        return images >= self._next_images

    def write(self, model: nn.Module, images: int) -> None:
        """Writes the current reproductions of each set, in evaluation mode, without noise."""
        for name in self._samples:
            sample, medium = self._unit(name), self._media[name]
            seen, shown = seen_and_reproduced(model, sample, self._ranges[name], self._labels[name])
            if seen is not None:
                self._run.write_bytes(f"images/{name}-inputs.png", png(row(seen, medium)))
            self._run.write_bytes(f"images/{name}-{images:09d}.png", png(row(shown, medium)))
            if blocks := medium.beside(sample, shown):
                self._run.write_bytes(f"text/{name}-{images:09d}.txt", _file_of(blocks))
                if name == "heldout" or "heldout" not in self._samples:
                    self.example = without_blank_edges(blocks[0])
        self._next_images = max(1, int(images * SPACING))

    def skip_to(self, images: int) -> None:
        """For a continued run: schedules the next picture as if the run had not been stopped."""
        names = (path.stem.rpartition("-")[2] for path in self._run.path.glob("images/*-*.png"))
        drawn = [int(number) for number in names if number.isdecimal() and int(number) <= images]
        self._next_images = max(1, int(max(drawn) * SPACING)) if drawn else 0


def shown_rows(run: Run, name: str, images: Images) -> Tensor:
    """The rows of a set that a run shows, (n,) int64.

    If the run has stored pictures, the rows in its record. Runs of earlier versions have no such
    record; they show the first images.
    """
    count = min(COUNT, len(images))
    if (run.path / "images" / f"{name}-originals.png").exists():
        noted = (run.record.get("shown") or {}).get(name, list(range(count)))
        if noted and all(type(row) is int and 0 <= row < len(images) for row in noted):
            return torch.tensor(noted)
    return show_order(len(images), images.labels)[:count]


def shown_sets(train: Sets, validation: Sets) -> dict[str, Images]:
    """The first training and the first validation set, by name."""
    named = {"train": train, "heldout": validation}
    return {name: sets[0][1] for name, sets in named.items() if sets}


def _file_of(blocks: list[str]) -> bytes:
    """Examples, an empty line between them."""
    return ("\n\n".join(blocks) + "\n").encode()

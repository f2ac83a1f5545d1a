"""What a validation counts beside its losses, on the device, batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from aelab.glyphs import SPACE, character_numbers
from aelab.posteriors import HasChoices
from aelab.types import Output


class Tally:
    """Sums over the batches of one validation; nothing of it waits for the device.

    Args:
        model: says by its `codebooks` whether and how many choices are to be counted.
        inkless: numbers of the characters that the objective's font draws as white paper.
    """

    def __init__(self, model: nn.Module, inkless: Collection[int] = ()) -> None:
        self._inkless = sorted(inkless)
        self._unseen: Tensor | None = None
        self._codebooks: Mapping[str, int] = getattr(model, "codebooks", {})
        self._choices: dict[str, Tensor] = {}
        self._characters: Tensor | None = None
        self._pixels: Tensor | None = None
        self._images = 0

    def add(self, output: Output, target: Tensor) -> None:
        """Counts one batch; `target` (B, C, H, W) is what its images should have become."""
        if self._codebooks and isinstance(output.posterior, HasChoices):
            for name, index in output.posterior.choices().items():
                counts = choice_counts(index, self._codebooks[name])
                self._choices[name] = _added(self._choices.get(name), counts)
        if output.characters:
            self._characters = _added(
                self._characters, character_counts(output.reconstruction, target)
            )
            if self._inkless:
                written = character_numbers(output.reconstruction)
                unseen = sum((written == number).sum() for number in self._inkless)
                self._unseen = _added(self._unseen, unseen)  # type: ignore[arg-type]
        if output.reconstruction.shape == target.shape:
            self._pixels = _added(self._pixels, pixel_sums(output.reconstruction, target))
            self._images += len(target)

    def facts(self) -> dict[str, Tensor]:
        """What tables and curves show: of `codebook_facts` and `character_facts` what applies.

        Several codebooks are told apart by their names: `codebook_usage_1`.
        """
        facts: dict[str, Tensor] = {}
        for name, counts in self._choices.items():
            end = f"_{name}" if name else ""
            facts |= {fact + end: value for fact, value in codebook_facts(counts).items()}
        if self._characters is not None:
            facts |= character_facts(self._characters)
        return facts

    def looks(self) -> dict[str, Tensor]:
        """What only watches over the run.

        Returns:
            `spread` and `target_spread`, see `spreads`; of text `target_blank_share`, and where
            a font draws it `unseen_share`, the share of cells in which no ink was written.
        """
        looks: dict[str, Tensor] = {}
        if self._pixels is not None:
            reconstructed, wanted = spreads(self._pixels, self._images)
            looks = {"spread": reconstructed, "target_spread": wanted}
        if self._characters is not None:
            cells, inked = self._characters[0], self._characters[1]
            looks["target_blank_share"] = 1 - inked / cells
            if self._unseen is not None:
                looks["unseen_share"] = self._unseen / cells
        return looks


def codebook_facts(counts: Tensor) -> dict[str, Tensor]:
    """How a codebook is used.

    Args:
        counts: (K,), how often each entry was chosen; some at least once.

    Returns:
        `codebook_usage`, the share of entries that were chosen at all, 0..1; and
        `codebook_perplexity`, exp of the entropy of the choices: 1 if always the same entry was
        chosen, K if all equally often.

    Source: van den Oord et al. 2017, arXiv:1711.00937, reports them; perplexity as in Sonnet.
    """
    shares = counts / counts.sum()
    return {
        "codebook_usage": (counts > 0).float().mean(),
        "codebook_perplexity": torch.exp(-torch.xlogy(shares, shares).sum()),
    }


def choice_counts(index: Tensor, size: int) -> Tensor:
    """(K,) int64: how often each of `size` entries is in `index`."""
    index = index.reshape(-1)
    counts = torch.zeros(size, dtype=torch.int64, device=index.device)
    # Not bincount, which makes a GPU wait for the largest index.
    return counts.scatter_add(0, index, torch.ones_like(index))


def character_counts(written: Tensor, target: Tensor) -> Tensor:
    """What `character_facts` is made of.

    Args:
        written, target: (B, 1, H, W), character number / 255.

    Returns:
        (5,) int64: cells, inked cells of the target, right cells, right ones of the inked, and
        cells in which a space was written.
    """
    written, target = character_numbers(written), character_numbers(target)
    right, inked = written == target, target != SPACE
    cells = torch.ones_like(right)
    parts = [cells, inked, right, right & inked, written == SPACE]
    return torch.stack([part.sum() for part in parts])


def character_facts(counts: Tensor) -> dict[str, Tensor]:
    """How well a model writes; every cell of every image counts the same.

    Args:
        counts: (5,) of `character_counts`, summed over batches.

    Returns:
        `accuracy`, the share of cells with the right character; `accuracy_without_spaces`, of those
        cells where the target is no space (1 where there are none); `blank_share`, the share of
        cells in which a space was written. All 0..1.
    """
    cells, inked, right, right_inked, blank = counts.unbind()
    return {
        "accuracy": right / cells,
        "accuracy_without_spaces": torch.where(inked > 0, right_inked / inked.clamp(min=1), 1.0),
        "blank_share": blank / cells,
    }


def pixel_sums(reconstruction: Tensor, target: Tensor) -> Tensor:
    """(2, 2, C, H, W) float32: of reconstruction and target the sum over images, and of squares."""
    both = torch.stack([reconstruction, target]).float()
    return torch.stack([both.sum(1), both.square().sum(1)])


def spreads(sums: Tensor, count: int) -> Tensor:
    """How much images differ from each other.

    Args:
        sums: of `pixel_sums`, added over batches.
        count: images in them.

    Returns:
        (2,): the variance of a pixel over images, mean over pixels, of reconstruction and target;
        0 where all images are the same.
    """
    means, squares = (sums / count).unbind()
    variances = (squares - means.square()).clamp(min=0)
    return variances.flatten(1).mean(1)


def _added(before: Tensor | None, more: Tensor) -> Tensor:
    return more if before is None else before + more

"""Counts of a validation besides its losses, summed on the device batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aelab.medium import medium_of
from aelab.posteriors import HasChoices, HasDivergence, HasLevels
from aelab.types import Output


class Tally:
    """Sums over the batches of one validation; never waits for the device.

    Args:
        model: its `codebooks` (name -> number of entries) are counted, if it has any; its medium
            may count more.
        objective: passed to the medium, whose counts may depend on the terms.
    """

    def __init__(self, model: nn.Module, objective: object = None) -> None:
        self._of_medium = medium_of(model).counts(objective)
        self._codebooks: Mapping[str, int] = getattr(model, "codebooks", {})
        self._choices: dict[str, Tensor] = {}
        self._pixels: Tensor | None = None
        self._nats: Tensor | None = None
        self._levels: Tensor | None = None
        self._images = self._latents = 0

    def add(self, output: Output, target: Tensor) -> None:
        """Counts one batch; `target`: (B, C, H, W), the wanted reconstruction."""
        if self._codebooks and isinstance(output.posterior, HasChoices):
            for name, index in output.posterior.choices().items():
                counts = choice_counts(index, self._codebooks[name])
                self._choices[name] = _added(self._choices.get(name), counts)
        if isinstance(output.posterior, HasDivergence):
            nats = output.posterior.kl().detach().float()
            self._nats = _added(self._nats, nats.sum())
            self._latents += len(nats)
        if isinstance(output.posterior, HasLevels):
            self._levels = _added(self._levels, output.posterior.levels().detach().float().sum(0))
        if self._of_medium is not None:
            self._of_medium.add(output, target)
        if output.reconstruction.shape == target.shape:
            self._pixels = _added(self._pixels, pixel_sums(output.reconstruction, target))
            self._images += len(target)

    def facts(self) -> dict[str, Tensor]:
        """The values for tables and curves: `codebook_facts`, and those of the medium.

        With several codebooks their names are appended: `codebook_usage_1`. With latents on
        several levels, the divergence of each in nats per image: `kl_level_1` is the top one.
        """
        facts: dict[str, Tensor] = {}
        if self._levels is not None:
            per_image = self._levels / self._latents
            facts |= {f"kl_level_{number + 1}": nats for number, nats in enumerate(per_image)}
        for name, counts in self._choices.items():
            end = f"_{name}" if name else ""
            facts |= {fact + end: value for fact, value in codebook_facts(counts).items()}
        if self._of_medium is not None:
            facts |= self._of_medium.facts()
        return facts

    def looks(self) -> dict[str, Tensor]:
        """The values for warnings only.

        Returns:
            `spread`, `target_spread`: see `spreads`; `mean`, `target_mean` of all pixels; `nats`:
            KL divergence per image; `choices`: how often entries of a codebook were chosen, with
            its name appended; and those of the medium.
        """
        looks: dict[str, Tensor] = {}
        if self._pixels is not None:
            reconstructed, wanted = spreads(self._pixels, self._images)
            means = self._pixels[0].flatten(1).mean(1) / self._images
            looks = {"spread": reconstructed, "target_spread": wanted}
            looks |= {"mean": means[0], "target_mean": means[1]}
        if self._nats is not None:
            looks["nats"] = self._nats / self._latents
        for name, counts in self._choices.items():
            looks[f"choices_{name}" if name else "choices"] = counts.sum().float()
        if self._of_medium is not None:
            looks |= self._of_medium.looks()
        return looks


def codebook_facts(counts: Tensor) -> dict[str, Tensor]:
    """Statistics of how a codebook is used.

    Args:
        counts: (K,), how often each entry was chosen; some at least once.

    Returns:
        `codebook_usage`, the share of entries that were chosen at least once, 0..1; and
        `codebook_perplexity`, exp of the entropy of the choices: 1 if one entry was always
        chosen, K if all were chosen equally often.

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
    # Not bincount: it waits for the GPU, to read the largest index.
    # Of a NaN FSQ makes the least whole number; the loss of that batch tells it.
    known = (index >= 0) & (index < len(counts))
    return counts.scatter_add(0, index * known, known.to(counts.dtype))


def pixel_sums(reconstruction: Tensor, target: Tensor) -> Tensor:
    """(2, 2, C, H, W) float32: [sum, sum of squares] over images x [reconstruction, target]."""
    both = torch.stack([reconstruction, target]).float()  # (2, B, C, H, W)
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
    means, squares = (sums / count).unbind()  # each (2, C, H, W)
    variances = (squares - means.square()).clamp(min=0)  # rounding can make it negative
    return variances.flatten(1).mean(1)


def _added(before: Tensor | None, more: Tensor) -> Tensor:
    return more if before is None else before + more

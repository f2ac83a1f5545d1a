"""Warnings of collapse with finite numbers: blank pictures, unused codes, an unused latent.

Based on values that a validation has already transferred.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from aelab.findings import Finding
from aelab.medium import medium_of

#: Batches after which a model should output more than the mean picture, which it learns first.
LATE_BATCHES = 200
#: Reconstructions count as equal if their variance over images is below this share of that of the
#: targets; a codebook is unused below this share of the entries that could be used.
ALIKE, UNUSED = 0.005, 0.05
#: Nats per image below which a latent has no information.
NO_NATS = 0.01
#: Smaller codebooks than this cannot have many dead entries.
FEW_ENTRIES = 16


def collapses(
    model: nn.Module, facts: Mapping[str, float], looks: Mapping[str, float], batches: int
) -> list[Finding]:
    """The warnings of a collapsed model; usually empty.

    Args:
        facts: terms and facts of a validation, by name.
        looks: its values for warnings only, see `Tally.looks`.
        batches: trained so far.
    """
    if batches < LATE_BATCHES:
        return []
    found = [_no_latent(looks), _constant(model, looks), *_dead_codes(model, facts, looks)]
    return [finding for finding in found if finding is not None]


def _no_latent(looks: Mapping[str, float]) -> Finding | None:
    nats = looks.get("nats")
    if nats is None or nats >= NO_NATS:
        return None
    return Finding(
        "warning",
        "latent-collapsed",
        f"the latent tells nothing of its image: its KL divergence from the prior is {nats:.2g} "
        "nats per image, over all dimensions together",
        "a smaller weight of kl (0.1 / pixels with a mean loss), objective: {kl: {weight: 0.001, "
        "warmup_images: 100_000}}, or free_bits_nats",
    )


def _constant(model: nn.Module, looks: Mapping[str, float]) -> Finding | None:
    spread, target = looks.get("spread"), looks.get("target_spread")
    if spread is None or target is None or not medium_of(model).is_brightness:
        return None
    if spread >= ALIKE * target:
        return None
    mean, wanted = looks.get("mean", 0.0), looks.get("target_mean", 0.0)
    return Finding(
        "warning",
        "output-constant",
        f"all pictures of the model are the same: their variance over images is {spread:.2g}, that "
        f"of the originals {target:.2g}; mean brightness {mean:.3g} and {wanted:.3g}",
        "a lower learnrate with a warm-up (scheduler: {WarmupCosine: {warmup_images: 10_000}}) and "
        "a new start, as a saturated output stays saturated; no activation at the end of the "
        "decoder, or bce; FromMeanImage(decoder, shape), which starts at the mean image; a smaller "
        "weight of kl",
    )


def _dead_codes(
    model: nn.Module, facts: Mapping[str, float], looks: Mapping[str, float]
) -> list[Finding]:
    found = []
    books: Mapping[str, int] = getattr(model, "codebooks", {})
    for name, entries in books.items():
        end = f"_{name}" if name else ""
        usage, choices = facts.get(f"codebook_usage{end}"), looks.get(f"choices{end}")
        if usage is None or not choices or entries < FEW_ENTRIES:
            continue
        possible = min(1.0, choices / entries)  # few images cannot choose many entries
        if usage < UNUSED * possible:
            of_book = f" of codebook {name}" if name else ""
            found.append(
                Finding(
                    "warning",
                    "codes-dead",
                    f"{usage:.2%} of the {entries:,} entries{of_book} are used",
                    "VQ with dead_below=0.1 or more moves unused entries, start='kmeans' begins "
                    "with used ones; a smaller codebook, SimVQ, or FSQ, which has no dead ones",
                )
            )
    return found

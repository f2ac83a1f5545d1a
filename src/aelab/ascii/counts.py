"""Counts of the characters written in a validation, and warnings about them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from aelab.ascii.glyphs.alphabet import SPACE, character_numbers
from aelab.findings import Finding
from aelab.types import Output

#: A text with less than this share of its target's ink counts as blank; reconstructions whose
#: variance is below this share of the variance of their targets count as one text.
ALIKE = 0.02
#: Advice against blank texts.
_MORE_INK = (
    "objective: {character_ce: {frequency_power: 0.7}} or {character_ce: {space_deemph: 100}} "
    "beside the drawn loss, or another tau of the relaxation"
)


class CharacterCounts:
    """Sums over the batches of one validation, without waiting for the device.

    Args:
        objective: its drawing terms list in `inkless` the characters that their font draws white.
    """

    def __init__(self, objective: object = None) -> None:
        self._inkless = sorted(inkless_of(objective))
        self._counts: Tensor | None = None
        self._unseen: Tensor | None = None

    def add(self, output: Output, target: Tensor) -> None:
        """Counts one batch; `target` (B, 1, H, W) holds the true characters."""
        counts = right_cell_counts(output.reconstruction, target)
        self._counts = counts if self._counts is None else self._counts + counts
        if self._inkless:
            written = character_numbers(output.reconstruction)
            unseen = torch.stack([(written == number).sum() for number in self._inkless]).sum()
            self._unseen = unseen if self._unseen is None else self._unseen + unseen

    def facts(self) -> dict[str, Tensor]:
        """`character_facts` of all batches."""
        return {} if self._counts is None else character_facts(self._counts)

    def looks(self) -> dict[str, Tensor]:
        """`target_blank_share`, and with a drawing font `unseen_share`: cells without any ink."""
        if self._counts is None:
            return {}
        cells, inked = self._counts[0], self._counts[1]
        looks = {"target_blank_share": 1 - inked / cells}
        if self._unseen is not None:
            looks["unseen_share"] = self._unseen / cells
        return looks


def inkless_of(objective: object) -> frozenset[int]:
    """Numbers of the characters that all drawing terms draw white; empty if no term draws."""
    modules = getattr(objective, "modules_of_terms", ())
    seen = [module.inkless for module in modules if hasattr(module, "inkless")]
    return frozenset.intersection(*seen) if seen else frozenset()


def right_cell_counts(written: Tensor, target: Tensor) -> Tensor:
    """The counts from which `character_facts` are computed.

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
    """Accuracy and share of spaces; every cell of every image has the same weight.

    Args:
        counts: (5,) of `right_cell_counts`, summed over batches.

    Returns:
        `accuracy`, the share of cells with the right character; `accuracy_without_spaces`, the same
        over cells whose target is no space (1 if there are none); `blank_share`, the share of cells
        in which a space was written. All 0..1.
    """
    cells, inked, right, right_inked, blank = counts.unbind()
    return {
        "accuracy": right / cells,
        "accuracy_without_spaces": torch.where(inked > 0, right_inked / inked.clamp(min=1), 1.0),
        "blank_share": blank / cells,
    }


def warning_of(
    facts: Mapping[str, float], looks: Mapping[str, float], *, early: bool
) -> Finding | None:
    """A warning about the texts of a validation, see `Medium.warning`."""
    if "blank_share" not in facts:
        return None
    same = None if early else same_text(facts, looks)
    return only_spaces(facts, looks) or only_inkless(facts, looks) or same


def only_spaces(facts: Mapping[str, float], looks: Mapping[str, float]) -> Finding | None:
    """A warning if the model writes only spaces."""
    written, target = facts["blank_share"], looks.get("target_blank_share")
    if target is None or 1 - written >= ALIKE * (1 - target):
        return None
    return Finding(
        "warning",
        "writes-only-spaces",
        f"writes only spaces: {written:.2%} of the output cells are spaces, and {target:.2%} of "
        "the target cells",
        "spaces are the most frequent character; where more training does not lead away from "
        f"them: {_MORE_INK}",
    )


def only_inkless(facts: Mapping[str, float], looks: Mapping[str, float]) -> Finding | None:
    """A warning if the model writes only characters that its loss draws like spaces."""
    unseen, target = looks.get("unseen_share"), looks.get("target_blank_share")
    if unseen is None or target is None or 1 - unseen >= ALIKE * (1 - target):
        return None
    return Finding(
        "warning",
        "writes-only-unseen",
        f"writes only what its loss cannot see: {unseen:.2%} of the output cells look blank when "
        f"drawn, but only {facts['blank_share']:.2%} are spaces",
        "some characters have no ink at this font_res and font_zoom "
        "(aelab.ascii.glyphs.alike_pairs lists them): use a larger font_res or no font_zoom, and "
        f"{_MORE_INK}",
    )


def same_text(facts: Mapping[str, float], looks: Mapping[str, float]) -> Finding | None:
    """A warning if the model writes the same text for every picture."""
    spread, target = looks.get("spread"), looks.get("target_spread")
    if spread is None or target is None or spread >= ALIKE * target:
        return None
    return Finding(
        "warning",
        "writes-one-text",
        f"writes the same for every picture: {facts['blank_share']:.1%} spaces, "
        f"{facts['accuracy']:.1%} of the characters right",
        f"the output does not depend on the latent: {_MORE_INK}; a smaller weight of kl",
    )

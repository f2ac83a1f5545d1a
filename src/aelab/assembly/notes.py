"""What a reader of a file's results must know, as far as its text tells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aelab.config import RunSpec
from aelab.config.twins import axes_without_effect

_NUMBER = re.compile(r"\s*[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")


def common_notes(specs: Sequence[RunSpec]) -> list[str]:
    """What a reader of the results must know, each once; old objectives above all."""
    notes = list(dict.fromkeys(note for spec in specs for note in spec.notes))
    notes += [str(finding) for finding in axes_without_effect(specs)]
    notes += texts_beside_numbers(specs)
    old = [spec.settings.legacy for spec in specs if spec.settings.legacy]
    if old:
        which = "every run" if len(old) == len(specs) else f"{len(old)} of {len(specs)} runs"
        parts = " and ".join(sorted({part for options in old for part in options}))
        notes.append(
            f"legacy objective ({parts}) in {which}: comparable with the old tables,"
            " not with corrected runs"
        )
    return notes


def texts_beside_numbers(specs: Sequence[RunSpec]) -> list[str]:
    """Matrix keys of which some values are numbers and others look like numbers but are text."""
    notes = []
    for key in dict.fromkeys(key for spec in specs for key in spec.matrix):
        values = [spec.matrix[key] for spec in specs if key in spec.matrix]
        texts = [v for v in values if isinstance(v, str) and _NUMBER.match(v)]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if texts and numbers:
            notes.append(
                f"matrix.{key}: {texts[0]!r} is text beside numbers such as {numbers[0]!r}: it is "
                f"sorted, filtered and drawn as text; write it without quotes"
            )
    return notes

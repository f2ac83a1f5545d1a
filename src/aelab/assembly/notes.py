"""Notes for readers of a file's results that follow from the file's text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aelab.config import RunSpec
from aelab.config.twins import axes_without_effect
from aelab.findings import Finding

_NUMBER = re.compile(r"\s*[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")


def common_findings(specs: Sequence[RunSpec]) -> list[Finding]:
    """Notes for readers of the results, each once; first of all old objectives."""
    found = list(dict.fromkeys(finding for spec in specs for finding in spec.findings))
    found += axes_without_effect(specs)
    found += texts_beside_numbers(specs)
    old = [spec.settings.legacy for spec in specs if spec.settings.legacy]
    if old:
        which = "every run" if len(old) == len(specs) else f"{len(old)} of {len(specs)} runs"
        parts = " and ".join(sorted({part for options in old for part in options}))
        found.append(
            Finding(
                "note",
                "legacy-objective",
                f"legacy objective ({parts}) in {which}: comparable with the old tables,"
                " not with corrected runs",
            )
        )
    return found


def texts_beside_numbers(specs: Sequence[RunSpec]) -> list[Finding]:
    """Notes on matrix keys that mix numbers with texts that look like numbers."""
    found = []
    for key in dict.fromkeys(key for spec in specs for key in spec.matrix):
        values = [spec.matrix[key] for spec in specs if key in spec.matrix]
        texts = [v for v in values if isinstance(v, str) and _NUMBER.match(v)]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if texts and numbers:
            found.append(
                Finding(
                    "note",
                    "text-beside-numbers",
                    f"matrix.{key}: {texts[0]!r} is text beside numbers such as {numbers[0]!r}: it "
                    "is sorted, filtered and drawn as text",
                    "write it without quotes",
                    specs[0].places.get(f"matrix.{key}"),
                )
            )
    return found

"""Building runs for real and looking into them, within some seconds a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from aelab.assembly.parts import build, fit_settings
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.doctor.checks import BuiltRun, examine
from aelab.doctor.plan import RunPlan
from aelab.doctor.reader import Reader
from aelab.errors import AelabError
from aelab.findings import Finding
from aelab.inspect import model_facts

if TYPE_CHECKING:
    from aelab.assembly.parts import Parts, Scheduled
    from aelab.settings import FitSettings
    from aelab.types import Images

#: CPU seconds that the checks of one file may take; the run in progress is finished.
SECONDS = 4.0
#: A run of fewer batches is not looked into before it trains.
FEW_BATCHES = 100


def examined(
    kinds: Mapping[str, RunSpec],
    plans: Mapping[str, RunPlan],
    reader: Reader,
    workspace: Workspace,
) -> dict[str, list[Finding]]:
    """What the checks find in runs of different kinds, as many as there is time for.

    The first and the last come first, then those in between, evenly spread: neighbours in a matrix
    are alike.

    Args:
        kinds: one run of each kind.
        plans: of the same; those that cannot run are left out.
    """
    possible = [kind for kind in kinds if not plans[kind].problems]
    found: dict[str, list[Finding]] = {}
    end = time.process_time() + SECONDS
    for place in _spread(len(possible)):
        if found and time.process_time() > end:
            break
        kind = possible[place]
        found[kind] = look_into(kinds[kind], plans[kind], reader, workspace)
    return found


def look_into(spec: RunSpec, plan: RunPlan, reader: Reader, workspace: Workspace) -> list[Finding]:
    """What the checks find in one run built on the CPU; images where they are quickly read."""
    try:
        # Weights from a file are not looked at, so that a check downloads nothing.
        parts = build(spec, replace(workspace, device="cpu"), restored=True)
        train = _first(parts.train, reader)
    except AelabError:  # what only a run can do, such as a part of a trusted project
        return []
    return examine(built_run(spec, parts, train, plan.flops_per_image or 0))


def look_into_run(
    spec: RunSpec, parts: Parts, images: Images, settings: FitSettings
) -> list[Finding]:
    """What the checks find in a run that is about to train.

    A run of a few batches is over as quickly as it is looked into, and is left alone.
    """
    run = BuiltRun(spec, parts, settings, images, len(images), 0)
    if run.end is not None and run.end.batches < FEW_BATCHES:
        return []
    flops = model_facts(parts.model, images.shape).flops_per_image
    return examine(replace(run, flops_per_image=flops))


def built_run(
    spec: RunSpec,
    parts: Parts,
    train: Images | None,
    flops_per_image: int,
) -> BuiltRun:
    """A run as the checks take it."""
    settings = fit_settings(spec, parts)
    count = parts.train[0].dataset.count()
    return BuiltRun(spec, parts, settings, train, count, flops_per_image)


def _first(entries: list[Scheduled], reader: Reader) -> Images | None:
    return reader.look(entries[0]) if entries else None


def _spread(count: int) -> Iterator[int]:
    """Each of 0 .. count - 1 once: both ends, then the middle of the widest gap left."""
    gaps, told = [(0, count - 1)] if count else [], set[int]()
    for place in (0, count - 1) if count else ():
        if place not in told:
            told.add(place)
            yield place
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if middle not in told:
            told.add(middle)
            yield middle
        gaps += [(a, b) for a, b in ((low, middle), (middle, high)) if b - a > 1]

"""Builds runs with weights and runs the checks on them, within some seconds for a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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

#: Limit of CPU seconds for the checks of one file; the run in progress is finished.
SECONDS = 2.5
#: The same after each value of each matrix key was met: further runs rarely tell more.
SECONDS_AFTER = 1.25
#: Runs with fewer batches are not checked before training.
FEW_BATCHES = 100


def examined(
    kinds: Mapping[str, RunSpec],
    plans: Mapping[str, RunPlan],
    reader: Reader,
    workspace: Workspace,
) -> dict[str, list[Finding]]:
    """Findings of the checks in runs of different kinds, as many as time allows.

    Starts with those that together have each value of each matrix key, because a flaw is mostly
    one of a value; then takes evenly spaced ones, because neighbours in a matrix are similar.

    Args:
        kinds: one run of each kind.
        plans: their plans; runs that cannot be trained are left out.
    """
    possible = [kind for kind in kinds if not plans[kind].problems]
    found: dict[str, list[Finding]] = {}
    start = time.process_time()
    for place, is_met in _covering([kinds[kind].matrix for kind in possible]):
        if found and time.process_time() - start > (SECONDS_AFTER if is_met else SECONDS):
            break
        kind = possible[place]
        found[kind] = look_into(kinds[kind], plans[kind], reader, workspace)
    return found


def look_into(spec: RunSpec, plan: RunPlan, reader: Reader, workspace: Workspace) -> list[Finding]:
    """Findings of the checks in one run built on the CPU, with images if quickly read."""
    try:
        # Files of weights are not read, so that a check downloads nothing.
        parts = build(spec, replace(workspace, device="cpu"), restored=True)
        train = _first(parts.train, reader)
    except AelabError:  # something that works only in a run, such as a part of a trusted project
        return []
    return examine(built_run(spec, parts, train, plan.flops_per_image or 0))


def look_into_run(
    spec: RunSpec, parts: Parts, images: Images, settings: FitSettings
) -> list[Finding]:
    """Findings of the checks in a run before its training.

    A run of a few batches trains as fast as it is checked, so it is skipped.
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
    """Makes the subject of the checks from a run."""
    settings = fit_settings(spec, parts)
    count = parts.train[0].dataset.count()
    return BuiltRun(spec, parts, settings, train, count, flops_per_image)


def _first(entries: list[Scheduled], reader: Reader) -> Images | None:
    return reader.look(entries[0]) if entries else None


def _covering(matrices: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, bool]]:
    """Each place of some matrix values once, next the one with the most values not met yet.

    Yields:
        The place, and whether each value was met before.
    """
    values = [{(key, repr(value)) for key, value in matrix.items()} for matrix in matrices]
    left, unmet = list(_spread(len(values))), set().union(*values)
    while left:
        place, is_met = left[0], not unmet
        if unmet:
            place = max(left, key=lambda place: len(values[place] & unmet))  # of equals the first
        left.remove(place)
        unmet -= values[place]
        yield place, is_met


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

"""Equal runs of a file: runs that differ only in matrix keys which nothing mentions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from aelab.config.experiment import RunSpec, Twin
from aelab.findings import Finding


def with_twins(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Returns the runs, each with the others of the same identity in `same`."""
    by_identity: dict[str, list[RunSpec]] = defaultdict(list)
    for spec in specs:
        by_identity[spec.identity].append(spec)
    if len(by_identity) == len(specs):
        return list(specs)
    twins = {
        identity: [Twin(s.name, s.folder, s.matrix_id, s.matrix_slug, s.matrix) for s in same]
        for identity, same in by_identity.items()
    }
    return [
        replace(spec, same=tuple(t for t in twins[spec.identity] if t.folder != spec.folder))
        for spec in specs
    ]


def trained_for(specs: Sequence[RunSpec], stored: Iterable[str] = ()) -> dict[str, RunSpec]:
    """Folder of each run -> the run that is trained for it: the run itself or a twin.

    Args:
        specs: the selected runs.
        stored: folders of existing runs, best first: one of these is preferred among twins.
    """
    rank = {folder: place for place, folder in enumerate(stored)}
    chosen: dict[str, RunSpec] = {}
    for spec in specs:
        before = chosen.get(spec.identity)
        if before is None or rank.get(spec.folder, len(rank)) < rank.get(before.folder, len(rank)):
            chosen[spec.identity] = spec
    return {spec.folder: chosen[spec.identity] for spec in specs}


def differing_keys(spec: RunSpec) -> list[str]:
    """Matrix keys in which a run differs from its twins, so they have no effect on it."""
    return [
        key
        for key, value in spec.matrix.items()
        if any(repr(twin.matrix.get(key)) != repr(value) for twin in spec.same)
    ]


def axes_without_effect(specs: Sequence[RunSpec]) -> list[Finding]:
    """Notes for matrix keys that have no effect in some or all of the runs."""
    concerned: dict[str, list[RunSpec]] = defaultdict(list)
    for spec in specs:
        for key in differing_keys(spec):
            concerned[key].append(spec)
    found = []
    for key, runs in concerned.items():
        if len({repr(spec.matrix.get(key)) for spec in runs}) < 2:
            continue  # only one of its values is selected
        different = len({spec.identity for spec in runs})
        of_all = "" if len(runs) == len(specs) else f" of {len(specs)}"
        found.append(
            Finding(
                "note",
                "axis-without-effect",
                f"the matrix key {key!r} changes nothing in {len(runs)}{of_all} runs: they are "
                f"{different} different run{'s' if different != 1 else ''}, trained once each",
                f"mention it in a value as ${{{key}}}, or in a block by its name; or take it out "
                "of the matrix. To repeat runs with other seeds: trials: 3",
                runs[0].places.get(f"matrix.{key}"),
            )
        )
    return found

"""The runs of an experiment file, or every mistake in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aelab import config
from aelab.assembly.workspace import Workspace
from aelab.errors import AelabError, Mistakes, Problems, UserError, one_of
from aelab.runs.find import Only, matches, quoted

if TYPE_CHECKING:
    from aelab.assembly.parts import Parts
    from aelab.assembly.rehearsal import Rehearsed
    from aelab.config import RunSpec
    from aelab.findings import Finding
    from aelab.settings import FitSettings
    from aelab.types import Images


def specs_of(
    file: str | Path,
    workspace: Workspace,
    only: Only = None,
    changes: Mapping[str, Any] | None = None,
) -> list[RunSpec]:
    """The selected runs of a file.

    Args:
        file: experiment file.
        workspace: decides whether blocks are plain Python, and what they may read.
        only: glob that a run's name must match, or several: one of them must.
        changes: top-level keys that replace the file's.

    Raises:
        Problems: every mistake of the file at once.
        UserError: no run is selected.
    """
    path, changes = Path(file), changes or {}
    try:
        specs = config.load(path, trust=workspace.trust, changes=changes).runs()
    except Problems as problems:
        beside = _beside_unknown_keys(problems, path, workspace, changes)
        if not beside:
            raise
        raise Problems([*problems.errors, *beside]) from None
    chosen = [spec for spec in specs if matches((spec.name, spec.folder), only)]
    if not chosen:
        raise UserError(
            f"no run of {file} matches {quoted(only or '')}",
            hint=f"the runs are: {one_of([spec.name for spec in specs], limit=12)}",
        )
    return chosen


def rehearse(specs: Sequence[RunSpec], workspace: Workspace, to_train: bool = False) -> Rehearsed:
    """See `preflight.rehearse`: torch is imported when it is called.

    Raises:
        Problems: each mistake once.
    """
    from aelab.doctor import preflight

    return preflight.rehearse(specs, workspace, to_train)


def look_into_run(
    spec: RunSpec, parts: Parts, images: Images, settings: FitSettings
) -> list[Finding]:
    """Calls `examination.look_into_run`; imports torch only then."""
    from aelab.doctor import examination

    return examination.look_into_run(spec, parts, images, settings)


def _beside_unknown_keys(
    problems: Problems, path: Path, workspace: Workspace, changes: Mapping[str, Any]
) -> list[AelabError]:
    """Further mistakes of a file whose only mistakes so far are unknown keys.

    The file is loaded again without these keys, so that all mistakes are reported at once.
    """
    unknown = [error for error in problems.errors if isinstance(error, config.UnknownKey)]
    if len(unknown) < len(problems.errors):
        return []
    keys = [error.where.key for error in unknown if error.where and error.where.key]
    mistakes = Mistakes()
    with mistakes.collected():
        specs = config.load(path, trust=workspace.trust, changes=changes, without=keys).runs()
        rehearse(specs, workspace)
    return mistakes.errors

"""Checks of the images of a run, used by both `check` and `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from aelab.assembly.number_checks import oddities, out_of_reach, placed, unfrozen_validation
from aelab.assembly.parts import Parts, Scheduled, Sets, located
from aelab.config import RunSpec
from aelab.errors import AelabError, ConfigError, Problems
from aelab.findings import Finding, at_level
from aelab.ops.factors import factor_findings
from aelab.ops.labels import class_findings
from aelab.ops.look import (
    findings_in_images,
    input_findings,
    loss_findings,
    made_images,
    noisy_target_findings,
    pair_findings,
    same_set,
    shapes_differ,
)
from aelab.ops.near_duplicates import near_duplicate_findings

if TYPE_CHECKING:
    from aelab.train import FitSettings
    from aelab.types import Images


def name_of(entry: Scheduled, kind: str) -> str:
    """`train_set`, or `train_set3` from epoch 3 on."""
    return f"{kind}{entry.first_epoch or ''}"


def look_at_images(
    spec: RunSpec, parts: Parts, train: Sets, validation: Sets, settings: FitSettings
) -> None:
    """Checks the images of a run and stores the findings in `parts.findings`.

    Raises:
        ConfigError: a problem; several as `Problems`.
    """
    sides = [images for _, images in train], [images for _, images in validation]
    parts.findings = findings_of(spec, parts, *sides, settings)
    tell(parts.findings)


def tell(findings: Sequence[Finding]) -> None:
    """Raises the problems among findings; notes and warnings are ignored.

    Raises:
        ConfigError: the only one.
        Problems: several.
    """
    errors = as_errors(findings)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Problems(errors)


def as_errors(findings: Sequence[Finding]) -> list[AelabError]:
    """The problems among findings, at their places in the file."""
    errors: list[AelabError] = []
    for finding in findings:
        if finding.level == "problem":
            errors.append(
                ConfigError(
                    finding.message,
                    where=finding.where,
                    hint=finding.way_out or None,
                    code=finding.code,
                )
            )
    return errors


def findings_of(
    spec: RunSpec,
    parts: Parts,
    train: Sequence[Images | None],
    validation: Sequence[Images | None],
    settings: FitSettings,
) -> list[Finding]:
    """Findings about the sets of a run, and about its settings for such sets.

    Args:
        spec, parts: spec and parts of the run.
        train, validation: the images of its sets in order, None for sets that were not read.
        settings: settings of the run.
    """
    found = list(_of_sources(images for images in [*train, *validation] if images is not None))
    for entry, images, name in _named(parts, train, validation):
        if images is not None:
            mine = _of_set(parts, images, name, settings)
            if name.startswith("validation"):
                mine += unfrozen_validation(name, images.augment, settings)
            found += placed(mine, entry.where)
    found += _of_input(spec, parts, [*train, *validation], settings)
    found += _between(parts, train, validation)
    counts = _counts(parts.train, train), _counts(parts.validation, validation)
    with located(parts.train[0].where):
        shape = parts.train[0].dataset.shape
    if train and train[0] is not None and not any(f.level == "problem" for f in found):
        found += out_of_reach(spec, parts.model, train[0])
    return found + oddities(spec, parts, settings, shape, counts)


def _of_sources(sets: Iterable[Images]) -> Iterator[Finding]:
    """Notes on the sources of images, such as a set used in place of another; each once.

    Tables show them in the line of the source.
    """
    for note in dict.fromkeys(p.note for images in sets for p in images.provenance if p.note):
        yield Finding("note", "data-source", note)


def _counts(entries: Sequence[Scheduled], sets: Sequence[Images | None]) -> list[int | None]:
    """The number of images of each set; None if not known."""
    return [
        entry.dataset.count() if images is None else len(images)
        for entry, images in zip(entries, sets, strict=True)
    ]


def _of_input(
    spec: RunSpec, parts: Parts, sets: Sequence[Images | None], settings: FitSettings
) -> list[Finding]:
    """Findings from trying the input transforms on some images of each set, or artificial ones."""
    if not settings.input_transforms:
        return []
    known = [images for images in sets if images is not None]
    where = spec.blocks["input_transforms"].where
    name = where.key or "input_transforms"
    for images in known or [made_images(parts.train[0].dataset.shape)]:
        with located(where):
            found = input_findings(images, name, settings.input_transforms)
        if found:
            return placed(found, where)
    return []


def _named(
    parts: Parts, train: Sequence[Images | None], validation: Sequence[Images | None]
) -> Iterator[tuple[Scheduled, Images | None, str]]:
    for entries, sets, kind in (
        (parts.train, train, "train_set"),
        (parts.validation, validation, "validation_set"),
    ):
        for entry, images in zip(entries, sets, strict=True):
            yield entry, images, name_of(entry, kind)


def _of_set(parts: Parts, images: Images, name: str, settings: FitSettings) -> list[Finding]:
    found = [*findings_in_images(images, name), *class_findings(parts.model, images, name)]
    size = settings.batch_size
    found += factor_findings(parts.model, parts.objective, images, name, size)
    if any(finding.level == "problem" for finding in found):
        return found
    ranges = parts.objective.target_ranges
    found += loss_findings(images, name, ranges)
    unit = dict.fromkeys(parts.objective.of_unit_images, (0.0, 1.0))
    found += loss_findings(images, name, unit, "note")
    if settings.noise_in_target:
        found += noisy_target_findings(name, ranges, settings.training_noise)
    return found


def _between(
    parts: Parts, train: Sequence[Images | None], validation: Sequence[Images | None]
) -> list[Finding]:
    found: list[Finding] = []
    for ours, first in zip(parts.train, train, strict=True):
        for theirs, second in zip(parts.validation, validation, strict=True):
            names = name_of(ours, "train_set"), name_of(theirs, "validation_set")
            if first is not None and second is not None:
                mine = pair_findings(first, second, names)
                if not at_level("problem", mine):
                    mine += near_duplicate_findings(first, second, names)
            else:
                mine = _told_by_descriptions(ours, theirs, names)
            found += placed(mine, theirs.where)
    return found


def _told_by_descriptions(
    ours: Scheduled, theirs: Scheduled, names: tuple[str, str]
) -> list[Finding]:
    """Findings about two sets that need only their descriptions, no pixels."""
    with located(ours.where):
        first = ours.dataset.shape
    with located(theirs.where):
        second = theirs.dataset.shape
    if first != second:
        return [shapes_differ(first, second, names)]
    if ours.dataset.fingerprint() == theirs.dataset.fingerprint():
        return [same_set(names)]
    return []

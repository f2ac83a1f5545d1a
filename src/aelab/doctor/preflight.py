"""`aelab check`: builds and tries the runs of a file without training them."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from aelab.assembly.cost import mean_flops, memory_mb, planned_images, set_to_end
from aelab.assembly.data_checks import as_errors, findings_of
from aelab.assembly.notes import common_findings
from aelab.assembly.number_checks import empty_latent, placed
from aelab.assembly.parts import (
    Parts,
    Scheduled,
    build,
    choose_device,
    fit_settings,
    located,
    users_code,
)
from aelab.assembly.rehearsal import Built, Rehearsed, refuse_wrong_arguments
from aelab.assembly.stored_state import is_begun, state_to_load
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.config.twins import trained_for
from aelab.doctor.examination import examined
from aelab.doctor.plan import STEP_PER_FORWARD, Plan, RunPlan, training_flops_per_second
from aelab.doctor.precision import Precisions
from aelab.doctor.reader import Reader
from aelab.errors import AelabError, ConfigError, Mistakes, Problems, Where
from aelab.findings import Finding, below_problems, has_figures, of_errors
from aelab.hardware import asked_threads
from aelab.inspect import DryRun, asks_for_values, model_facts, try_model
from aelab.ops.factors import made_factors
from aelab.posteriors import changed
from aelab.settings import FitSettings, Settings
from aelab.train import choose_threads, settings_of_player
from aelab.train.machine import prepared_process

if TYPE_CHECKING:
    from aelab.inspect import ModelFacts, Trial
    from aelab.types import Images, Output


#: Words in a block that may refer to a variable; not `seed` in `seed=1`.
_READ_NAME = re.compile(r"\b[^\W\d]\w*\b(?!\s*=[^=])")


def plan_runs(specs: Sequence[RunSpec], file: str, workspace: Workspace) -> Plan:
    """Builds each run on the meta device; returns its cost, or why it is impossible."""
    device = choose_device("cpu")
    workspace = replace(workspace, planned=tuple(specs))
    with prepared_process(asked_threads() or choose_threads(), device, deterministic=False):
        speed = training_flops_per_second(device)
    trained, plans = trained_for(specs), []
    reader = Reader()
    kinds = {spec.folder: _kind(trained[spec.folder], workspace) for spec in specs}
    first = {kinds[spec.folder]: trained[spec.folder] for spec in reversed(specs)}
    first = {kind: first[kind] for kind in dict.fromkeys(kinds.values())}
    known: dict[str, _Tried] = {}
    precisions = Precisions(workspace.device)
    built = {
        kind: _plan(spec, speed, reader, workspace, known, precisions)
        for kind, spec in first.items()
    }
    looked = examined(first, built, reader, workspace)
    for spec in specs:
        own, kind = trained[spec.folder], kinds[spec.folder]
        same = "" if own is spec else own.name
        found = [*built[kind].findings, *looked.get(kind, [])]
        plans.append(
            replace(
                built[kind],
                name=spec.name,
                matrix=dict(spec.matrix),
                same_as=same,
                findings=found,
                is_examined=kind in looked,
            )
        )
    return Plan(file, plans, below_problems([*common_findings(specs), *_of_runs(specs, plans)]))


def _kind(spec: RunSpec, workspace: Workspace) -> str:
    """A key that is equal for runs with equal plans, which differ at most in seed and name.

    Trusted blocks are plain Python and may use any variable, so each run has its own key.
    """
    fit = spec.settings.fit
    if fit.seed:
        fit = replace(fit, seed=0)
    return _key(spec, workspace, repr(fit))


def _model_key(spec: RunSpec, workspace: Workspace) -> str:
    """A key that is equal for runs whose models, sets, objectives and lengths are equal."""
    fit = spec.settings.fit
    return _key(spec, workspace, repr((fit.batch_size, fit.max_images, fit.max_epochs)))


def _key(spec: RunSpec, workspace: Workspace, fit: str) -> str:
    """A key of everything a plan depends on.

    Args:
        fit: the settings of the loop that count, as text.
    """
    if workspace.trust:
        return spec.folder
    text = "\n".join(f"{key}: {block.text}" for key, block in spec.blocks.items())
    words = _words(text)
    used = {key: value for key, value in spec.variables.items() if key in words}
    others = [getattr(spec.settings, name) for name in _BESIDE_FIT]
    begun = is_begun(spec, workspace.store)
    return repr((text, used, fit, others, spec.findings, begun))


#: The settings of a run that are not those of the loop.
_BESIDE_FIT = tuple(field.name for field in fields(Settings) if field.name != "fit")


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    """The words of the blocks that may refer to a variable; most runs share the blocks."""
    return frozenset(_READ_NAME.findall(text))


def _of_runs(specs: Sequence[RunSpec], plans: Sequence[RunPlan]) -> list[Finding]:
    """Warnings and notes of the runs, each once, with the number of runs if not all have it.

    Findings that differ only in their numbers are represented by the first.
    """
    count: dict[Finding, int] = {}
    alike: dict[tuple[str, str], Finding] = {}
    for spec, plan in zip(specs, plans, strict=True):
        for found in below_problems(plan.findings):
            if has_figures(found):
                found = alike.setdefault((found.level, found.code), found)
            if found not in spec.findings:
                count[found] = count.get(found, 0) + 1
    possible = sum(not plan.problems for plan in plans)
    looked = sum(plan.is_examined for plan in plans)
    whole = {True: (looked, f"{looked} runs looked into"), False: (possible, f"{possible} runs")}
    told = []
    for found, number in count.items():
        of, words = whole[has_figures(found) and looked < possible]
        more = f" ({number} of {words})" if number < of or words.endswith("into") else ""
        told.append(replace(found, message=f"{found.message}{more}"))
    return told


def rehearse(specs: Sequence[RunSpec], workspace: Workspace, to_train: bool) -> Rehearsed:
    """Looks for the first run that can be trained.

    A mistake in every run is a mistake of the file: it is reported before a folder is made.

    Args:
        specs: the runs.
        workspace: where runs are, what may be read, and the device.
        to_train: build it as its training does, which then takes over what was built.

    Raises:
        Problems: no run can be trained; each mistake once.
    """
    errors: dict[str, AelabError] = {}
    reader = Reader()
    for spec in specs:
        found = Mistakes()
        with found.collected(), users_code(spec, Where(spec.file)):
            return _rehearsed(spec, reader, workspace, to_train)
        errors |= {str(error): error for error in found.errors}
    raise Problems(list(errors.values()))


def _rehearsed(spec: RunSpec, reader: Reader, workspace: Workspace, to_train: bool) -> Rehearsed:
    """A run that can be trained; only copies of its model and objective were tried."""
    built: list[Built] = []

    def on_meta() -> Parts:
        """Copies of the parts for the check; the real ones are kept for training."""
        # A failure here also occurs on the meta device, or is reported by the training: a
        # download, too little memory, an object that cannot be copied.
        with contextlib.suppress(Exception):
            if to_train:
                built.append(Built.of(spec, workspace))
                return _copied(built[0].parts, "meta")
        return _built(spec, workspace)

    def real() -> Parts:
        """The parts with values."""
        return _copied(built[0].parts, "cpu") if built else _real(spec, workspace)

    with torch.random.fork_rng(devices=[]):
        tried, settings = _tried(spec, reader, workspace, on_meta, real)
    megabytes = _memory_mb(tried.facts, tried.trial, settings)
    return Rehearsed(megabytes, built[0] if built else None)


def _copied(parts: Parts, device: str) -> Parts:
    """The same data sets with copies of model and objective, which may share modules."""
    model, objective = copy.deepcopy((parts.model, parts.objective))
    return replace(parts, model=model.to(device), objective=objective.to(device))


def _memory_mb(facts: ModelFacts, trial: Trial, settings: FitSettings) -> float:
    once = trial.once[1]
    activations = (trial.activations - once) / len(trial.images) + once / settings.batch_size
    return memory_mb(facts.parameters["model"], activations, settings.batch_size)


def _plan(
    spec: RunSpec,
    speed: float,
    reader: Reader,
    workspace: Workspace,
    known: dict[str, _Tried],
    precisions: Precisions,
) -> RunPlan:
    found = Mistakes()
    # Also catches unexpected errors: they are this run's problem, and the others are still planned.
    with found.collected(), users_code(spec, Where(spec.file)):
        return _costs(spec, speed, reader, workspace, known, precisions)
    return _impossible(spec, of_errors(found.errors))


def _built(spec: RunSpec, workspace: Workspace) -> Parts:
    """The parts on the meta device; a continued run needs no files of weights."""
    return build(spec, workspace, meta=True, restored=is_begun(spec, workspace.store))


class _Tried(NamedTuple):
    """Parts whose model was tried.

    Attributes:
        parts: on the meta device.
        shape: (C, H, W) of the images.
        trial, facts: of the model.
    """

    parts: Parts
    shape: tuple[int, int, int]
    trial: Trial
    facts: ModelFacts


def _tried(
    spec: RunSpec,
    reader: Reader,
    workspace: Workspace,
    on_meta: Callable[[], Parts],
    real: Callable[[], Parts],
    known: dict[str, _Tried] | None = None,
) -> tuple[_Tried, FitSettings]:
    """The tried parts and the run's settings; every mistake that does not follow from another.

    Args:
        spec: the run.
        reader: reads what takes a moment.
        workspace: where runs are, and what may be read.
        on_meta: makes the parts to check.
        real: the same with values, for a model that cannot be tried without.
        known: sound trials of other runs by `_model_key`: not tried again, and added to.
    """
    mistakes, key = Mistakes(), _model_key(spec, workspace)
    known = {} if known is None else known
    tried, facts = known.get(key), None
    parts, shape, trial = tried[:3] if tried else _tried_model(spec, on_meta, real, mistakes)
    if parts and shape and trial and not mistakes.errors:
        facts = tried.facts if tried else model_facts(parts.model, shape, trial)
        known[key] = _Tried(parts, shape, trial, facts)
        parts = replace(parts, findings=[])
    settings = fit_settings(spec, parts)
    with mistakes.collected():
        refuse_wrong_arguments(spec, parts, settings)
    if parts and shape:
        _look_at_data(spec, parts, reader, settings, mistakes)
    if parts and spec.settings.load:
        with mistakes.collected():
            state_to_load(spec, parts.model, workspace)
    mistakes.tell()
    assert parts and shape and trial and facts
    return _Tried(parts, shape, trial, facts), settings


def _tried_model(
    spec: RunSpec,
    on_meta: Callable[[], Parts],
    real: Callable[[], Parts],
    mistakes: Mistakes,
) -> tuple[Parts | None, tuple[int, int, int] | None, Trial | None]:
    """Builds a run and tries its model as it is at its end.

    What failed is None, and its errors are in `mistakes`.
    """
    parts, shape, trial = None, None, None
    with mistakes.collected():
        parts = on_meta()
    if parts:
        with mistakes.collected():
            shape = _verified_shape(parts)
    if parts and shape:
        set_to_end(parts.model, fit_settings(spec, parts), parts.train[0].dataset.count())
        with mistakes.collected(), users_code(spec, spec.blocks["model"].where):
            trial = _trial(spec, parts, shape, real)
            mistakes.errors += as_errors(
                placed(empty_latent(parts.model, trial), spec.blocks["model"].where)
            )
    return parts, shape, trial


def _look_at_data(
    spec: RunSpec, parts: Parts, reader: Reader, settings: FitSettings, mistakes: Mistakes
) -> None:
    """Checks the sets that can be read quickly; stores the results in `parts.findings`."""

    def read(entries: Sequence[Scheduled]) -> list[Images | None]:
        """The images of sets that can be read quickly; None for others."""
        sets: list[Images | None] = []
        for entry in entries:
            sets.append(None)
            with mistakes.collected():
                sets[-1] = reader.read(entry)
        return sets

    train, validation = read(parts.train), read(parts.validation)
    with mistakes.collected():
        parts.findings = findings_of(spec, parts, train, validation, settings)
        mistakes.errors += as_errors(parts.findings)


def _trial(
    spec: RunSpec, parts: Parts, shape: tuple[int, int, int], real: Callable[[], Parts]
) -> Trial:
    """Tries model and objective with two images on the meta device, which computes nothing.

    Code that needs real values (`.item()`, `if loss > 1`) is valid but fails there. Then the parts
    that `real` builds on the CPU are tried instead.
    """
    try:
        return _tried_on(spec, parts, shape, "meta")
    except Exception as error:
        if not asks_for_values(error):
            raise
    return _tried_on(spec, real(), shape, "cpu")


def _tried_on(spec: RunSpec, parts: Parts, shape: tuple[int, int, int], device: str) -> Trial:
    trial = try_model(parts.model, shape, device)
    names = ("perceptual_model", "objective", "loss_function")  # the first decides what is compared
    place = next((spec.places[name] for name in names if name in spec.places), None)
    with users_code(spec, place or spec.blocks["model"].where):
        output = _with_gradients(trial.output)
        # A term that starts later would fail hours later.
        starts = {int(term.course.start_images) for term in parts.objective.terms}
        for images in sorted({0, *starts}):
            known = made_factors(parts.objective, trial.images)
            terms = parts.objective(output, trial.images, images, *known)
            total = parts.objective.total(terms, images)
            if not total.requires_grad:
                raise ConfigError(
                    f"nothing can be learned from {parts.objective.describe()}: it has no gradient",
                    hint=NO_GRADIENT,
                )
    return trial


#: Hint for a loss without gradient.
NO_GRADIENT = (
    "round, argmax, comparisons, detach and item() end the gradient; compute the loss from the "
    "reconstruction itself"
)


def _with_gradients(output: Output) -> Output:
    """A copy of the output in which each float tensor is a leaf with gradient."""

    def leaf(value: Any) -> Any:
        """A float tensor as a leaf with gradient; anything else unchanged."""
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.detach().clone().requires_grad_()
        if isinstance(value, dict):  # `Output.details`
            return {name: leaf(item) for name, item in value.items()}
        return changed(value, leaf) if isinstance(value, tuple) else value

    return output._replace(**{name: leaf(value) for name, value in output._asdict().items()})


def _real(spec: RunSpec, workspace: Workspace) -> Parts:
    """The parts on the CPU, with real values."""
    begun = is_begun(spec, workspace.store)
    return build(spec, replace(workspace, device="cpu"), restored=begun)


def _costs(
    spec: RunSpec,
    speed: float,
    reader: Reader,
    workspace: Workspace,
    known: dict[str, _Tried],
    precisions: Precisions,
) -> RunPlan:
    (parts, shape, trial, facts), settings = _tried(
        spec,
        reader,
        workspace,
        lambda: _built(spec, workspace),
        lambda: _real(spec, workspace),
        known,
    )
    count = parts.train[0].dataset.count()
    if count is None and (read := reader.read(parts.train[0])) is not None:
        count = len(read)
    images = planned_images(settings, count)
    seconds = None
    critics, more = _critics(spec, parts, trial, settings)
    parts.findings += critics
    if images:
        flops = more + mean_flops(parts.model, shape, settings, count, facts.flops_per_image)
        flops += facts.flops_per_batch / settings.batch_size
        seconds = images * STEP_PER_FORWARD * flops / speed
    step = seconds / images * settings.batch_size if seconds and images else None
    tried = precisions.tried(
        _model_key(spec, workspace),
        settings,
        reader.read(parts.train[0]),
        step,
        lambda: _real(spec, workspace),
    )
    parts.findings += precisions.told(spec, tried)
    if seconds and tried is not None and tried.choose_bfloat16:
        seconds /= tried.gain
    return RunPlan(
        name=spec.name,
        matrix=dict(spec.matrix),
        parameters=facts.parameters,
        shape=shape,
        latent_shape=facts.latent_shape,
        flops_per_image=facts.flops_per_image,
        images=images,
        estimated_seconds=seconds,
        estimated_memory_mb=_memory_mb(facts, trial, settings),
        findings=[*spec.findings, *facts.findings, *parts.findings],
    )


def _critics(
    spec: RunSpec, parts: Parts, trial: Trial, settings: FitSettings
) -> tuple[list[Finding], int]:
    """A note on each critic of the objective, and the FLOPs of their forward passes an image."""
    found, flops = [], 0
    for name, critic in parts.objective.players.items():
        if critic.network is None:  # the model was tried with other copies
            continue
        own = settings_of_player(critic.learning, settings)
        with torch.no_grad(), DryRun() as counter:
            critic.network(critic.seen(trial.output))
        # The model's term looks at reconstructions, the critic at both, them and the images.
        flops += 3 * counter.flops // len(trial.images)
        count = sum(p.numel() for p in critic.network.parameters())
        words = f"{name}: a critic of {count:,} parameters learns beside the model, with "
        words += f"{own.optimizer.name} at {own.learnrate:g}"
        found.append(Finding("note", "critic", words, where=spec.places.get("objective")))
    return found, flops


def _verified_shape(parts: Parts) -> tuple[int, int, int]:
    """(C, H, W) of the training images; checks that files exist, does not read pixels."""
    for entry in [*parts.train, *parts.validation]:
        with located(entry.where):
            entry.dataset.verify()
    for entry in [*parts.train[1:], *parts.validation]:
        with located(entry.where):
            _ = entry.dataset.shape  # tries functions of one image, once
    with located(parts.train[0].where):
        return parts.train[0].dataset.shape


def _impossible(spec: RunSpec, problems: list[Finding]) -> RunPlan:
    return RunPlan(
        name=spec.name,
        matrix=dict(spec.matrix),
        images=spec.settings.fit.max_images,
        findings=problems,
    )

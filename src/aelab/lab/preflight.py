"""`aelab check`: everything that can be known of a file's runs without training them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aelab.config import RunSpec
from aelab.errors import AelabError, Problems
from aelab.lab.build import Parts, asked_threads, build, choose_device, fit_settings
from aelab.lab.plan import STEP_PER_FORWARD, Plan, RunPlan, memory_mb, training_flops_per_second


def plan_runs(
    specs: Sequence[RunSpec], file: str, *, folders: Sequence[Path], trust: bool, runs: Path
) -> Plan:
    """Builds each run on the meta device and says what it costs or why it is impossible."""
    from aelab.train import choose_threads
    from aelab.train.machine import prepared_process

    device = choose_device("cpu")
    with prepared_process(asked_threads() or choose_threads(), device, deterministic=False):
        speed = training_flops_per_second(device)
    plans = [_plan(spec, speed, folders=folders, trust=trust, runs=runs) for spec in specs]
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    return Plan(file, plans, list(notes))


def _plan(
    spec: RunSpec, speed: float, *, folders: Sequence[Path], trust: bool, runs: Path
) -> RunPlan:
    try:
        parts = build(spec, trust=trust, folders=folders, meta=True)
        return _costs(spec, parts, speed, runs)
    except Problems as problems:
        return _impossible(spec, [str(error) for error in problems.errors])
    except AelabError as error:
        return _impossible(spec, [str(error)])


def _costs(spec: RunSpec, parts: Parts, speed: float, runs: Path) -> RunPlan:
    from aelab.models import model_facts
    from aelab.train import make_state

    shape = _verified_shape(parts)
    facts = model_facts(parts.model, shape)
    settings = fit_settings(spec, parts)
    if any(True for _ in parts.model.parameters()):
        make_state(parts.model, settings, "meta")  # unknown optimisers and schedulers show here
    if spec.settings.load:
        from aelab.runs.store import Store

        Store(runs).resolve(spec.settings.load)
    images = spec.settings.max_inputs
    seconds = None
    if images:
        seconds = images * STEP_PER_FORWARD * facts.flops_per_image / speed
    return RunPlan(
        name=spec.name,
        matrix=dict(spec.matrix),
        parameters=facts.parameters,
        shape=shape,
        latent_shape=facts.latent_shape,
        flops_per_image=facts.flops_per_image,
        images=images,
        estimated_seconds=seconds,
        estimated_memory_mb=memory_mb(parts.model, shape, settings.batch_size),
        notes=parts.notes,
    )


def _verified_shape(parts: Parts) -> tuple[int, int, int]:
    """(C, H, W) of the training images; files are looked for, pixels are not read."""
    for _, dataset in [*parts.train, *parts.validation]:
        dataset.verify()
    return parts.train[0][1].shape


def _impossible(spec: RunSpec, problems: list[str]) -> RunPlan:
    return RunPlan(
        name=spec.name, matrix=dict(spec.matrix), images=spec.settings.max_inputs, problems=problems
    )

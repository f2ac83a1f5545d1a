"""Checks of a built run: problems that will spoil its result, reported before training.

Each check is a small function from a `BuiltRun` to findings, with numbers and a way out. It does
not change the run. `docs/doctor.md` describes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from aelab.doctor.checks import (
    bypass,
    learnrate,
    objective,
    pictures,
    schedule,
    solver,
    text,
    validation,
)
from aelab.doctor.checks.subject import BuiltRun
from aelab.errors import in_words
from aelab.findings import Finding
from aelab.hardware import asked_threads
from aelab.ops.random import seed_default
from aelab.train import choose_threads
from aelab.train.machine import prepared_process

Check = Callable[[BuiltRun], Iterable[Finding]]

#: All checks; those that need no image come first.
CHECKS: tuple[Check, ...] = (
    text.unused_results,
    schedule.schedule,
    validation.live_in_validation,
    validation.depends_on_batch_mates,
    validation.tiny_last_batch,
    pictures.stuck_output,
    pictures.unreached_pixels,
    pictures.latent_too_wide,
    bypass.pictures_beside_code,
    solver.unsolved_equations,
    objective.noise_in_target,
    objective.kl_is_none,
    objective.free_rescaling,
    objective.floor_of_terms,
    objective.terms_without_gradient,
    objective.outweighed,
    objective.kl_weight,
    learnrate.learnrate,
)

__all__ = ["CHECKS", "BuiltRun", "Check", "examine"]


def examine(run: BuiltRun) -> list[Finding]:
    """Runs all checks and returns their findings in order.

    The random state of the process is restored, so that the run trains as without the checks.
    """
    threads = run.settings.threads or asked_threads() or choose_threads()
    found: list[Finding] = []
    with (
        torch.random.fork_rng(devices=[]),
        prepared_process(threads, torch.device("cpu"), deterministic=False),
    ):
        seed_default(0)
        for check in CHECKS:
            try:
                found += list(check(run))
            except Exception as error:  # a failing check must not stop the run
                where = run.place("model")
                found.append(Finding("note", "check-failed", _failed(check, error), where=where))
    return found


def _failed(check: Check, error: Exception) -> str:
    return f"the check {check.__name__} cannot look at this run: {in_words(error)}"

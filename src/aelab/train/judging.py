"""Which validation losses may be compared: those with the objective and model of the run's end.

While loss weights rise, layers are added or temperatures fall, an early loss measures something
else than a late one. So `best`, `min_loss` and `ReduceLROnPlateau` use only comparable losses.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.findings import Finding
from aelab.settings import FitSettings
from aelab.train.batches import ScheduledSets
from aelab.train.clocked_modules import find_clocked, set_clock
from aelab.train.forward import ObjectiveLike
from aelab.train.horizon import Horizon
from aelab.train.progress import JUDGING
from aelab.train.state import State


class Goal(NamedTuple):
    """The end of a run, for comparisons with it.

    Attributes:
        end: its counters at the end.
        model_settings: the settings that the clock will have set in the model by then.
    """

    end: Horizon
    model_settings: list[tuple[str, Any]]


def goal_of(model: nn.Module, end: Horizon) -> Goal:
    """The goal of a run with this end; the model is not changed."""
    if not find_clocked(model):
        return Goal(end, [])
    shared = {id(t): t for t in itertools.chain(model.parameters(), model.buffers())}
    later = copy.deepcopy(model, shared)  # copies settings only; weights and buffers are shared
    set_clock(later, end.images, end.epoch)
    return Goal(end, _evaluated_settings(later))


def final_total(
    objective: ObjectiveLike, values: Mapping[str, Tensor], settings: FitSettings, images_seen: int
) -> Tensor:
    """The weighted sum of the terms, per sample (B,), with the final weights.

    For an objective without a method `final_total`: its total at `max_images`, or now if the
    settings do not limit images.
    """
    final = getattr(objective, "final_total", None)
    if final is not None:
        total: Tensor = final(values)
        return total
    return objective.total(values, max(images_seen, settings.max_images or 0))


def final_loss(
    objective: ObjectiveLike, terms: Mapping[str, float], images_seen: int
) -> dict[str, float]:
    """`loss_final`, the training loss with the final weights; empty where weights are final.

    Args:
        terms: mean training terms by name.
        images_seen: at the start of the window of these means.
    """
    is_final = getattr(objective, "is_final", None)
    if is_final is None or is_final(images_seen):
        return {}
    # Of the means: where a term is held at a capacity, that is at most the mean over images.
    means = {name: torch.tensor(value, dtype=torch.float64) for name, value in terms.items()}
    return {"loss_final": float(objective.total(means, None))}  # type: ignore[arg-type]


def is_settled(state: State, run: int, held_out: ScheduledSets, goal: Goal) -> bool:
    """Whether the model's settings and the validation set are already those of the run's end."""
    if held_out.position(state.clock.epoch) != held_out.position(goal.end.epoch):
        return False
    return _evaluated_settings(state.learner.members[run].evaluated_model) == goal.model_settings


def renew_judging(
    state: State, run: int, objective: ObjectiveLike, held_out: ScheduledSets, goal: Goal
) -> tuple[Finding, ...]:
    """Converts a state of an earlier version to the current choice of the best state.

    The stored best loss is dropped where it may come from other weights, another model or set, or
    from latents without noise. Then the next validation is the best.

    Returns:
        A warning if the best loss was dropped.
    """
    before, state.progress[run].judging = state.progress[run].judging, JUDGING
    if before >= JUDGING or state.progress[run].best_images is None:
        return ()
    weights = getattr(objective, "weights", lambda images: None)
    changed = (
        weights(state.progress[run].best_images) != weights(None)
        or bool(find_clocked(state.learner.members[run].model))
        or held_out.position(goal.end.epoch) > 0
        or bool(getattr(objective, "bounds", ()))
    )
    if not changed:
        return ()
    state.progress[run].best_loss = state.progress[run].best_images = None
    renewed = Finding(
        "note",
        "best-chosen-anew",
        f"best state chosen anew: validation losses up to {state.clock.images:,} images were "
        "written by an earlier version of aelab, which used the weights of that moment",
        "later ones follow the final objective; --restart trains all of it the present way",
    )
    return (renewed,)


def _evaluated_settings(model: nn.Module) -> list[tuple[str, Any]]:
    """The settings of a model that follow from the clock and change its evaluation.

    A clocked module may have a method `evaluated_settings()`; else all its plain attributes count.
    """
    found: list[tuple[str, Any]] = []
    for clocked in find_clocked(model):
        own = getattr(clocked, "evaluated_settings", None)
        if own is not None:
            found.append(("", own()))
            continue
        for name, module in clocked.named_modules():
            plain = [
                (key, value)
                for key, value in vars(module).items()
                if isinstance(value, int | float | str | tuple) and key != "training"
            ]
            found.append((name, plain))
    return found

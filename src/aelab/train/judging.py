"""What a state is judged by: the objective and the model as they are at the end of the run.

Weights that rise, layers that are not yet in use, temperatures that fall: a loss of the beginning
says nothing about the run's own goal. `best`, `min_loss` and `ReduceLROnPlateau` follow only losses
that compare with each other.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from aelab.settings import FitSettings
from aelab.train.batches import ScheduledSets
from aelab.train.clocked_modules import find_clocked, set_clock
from aelab.train.events import Warned
from aelab.train.forward import ObjectiveLike
from aelab.train.horizon import Horizon
from aelab.train.progress import JUDGING
from aelab.train.state import State


class Goal(NamedTuple):
    """What a run works towards.

    Attributes:
        end: its counters at the end.
        model_settings: what the clock will have set in the model by then.
    """

    end: Horizon
    model_settings: list[tuple[str, Any]]


def goal_of(model: nn.Module, end: Horizon) -> Goal:
    """The goal of a run that ends there; the model is not touched."""
    if not find_clocked(model):
        return Goal(end, [])
    shared = {id(t): t for t in itertools.chain(model.parameters(), model.buffers())}
    later = copy.deepcopy(model, shared)  # its settings only: weights and buffers are the model's
    set_clock(later, end.images, end.epoch)
    return Goal(end, _evaluated_settings(later))


def final_total(
    objective: ObjectiveLike, values: Mapping[str, Tensor], settings: FitSettings, images_seen: int
) -> Tensor:
    """The weighted sum of the terms, per sample (B,), with the weights of the end.

    An objective without a method `final_total` is asked for its total at the end of the run, as
    far as that is known in images.
    """
    final = getattr(objective, "final_total", None)
    if final is not None:
        total: Tensor = final(values)
        return total
    return objective.total(values, max(images_seen, settings.max_images or 0))


def final_loss(
    objective: ObjectiveLike, terms: Mapping[str, float], images_seen: int
) -> dict[str, float]:
    """`loss_final` of mean training terms; empty where weights no longer change.

    Args:
        terms: means by name.
        images_seen: at the beginning of the mean.
    """
    weights = getattr(objective, "weights", None)
    if weights is None or weights(images_seen) == weights(None):
        return {}
    return {"loss_final": sum(weight * terms[name] for name, weight in weights(None).items())}


def is_settled(state: State, run: int, held_out: ScheduledSets, goal: Goal) -> bool:
    """Whether model, as its clock stands, and validation set are those that the run ends with."""
    if held_out.position(state.clock.epoch) != held_out.position(goal.end.epoch):
        return False
    return _evaluated_settings(state.learner.members[run].evaluated_model) == goal.model_settings


def renew_judging(
    state: State, run: int, objective: ObjectiveLike, held_out: ScheduledSets, goal: Goal
) -> tuple[Warned, ...]:
    """Brings a state of an earlier version to the present way of judging.

    The lowest loss of before is forgotten where it may have been judged by other weights, by
    another model or set, or without noise: the next validation is the best anew.

    Returns:
        What a reader of the run must know, if anything was forgotten.
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
    warned = Warned(
        "best state chosen anew",
        f"validation losses up to {state.clock.images:,} images were written by an earlier version "
        "of aelab, which used the weights of that moment",
        "later ones follow the final objective; --restart trains all of it the present way",
    )
    return (warned,)


def _evaluated_settings(model: nn.Module) -> list[tuple[str, Any]]:
    """What the clock has set in a model, as far as evaluation depends on it.

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

"""Divergence without a NaN: losses that are finite and mean nothing.

The limits are beyond what sound training ends with: reconstructions ten times as wrong as those of
the untrained model, in training and in validation alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from aelab.train.clocked_modules import find_clocked
from aelab.train.events import Warned
from aelab.train.forward import ObjectiveLike
from aelab.train.horizon import Horizon
from aelab.train.progress import means_by_name
from aelab.train.state import State

#: A term that compares with the images is out of hand at so many times its value before training.
WORSE = 10.0
#: So is the total, whose penalties grow from almost nothing while their weights rise.
TOTAL_WORSE = 1e6
#: Beyond so many times those limits nothing comes back: after this share of a run without a sound
#: validation the rest is not waited for.
NO_WAY_BACK, PATIENCE = 100.0, 0.25
#: A run that ends above so many times its loss before training has unlearned.
UNLEARNED = 1.5


def exploded(
    state: State,
    run: int,
    objective: ObjectiveLike,
    terms: Mapping[str, float],
    factor: float = 1.0,
) -> str:
    """What is out of hand, `l1 = 3.8e+27, 0.31 before training`; empty for sound terms.

    A model that begins as the identity, or where another ended, is no measure: terms are also
    compared with what a bad picture costs.

    Args:
        factor: how many times beyond the limits.
    """
    start = state.start(run)
    if not start:
        return ""
    limits = {
        name: WORSE * factor * max(start[name], least)
        for name, least in getattr(objective, "reconstructions", {}).items()
    }
    for name, limit in limits.items():
        if terms.get(name, 0.0) > limit:
            return f"{name} = {terms[name]:.3g}, {start[name]:.3g} before training"
    known = [
        start["loss"],
        _final_start(objective, start),
        state.progress[run].best_loss or 0.0,
        1.0,
    ]
    if abs(terms.get("loss", 0.0)) > TOTAL_WORSE * factor * max(map(abs, known)):
        return f"loss = {terms['loss']:.3g}, {start['loss']:.3g} before training"
    return ""


def look(state: State, run: int, objective: ObjectiveLike, terms: Mapping[str, float]) -> str:
    """Looks at a validation; remembers since when none was sound.

    Where training itself is sound, evaluation is broken, which is another fault: see `watch`.

    Returns:
        What is out of hand in this validation, whatever training says.
    """
    words = exploded(state, run, objective, terms)
    if not words or not exploded(state, run, objective, _of_training(state, run)):
        state.progress[run].exploded_since = None
    elif state.progress[run].exploded_since is None:
        state.progress[run].exploded_since = state.clock.images
    return words


def hopeless(
    state: State, run: int, objective: ObjectiveLike, goal: Horizon, *, is_over: bool
) -> str:
    """Why a run has failed although all is finite; empty where it has not.

    Args:
        is_over: the run is at its end.
    """
    if state.clock.validated_at < 0:  # nothing is held out
        return exploded(state, run, objective, _of_training(state, run)) if is_over else ""
    since, latest = state.progress[run].exploded_since, _of_training(state, run)
    if since is None:
        return ""
    if is_over:
        return exploded(state, run, objective, latest)
    images = state.clock.images
    if images - since < PATIENCE * (goal.images if goal.is_known else images):
        return ""
    return exploded(state, run, objective, latest, NO_WAY_BACK)


def _of_training(state: State, run: int) -> Mapping[str, float]:
    """Mean terms of the open window, or of the last one."""
    means = state.window.means()
    if means is None:
        return state.progress[run].last_terms
    return means_by_name(state.window.names, means)[run]


def _final_start(objective: ObjectiveLike, start: Mapping[str, float]) -> float:
    """The loss before training under the final weights, where the objective tells them."""
    weights = getattr(objective, "weights", None)
    if weights is None:
        return start["loss"]
    return float(sum(weight * start[name] for name, weight in weights(None).items()))


def worse_than_untrained(
    state: State, run: int, objective: ObjectiveLike, terms: Mapping[str, float]
) -> tuple[Warned, ...]:
    """At the end of a run: it has unlearned, such as a sigmoid that saturated at once.

    Not said of models that grow, whose first batch was another model's.
    """
    start, latest = state.start(run), _of_training(state, run)
    if not start or find_clocked(state.learner.members[run].model) or "loss" not in latest:
        return ()
    first = max(start["loss"], _final_start(objective, start))
    if first <= 0 or min(terms["loss"], latest["loss"]) <= UNLEARNED * first:
        return ()
    return (
        Warned(
            "worse than before training",
            f"the loss is {terms['loss']:.4g} in validation and {latest['loss']:.4g} in "
            f"training; the untrained model's first batch had {first:.4g}",
            "a lower learnrate, or gradient_clipping: {norm: 1}; a saturated output stays "
            "saturated",
        ),
    )

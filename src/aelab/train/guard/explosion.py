"""Divergence without a NaN: losses that are finite but far too high.

No sound training passes these limits: reconstruction errors ten times those of the untrained model,
in training and in validation.
"""

from __future__ import annotations

from collections.abc import Mapping

from aelab.findings import Finding
from aelab.train.clocked_modules import find_clocked
from aelab.train.forward import ObjectiveLike
from aelab.train.horizon import Horizon
from aelab.train.progress import means_by_name
from aelab.train.state import State

#: A reconstruction term counts as exploded at this multiple of its value before training.
WORSE = 10.0
#: The same for the total loss. Much higher, because penalties grow from near 0 as weights rise.
TOTAL_WORSE = 1e6
#: Beyond this multiple of the limits a run does not recover. It ends after this share of its images
#: without a sound validation.
NO_WAY_BACK, PATIENCE = 100.0, 0.25
#: A run that ends above this multiple of its loss before training is worse than untrained.
UNLEARNED = 1.5


def exploded(
    state: State,
    run: int,
    objective: ObjectiveLike,
    terms: Mapping[str, float],
    factor: float = 1.0,
) -> str:
    """Text on the term that is too high, `l1 = 3.8e+27, 0.31 before training`; else empty.

    A model that starts as the identity or from trained weights has a loss near 0. So limits use
    at least the loss of a bad reconstruction (`objective.reconstructions`).

    Args:
        factor: multiplies the limits.
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
    """Checks a validation, and records in `progress` since when all of them were too high.

    Sound training losses mean that only evaluation mode is broken; `watch` reports that.

    Returns:
        The term of this validation that is too high, or an empty text. Independent of the
        training losses.
    """
    words = exploded(state, run, objective, terms)
    if not words or not exploded(state, run, objective, _of_training(state, run)):
        state.progress[run].exploded_since = None
    elif state.progress[run].exploded_since is None:
        state.progress[run].exploded_since = state.clock.images
    return words


def reason_of_failure(
    state: State, run: int, objective: ObjectiveLike, goal: Horizon, *, is_over: bool
) -> str:
    """The reason why a run has failed although all numbers are finite; empty if it has not.

    Args:
        is_over: the run is at its end.
    """
    if state.clock.validated_at < 0:  # nothing is held out
        return exploded(state, run, objective, _of_training(state, run)) if is_over else ""
    # Before its end a run gets time to recover; it fails early only far beyond the limits.
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
    """Mean training terms since the last log, or of the last logged window if there are none."""
    means = state.window.means()
    if means is None:
        return state.progress[run].last_terms
    return means_by_name(state.window.names, means)[run]


def _final_start(objective: ObjectiveLike, start: Mapping[str, float]) -> float:
    """The loss before training with the final weights, if the objective has `weights`."""
    weights = getattr(objective, "weights", None)
    if weights is None:
        return start["loss"]
    return float(sum(weight * start[name] for name, weight in weights(None).items()))


def worse_than_untrained(
    state: State, run: int, objective: ObjectiveLike, terms: Mapping[str, float]
) -> tuple[Finding, ...]:
    """A warning at the end of a run that is worse than the untrained model.

    One cause is a sigmoid that saturated in the first steps. Models that grow are left out: their
    first batch went through fewer layers.
    """
    start, latest = state.start(run), _of_training(state, run)
    if not start or find_clocked(state.learner.members[run].model) or "loss" not in latest:
        return ()
    first = max(start["loss"], _final_start(objective, start))
    if first <= 0 or min(terms["loss"], latest["loss"]) <= UNLEARNED * first:
        return ()
    return (
        Finding(
            "warning",
            "worse-than-untrained",
            f"worse than before training: the loss is {terms['loss']:.4g} in validation and "
            f"{latest['loss']:.4g} in training; the untrained model's first batch had {first:.4g}",
            "a lower learnrate, or gradient_clipping: {norm: 1}; a saturated output stays "
            "saturated",
        ),
    )

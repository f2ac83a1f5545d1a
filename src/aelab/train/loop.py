"""THE loop: a generator that trains and says when something is to be logged or saved.

Pure: it prints nothing and writes no file. What is due follows from the counters of `Clock`, never
from the moment, so that a run may stop between any two batches and continue as if it had not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from aelab.errors import DivergedError
from aelab.settings import FitSettings
from aelab.train.batches import Batches, Draws, ScheduledSets
from aelab.train.clock import Clock, passed
from aelab.train.clocked_modules import set_clock
from aelab.train.coming_in import as_sets, refuse_wrong, small_batches_told
from aelab.train.diagnosis import (
    Evidence,
    broken_tensors,
    explained,
    raised_learnrate,
    watched_buffers,
)
from aelab.train.evaluate import evaluate_with_health
from aelab.train.events import CheckpointDue, Event, Finished, Logged, Validated, Warned
from aelab.train.explosion import hopeless, look, worse_than_untrained
from aelab.train.horizon import horizon
from aelab.train.judging import Goal, final_loss, goal_of, is_settled, renew_judging
from aelab.train.machine import prepared_process
from aelab.train.optimizers import usual_learnrate
from aelab.train.state import State
from aelab.train.step import ObjectiveLike, step
from aelab.train.validation import noise_shape_of, validation_of
from aelab.train.watch import warnings_of


def fit(
    state: State,
    objective: ObjectiveLike,
    train: Any,
    validation: Any,
    settings: FitSettings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train `state` until the settings say stop; control comes back at every event.

    The generator may be closed at any event. Between events it asks `should_stop` after each
    batch; then it yields `Finished(reason="stopped")`, and the state can be stored and continued.

    Args:
        train: one set, or (first epoch, set) pairs. A set is `types.Images`, a tensor or array
            (N, C, H, W), a data set of the lab, or a torch Dataset of tensors.
        validation: likewise; None, and there are no `Validated` events.

    Yields:
        `Logged`, `Validated`, `CheckpointDue` (in this order at one image count), `Finished`.

    Raises:
        DataError: a set that cannot be right: not finite, another unit, channels last.
        DivergedError: a loss or weight is not finite; noticed at the next log, validation or
            checkpoint, because looking each batch would make the device wait.
    """
    clock = state.clock
    draws = Draws(settings.seed, state.learner.device)
    place = state.learner.device, state.learner.channels_last
    given = as_sets(train, "train")
    held = [] if validation is None else as_sets(validation, "validation")
    refuse_wrong(given, held, objective, settings)
    sets = ScheduledSets(given, *place)
    held_out = ScheduledSets(held, *place, "validation_set") if held else None

    goal = goal_of(state.learner.model, horizon(settings, sets.sizes))
    state.learner.schedule.plan(goal.end)
    remarks: tuple[Warned, ...] = ()
    if held_out is not None:
        remarks = renew_judging(state, objective, held_out, goal)

    evidence = Evidence(
        state,
        objective,
        settings,
        lambda: training_batch(state, sets.at(clock.epoch), draws, settings),
        lambda: sets.at(clock.epoch),
        lambda: None if held_out is None else held_out.at(clock.epoch),
    )
    with (
        prepared_process(state.learner.threads, state.learner.device, settings.deterministic),
        explained(evidence),
        small_batches_told([len(images) for _, images in given], settings),
    ):
        while True:
            reason = finish_reason(state, settings)
            if log_due(state, settings, final=reason is not None):
                yield read_window(state, objective, settings)
            if held_out is not None and validation_due(clock, settings, final=reason is not None):
                yield validate(state, objective, held_out, settings, goal, remarks)
                remarks = ()
                reason = finish_reason(state, settings)
                _refuse_exploded(state, objective, settings, goal, is_over=reason is not None)
            elif reason is not None:
                _refuse_exploded(state, objective, settings, goal, is_over=True)
            if checkpoint_due(clock, settings):
                check_finite(state, settings)
                clock.note_checkpointed()
                yield CheckpointDue(clock.images)
            if reason is None and should_stop():
                check_finite(state, settings)
                reason = "stopped"
            if reason is not None:
                yield Finished(clock.images, reason)
                return
            started = time.perf_counter()
            train_batch(state, objective, sets.at(clock.epoch), draws, settings)
            clock.seconds += time.perf_counter() - started


def train_batch(
    state: State,
    objective: ObjectiveLike,
    batches: Batches,
    draws: Draws,
    settings: FitSettings,
) -> None:
    """Cut the next batch, draw its random numbers, make the step, move the clock."""
    if not state.learner.model.training:
        state.learner.model.train()
    set_clock(state.learner.model, state.clock.images, state.clock.epoch)
    inputs, target, noise = training_batch(state, batches, draws, settings)
    draws.reseed_default(state.clock.images)
    state.learner.schedule.before_batch(state.clock.images)
    note_learnrate(state)
    is_last = state.clock.images_in_epoch + settings.batch_size >= len(batches)
    step(state, objective, inputs, target, noise, settings, end_of_epoch=is_last)
    state.clock.count_batch(len(target), ends_epoch=is_last)
    state.note_start()
    if state.clock.steps:
        state.learner.schedule.after_batch()


def training_batch(
    state: State, batches: Batches, draws: Draws, settings: FitSettings
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The batch that the clock stands at: inputs, targets (B, C, H, W), and the model's noise."""
    start, now = state.clock.images_in_epoch, state.clock.images
    part = slice(start, min(start + settings.batch_size, len(batches)))
    index = batches.order(settings.seed, state.clock.epoch)[part] if settings.shuffle else part
    target = batches.changed(index, draws, "augment", now)
    inputs = batches.transformed(target, settings.input_transforms, draws, "input", now)
    if settings.training_noise:
        inputs = inputs + settings.training_noise * draws.normal(inputs.shape, "training", now)
        target = inputs if settings.noise_in_target else target
    shape = noise_shape_of(state.learner.model)
    noise = None if shape is None else draws.normal((len(target), *shape), "latent", now)
    return inputs, target, noise


def note_learnrate(state: State) -> None:
    """Remember the highest learning rate, for the message of a run that diverges."""
    learnrate = state.learner.learnrate
    if learnrate > state.peak_learnrate:
        state.peak_learnrate, state.peak_images = learnrate, state.clock.images


def finish_reason(state: State, settings: FitSettings) -> str | None:
    """Why the run is over, or None."""
    if settings.max_images is not None and state.clock.images >= settings.max_images:
        return "max_images"
    if settings.max_epochs is not None and state.clock.epoch >= settings.max_epochs:
        return "max_epochs"
    if settings.min_loss is None or state.progress[0].best_loss is None:
        return None
    return "min_loss" if state.progress[0].best_loss <= settings.min_loss else None


def log_due(state: State, settings: FitSettings, *, final: bool) -> bool:
    """Whether a multiple of `log_every_images` was passed; at the end, whether any is unread."""
    if state.window.images == 0:
        return False
    return final or passed(state.clock.images, state.clock.logged_at, settings.log_every_images)


def validation_due(clock: Clock, settings: FitSettings, *, final: bool) -> bool:
    """By images, by epochs, and at the end unless that was just done."""
    if clock.validated_at == clock.images:
        return False
    if final:
        return True
    if clock.validated_at < 0 and settings.validate_every_images and clock.images > 0:
        if validation_of(settings).after_first_batch:
            return True
    done = max(clock.validated_at, 0)
    by_epoch = passed(clock.epoch, clock.validated_epoch, settings.validate_every_epochs)
    return by_epoch or passed(clock.images, done, settings.validate_every_images)


def checkpoint_due(clock: Clock, settings: FitSettings) -> bool:
    """By images or by epochs."""
    by_images = passed(clock.images, clock.checkpointed_at, settings.checkpoint_every_images)
    by_epoch = passed(clock.epoch, clock.checkpointed_epoch, settings.checkpoint_every_epochs)
    return by_images or by_epoch


def read_window(state: State, objective: ObjectiveLike, settings: FitSettings) -> Logged:
    """Mean losses since the last log; the one place where training waits for the device."""
    started, clock, progress = time.perf_counter(), state.clock, state.progress[0]
    terms = check_finite(state, settings)
    clock.seconds += time.perf_counter() - started
    progress.last_loss, progress.last_loss_images = terms["loss"], clock.images
    progress.last_terms = dict(terms)
    terms |= final_loss(objective, terms, clock.logged_at)
    state.window.clear()
    clock.note_logged()
    return Logged(clock.images, clock.seconds, clock.epoch, terms, state.learner.learnrate)


def validate(
    state: State,
    objective: ObjectiveLike,
    held_out: ScheduledSets,
    settings: FitSettings,
    goal: Goal,
    remarks: tuple[Warned, ...] = (),
) -> Validated:
    """Evaluate, remember the best, tell the schedule.

    Args:
        remarks: warnings that came before.
    """
    clock, progress, model = state.clock, state.progress[0], state.learner.evaluated_model
    images = held_out.at(clock.epoch)
    set_clock(model, clock.images, clock.epoch)
    found = evaluate_with_health(
        model, objective, images, settings, clock.images, state.learner.bfloat16
    )
    terms = found.terms
    _refuse_non_finite(state, settings, terms, "validation")
    warnings = (*remarks, *warnings_of(state, objective, images, settings, found))
    loss, settled = terms["loss"], is_settled(state, held_out, goal)
    out_of_hand = look(state, objective, terms)
    is_judged = settled and not out_of_hand
    if is_judged and finish_reason(state, settings) is not None:
        warnings = (*warnings, *worse_than_untrained(state, objective, terms))
    is_best = is_judged and (progress.best_loss is None or loss < progress.best_loss)
    if is_best:
        check_finite(state, settings)  # the best is stored
        progress.best_loss, progress.best_images = loss, clock.images
    clock.note_validated()
    if settled:  # a lower rate may be just what a run needs that gets out of hand
        state.learner.schedule.after_validation(loss)
    return Validated(clock.images, clock.seconds, clock.epoch, terms, is_best, warnings, is_judged)


def check_finite(state: State, settings: FitSettings) -> dict[str, float]:
    """Mean losses of the open window, and a look at weights and buffers; waits for the device.

    Raises:
        DivergedError: a loss, a weight or a running statistic is not finite.
    """
    held = [p.detach() for p in state.learner.model.parameters()]
    norms = torch._foreach_norm([*held, *(buffer for _, buffer in watched_buffers(state))])
    numbers = [torch.stack([norm.float() for norm in norms]).sum().reshape(1)]
    window_means = state.window.means()
    if window_means is not None:
        numbers.append(window_means[0])
    norm, *means = torch.cat(numbers).tolist()  # one transfer
    names = state.window.names if means else []
    terms = dict(zip(names, means, strict=True))
    _refuse_non_finite(state, settings, terms, "training")
    # The norm of very large numbers is infinite too, so that one looks again.
    broken = [] if math.isfinite(norm) else broken_tensors(state)
    if broken:
        raise _diverged(state, settings, "training", "; ".join(broken))
    return terms


def _refuse_non_finite(
    state: State, settings: FitSettings, terms: dict[str, float], where: str
) -> None:
    bad = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        raise _diverged(state, settings, where, ", ".join(bad))


def _refuse_exploded(
    state: State, objective: ObjectiveLike, settings: FitSettings, goal: Goal, *, is_over: bool
) -> None:
    """Raises a `DivergedError` where every number is finite and none of the last means anything."""
    what = hopeless(state, objective, goal.end, is_over=is_over)
    if what:
        rise = raised_learnrate(state, settings)
        error = DivergedError(
            f"training diverged without a NaN: at {state.clock.images:,} images {what}"
            + (f"; {rise}" if rise else ""),
            hint=_way_out(state, settings),
        )
        error.is_explained = True
        raise error


def _diverged(state: State, settings: FitSettings, where: str, what: str) -> DivergedError:
    last, clock, progress = "no finite loss was logged before", state.clock, state.progress[0]
    if progress.last_loss is not None:
        last = f"last finite loss {progress.last_loss:.6g} at {progress.last_loss_images:,} images"
    return DivergedError(
        f"{where} diverged between {clock.logged_at:,} and {clock.images:,} images: {what}; {last}",
        hint=_way_out(state, settings),
    )


def _way_out(state: State, settings: FitSettings) -> str:
    sane = min(settings.learnrate / 3, usual_learnrate(settings.optimizer.name))
    ways = [f"learnrate: {sane:.2g} (was {settings.learnrate:g})"]
    if settings.gradient_clipping is None:
        ways.append("gradient_clipping: {norm: 1}")
    if settings.scheduler is None or "armup" not in settings.scheduler.name:
        ways.append("scheduler: {WarmupCosine: {warmup_images: 10_000}}")
    if state.learner.bfloat16:
        ways.append("precision: float32")
    told = "try " + ", or ".join(ways)
    best = state.progress[0].best_images
    if best is None:
        return told
    return f"{told}; to start again from the best state ({best:,} images): load: RUN@best"

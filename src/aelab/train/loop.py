"""The training loop: a generator that yields an event when something is to be logged or saved.

It prints nothing and writes no file. The counters of `Clock` alone decide what is due, never the
time of day. So a run can stop after any batch and continue with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from aelab.errors import ConfigError, DivergedError
from aelab.findings import Finding
from aelab.ops.factors import refuse_without_factors
from aelab.ops.labels import with_labels_for
from aelab.settings import FitSettings
from aelab.train.batches import Batches, Draws, ScheduledSets, shuffle_memory
from aelab.train.clock import Clock, passed
from aelab.train.clocked_modules import set_clock
from aelab.train.evaluate import evaluate_with_health
from aelab.train.events import (
    CheckpointDue,
    Event,
    Failed,
    Finished,
    Halved,
    Logged,
    Validated,
    ValidationHalved,
)
from aelab.train.forward import Batch, ObjectiveLike, Task
from aelab.train.guard.coming_in import (
    as_sets,
    refuse_strangers,
    refuse_wrong,
    small_batches_told,
)
from aelab.train.guard.diagnosis import Evidence
from aelab.train.guard.explosion import worse_than_untrained
from aelab.train.guard.guard import Guard, Reading
from aelab.train.guard.memory import (
    buffer_versions,
    halve,
    halved_validation,
    is_out_of_memory,
)
from aelab.train.guard.mending import change_at, is_skipped
from aelab.train.horizon import horizon
from aelab.train.judging import Goal, final_loss, goal_of, is_settled, renew_judging
from aelab.train.machine import prepared_process
from aelab.train.precision import settle_precision
from aelab.train.solver import has_solver, refuse_unsolved
from aelab.train.state import State
from aelab.train.validation import noise_shape_of, validation_of
from aelab.train.validation_size import choose_validation_size
from aelab.train.watch import warnings_of


def fit(
    state: State,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    train: Any,
    validation: Any,
    settings: FitSettings | Sequence[FitSettings],
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train `state` until the settings say stop; control comes back at every event.

    The generator may be closed at any event. Between events it asks `should_stop` after each
    batch; then it yields `Finished(reason="stopped")`, and the state can be stored and continued.

    Args:
        objective, settings: one for all runs of the state, or one for each. Runs that train
            together may differ only in the settings of `_OWN_SETTINGS`, such as the seed.
        train: one set, or (first epoch, set) pairs. A set is `types.Images`, a tensor or array
            (N, C, H, W), a data set of the lab, or a torch Dataset of tensors.
        validation: likewise; with None there are no `Validated` events.

    Yields:
        `Logged`, `Validated`, `CheckpointDue` (in this order at one image count), `Finished`, each
        once for every run; `Failed` for a run that diverges while others continue; `Mended` where
        `on_nan` went back to an earlier image count.

    Raises:
        DataError: a wrong set: pixels not finite or not in 0..1, or channels last.
        DivergedError: a loss or weight of the last remaining run is not finite. Detected at the
            next log, validation or checkpoint: a check after each batch would make the CPU wait
            for the device.
    """
    tasks = _tasks(state, objective, settings)
    clock, shared = state.clock, tasks[0].settings
    first = state.learner.members[0]  # all runs share device and memory layout
    place = first.device, first.channels_last
    given = as_sets(train, "train")
    held = [] if validation is None else as_sets(validation, "validation")
    given, held = with_labels_for(first.model, given, held)
    for task in tasks:
        refuse_without_factors(first.model, task.objective, given, held, task.settings.batch_size)
        refuse_wrong(given, held, *task)
    sets = ScheduledSets(given, *place)
    held_out = ScheduledSets(held, *place, "validation_set") if held else None
    for member in state.learner.members:
        if member.shuffle_memory is None:
            # Kept with the run: on a machine of other memory it goes on in the same order.
            member.shuffle_memory = shuffle_memory(sets.most_bytes)

    goal = goal_of(first.model, horizon(shared, sets.sizes))
    for member, task in zip(state.learner.members, tasks, strict=True):
        refuse_strangers(member, task.objective)
        for player in member.players:
            player.schedule.plan(goal.end)
    going = list(range(len(tasks)))  # runs that have neither ended nor failed
    remarks: dict[int, tuple[Finding, ...]] = {}
    if held_out is not None:
        for run, task in enumerate(tasks):
            remarks[run] = renew_judging(state, run, task.objective, held_out, goal)
        tasks = _with_validation_size(state, tasks, held_out)

    draws = [Draws(task.settings.seed, first.device) for task in tasks]
    settle_precision(
        state,
        tasks,
        lambda: [next_batch(state, 0, tasks[0], sets.at(clock.epoch), draws[0])],
        goal.end,
    )
    for run, member in enumerate(state.learner.members):
        if clock.images == 0 and has_solver(member.model):
            batch = next_batch(state, run, tasks[run], sets.at(clock.epoch), draws[run])
            refuse_unsolved(member.model, batch)

    def evidence(run: int) -> Evidence:
        """Access to batches and sets, for the diagnosis if a run fails; nothing is read now."""
        return Evidence(
            state,
            run,
            tasks[run],
            lambda: next_batch(state, run, tasks[run], sets.at(clock.epoch), draws[run]),
            lambda: sets.at(clock.epoch),
            lambda: None if held_out is None else held_out.at(clock.epoch),
        )

    def make_step() -> None:
        """Makes the next step of all runs."""
        train_batch(state, tasks, sets.at(clock.epoch), draws, guard.before_batch)

    guard = Guard([evidence(run) for run in going], goal.end, make_step)

    def left_out(failures: dict[int, DivergedError]) -> Iterator[Failed]:
        """Ends the runs that failed; raises the error of the last remaining run."""
        for run, error in failures.items():
            if going == [run]:
                raise error
            going.remove(run)
            state.learner.retire(run)
            yield Failed(clock.images, error, run)

    def due_events() -> Iterator[Event]:
        """The events due at this image count; removes finished runs from `going`."""
        # Order: log, validate, look for failures, checkpoint, stop or finish, keep the state.
        is_over = all(finish_reason(state, run, tasks[run].settings) for run in going)
        if log_due(state, shared, final=is_over):
            readings = read_window(state, guard)
            yield from left_out(guard.failures(going, readings))
            yield from logged(state, tasks, going, readings)
        is_validated = held_out is not None and validation_due(clock, shared, final=is_over)
        if held_out is not None and is_validated:
            sizes = [member.validation_batch for member in state.learner.members]
            found = [validate(state, run, tasks[run], held_out, guard, goal) for run in going]
            for run in going:
                size = state.learner.members[run].validation_batch
                if size and size != sizes[run]:
                    yield ValidationHalved(clock.images, size, run)
            failures = {v.run: v.error for v in found if isinstance(v, Failed)}
            yield from left_out(failures)
            clock.note_validated()
            for event in found:
                if isinstance(event, Validated):
                    findings = (*remarks.pop(event.run, ()), *event.findings)
                    yield replace(event, findings=findings)
        reasons = {run: finish_reason(state, run, tasks[run].settings) for run in going}
        yield from left_out({
            run: error
            for run, reason in reasons.items()
            if (is_validated or reason)
            and (error := guard.hopeless(run, is_over=reason is not None))
        })  # fmt: skip
        if checkpoint_due(clock, shared):
            yield from left_out(guard.failures(going))
            clock.note_checkpointed()
            for run in going:
                yield CheckpointDue(clock.images, run)
        if not all(reasons[run] for run in going) and should_stop():
            yield from left_out(guard.failures(run for run in going if not reasons[run]))
            reasons = {run: reasons[run] or "stopped" for run in going}
        for run in [run for run in going if reasons[run]]:
            going.remove(run)
            state.learner.retire(run)
            yield Finished(clock.images, str(reasons[run]), run)
        if going and guard.keep_due():
            yield from left_out(guard.failures(going, thorough=True))
            guard.keep()

    with (
        prepared_process(first.threads, first.device, shared.deterministic),
        small_batches_told([len(images) for _, images in given], shared),
    ):
        while True:
            try:
                yield from due_events()
            except DivergedError as error:
                yield guard.mend(error)
                continue
            if not going:
                return
            parts, images = first.micro_batch, clock.images
            # Training time only: validations and writing of files are not counted.
            with clock.timing():
                make_step()
            if first.micro_batch is not None and first.micro_batch != parts:
                yield Halved(images, first.micro_batch)


#: Settings in which runs that train together may differ; the shared clock uses the others.
_OWN_SETTINGS = (
    "seed", "learnrate", "optimizer", "scheduler", "min_loss", "ema_decay", "gradient_clipping",
)  # fmt: skip


def _tasks(
    state: State,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    settings: FitSettings | Sequence[FitSettings],
) -> list[Task]:
    """The task of each run.

    Raises:
        ConfigError: a wrong number of objectives or settings, or runs that cannot share a clock.
    """
    count = len(state.learner.members)
    objectives = list(objective) if isinstance(objective, Sequence) else [objective] * count
    of_runs = [settings] * count if isinstance(settings, FitSettings) else list(settings)
    if count > 1 and of_runs[0].on_nan.action != "stop":
        raise ConfigError(
            f"on_nan: {of_runs[0].on_nan.action} goes back in time, which runs that train "
            "together cannot do one by one",
            hint="train these runs one by one, or leave on_nan out",
        )
    if not len(objectives) == len(of_runs) == count:
        raise ConfigError(
            f"{count} runs train together, given are {len(objectives)} objectives and "
            f"{len(of_runs)} settings",
            hint="give one for all, or one a run",
        )
    for other in of_runs[1:]:
        own = {name: getattr(of_runs[0], name) for name in _OWN_SETTINGS}
        if replace(other, **own) != of_runs[0]:
            raise ConfigError(
                "runs that train together must agree in all settings but "
                + ", ".join(_OWN_SETTINGS),
                hint="train the others by themselves",
            )
    return [Task(*task) for task in zip(objectives, of_runs, strict=True)]


def _with_validation_size(
    state: State, tasks: Sequence[Task], held_out: ScheduledSets
) -> list[Task]:
    """The tasks with the batch size of their validations, fixed for the whole run."""
    clock, sized = state.clock, []
    for member, task in zip(state.learner.members, tasks, strict=True):
        settings = task.settings
        if settings.validation_batch_size is None and held_out.is_augmented:
            member.validation_batch = 0  # random changes depend on the batch size
        if settings.validation_batch_size is None and member.validation_batch is None:
            set_clock(member.evaluated_model, clock.images, clock.epoch)
            member.validation_batch = choose_validation_size(
                member.evaluated_model,
                task.objective,
                held_out.at(clock.epoch),
                settings,
                clock.images,
            )
        chosen = settings.validation_batch_size or member.validation_batch or None
        sized.append(task._replace(settings=replace(settings, validation_batch_size=chosen)))
    return sized


def _as_halved(task: Task, batch: int | None) -> Task:
    """The task with validations of at most `batch` images at once; None or 0: as it is."""
    settings = task.settings
    size = settings.validation_batch_size or settings.batch_size
    if not batch or batch >= size:
        return task
    return task._replace(settings=replace(settings, validation_batch_size=batch))


def train_batch(
    state: State,
    tasks: Sequence[Task],
    batches: Batches,
    draws: Sequence[Draws],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Trains each run on its next batch, and moves the clock.

    Args:
        before: called after the learning rates of the batch are set.
    """
    clock, members = state.clock, state.learner.members
    for member in members:
        if not member.model.training:
            member.model.train()
        set_clock(member.model, clock.images, clock.epoch)
    cut = [training_batch(state, run, task, batches, draws[run]) for run, task in enumerate(tasks)]
    # For dropout, keyed by images as all draws. One seed is enough: stacked models cannot have it.
    draws[0].reseed_default(clock.images)
    change = change_at(state.interventions, clock.images)
    for member in members:
        member.bfloat16 = member.bfloat16 and not change.float32
        for player in member.players:
            player.schedule.before_batch(clock.images)
            player.change = change
    before()
    size = len(cut[0][1])
    is_last = clock.images_in_epoch + tasks[0].settings.batch_size >= len(batches)
    if not is_skipped(state.interventions, clock.images):
        written = buffer_versions(members[0].model)
        while True:
            try:
                step(state, tasks, cut, ends_epoch=is_last)
                break
            except Exception as error:
                if len(members) > 1 or not is_out_of_memory(error):
                    raise
                lacking = error.with_traceback(None)  # its frames hold the tensors
            # Outside of `except`, in which Python would keep the error and its tensors alive.
            changed = written != buffer_versions(members[0].model)
            halve(members[0], tasks[0], cut[0], clock, changed, lacking)
            draws[0].reseed_default(clock.images)
    clock.count_batch(size, ends_epoch=is_last)
    state.note_start()
    if clock.steps:  # torch warns if a scheduler steps before the optimiser's first step
        for member in members:
            for player in member.players:
                player.schedule.after_batch()


def step(
    state: State, tasks: Sequence[Task], batches: Sequence[Batch], *, ends_epoch: bool = False
) -> None:
    """Forward and backward pass; the optimiser's step once `gradient_accumulation` is reached.

    Adds the losses to `state.window`. The caller counts images and epochs.

    Args:
        tasks, batches: one for each run.
        ends_epoch: whether accumulated gradients are applied in any case.
    """
    clock, size = state.clock, len(batches[0][0])
    # + 1: the clock counts this batch only after the update.
    due = clock.accumulated_batches + 1 >= tasks[0].settings.gradient_accumulation
    losses = state.learner.update(tasks, batches, clock, apply=due or ends_epoch)
    state.window.add(losses, size)
    clock.count_gradients(size, applied=due or ends_epoch)


def next_batch(state: State, run: int, task: Task, batches: Batches, draws: Draws) -> Batch:
    """`training_batch`, with torch's default generator seeded as in that step."""
    batch = training_batch(state, run, task, batches, draws)
    draws.reseed_default(state.clock.images)
    return batch


def training_batch(state: State, run: int, task: Task, batches: Batches, draws: Draws) -> Batch:
    """The next batch by the clock."""
    settings, start, now = task.settings, state.clock.images_in_epoch, state.clock.images
    # The last batch of an epoch may be smaller.
    part = slice(start, min(start + settings.batch_size, len(batches)))
    order = settings.seed, state.clock.epoch, state.learner.members[run].shuffle_memory or 0
    model = state.learner.members[run].model
    index = batches.order(*order)[part] if settings.shuffle else part
    index = batches.paired(model, index, settings.seed, now)
    target = batches.changed(index, draws, "augment", now)
    inputs = batches.transformed(target, settings.input_transforms, draws, "input", now)
    if settings.training_noise:
        inputs = inputs + settings.training_noise * draws.normal(inputs.shape, "training", now)
        # Usually the target stays clean: a denoising autoencoder.
        target = inputs if settings.noise_in_target else target
    # The loop draws the latent noise, so that it is keyed by images and can be repeated.
    shape = noise_shape_of(model)
    noise = None if shape is None else draws.normal((len(target), *shape), "latent", now)
    labels, factors = batches.labels_for(model, index), batches.factors_for(task.objective, index)
    return Batch(inputs, target, noise, labels, factors)


def finish_reason(state: State, run: int, settings: FitSettings) -> str | None:
    """The reason why a run has ended, or None."""
    if settings.max_images is not None and state.clock.images >= settings.max_images:
        return "max_images"
    if settings.max_epochs is not None and state.clock.epoch >= settings.max_epochs:
        return "max_epochs"
    best = state.progress[run].best_loss
    if settings.min_loss is None or best is None:
        return None
    return "min_loss" if best <= settings.min_loss else None


def log_due(state: State, settings: FitSettings, *, final: bool) -> bool:
    """Whether a log is due: `log_every_images` passed, or at the end any loss is unlogged."""
    if state.window.images == 0:
        return False
    return final or passed(state.clock.images, state.clock.logged_at, settings.log_every_images)


def validation_due(clock: Clock, settings: FitSettings, *, final: bool) -> bool:
    """Whether a validation is due, by images or epochs; at the end unless one was just made."""
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
    """Whether a checkpoint is due, by images or epochs."""
    by_images = passed(clock.images, clock.checkpointed_at, settings.checkpoint_every_images)
    by_epoch = passed(clock.epoch, clock.checkpointed_epoch, settings.checkpoint_every_epochs)
    return by_images or by_epoch


def read_window(state: State, guard: Guard) -> list[Reading]:
    """Mean losses since the last log; here training waits for the device."""
    with state.clock.timing():
        return guard.read()


def logged(
    state: State, tasks: Sequence[Task], runs: Sequence[int], readings: Sequence[Reading]
) -> list[Logged]:
    """Records the readings in `progress`, starts the next window, and returns the events."""
    clock, events = state.clock, []
    for run in runs:
        terms, progress = readings[run].means, state.progress[run]
        progress.last_loss, progress.last_loss_images = terms["loss"], clock.images
        progress.last_terms = dict(terms)
        terms |= final_loss(tasks[run].objective, terms, clock.logged_at)
        member = state.learner.members[run]
        terms |= {f"{player.name}_learnrate": player.learnrate for player in member.opponents}
        rate = member.learnrate
        events.append(Logged(clock.images, clock.seconds, clock.epoch, terms, rate, run))
    state.window.clear()
    clock.note_logged()
    return events


def validate(
    state: State, run: int, task: Task, held_out: ScheduledSets, guard: Guard, goal: Goal
) -> Validated | Failed:
    """Evaluates a run, records the best loss, and passes the loss to the schedule."""
    clock, progress, member = state.clock, state.progress[run], state.learner.members[run]
    images, model = held_out.at(clock.epoch), member.evaluated_model
    set_clock(model, clock.images, clock.epoch)
    while True:
        task = _as_halved(task, member.validation_batch)
        try:
            found = evaluate_with_health(
                model, task.objective, images, task.settings, clock.images, member.bfloat16
            )
            break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            lacking = error.with_traceback(None)  # its frames hold the tensors
        # Outside of `except`, in which Python would keep the error and its tensors alive.
        member.validation_batch = halved_validation(model, task, images, clock.images, lacking)
    terms = found.terms
    failure = guard.failed_validation(run, terms)
    if failure is not None:
        return Failed(clock.images, failure, run)
    warnings = warnings_of(state, run, task, images, found)
    loss, settled = terms["loss"], is_settled(state, run, held_out, goal)
    out_of_hand = guard.out_of_hand(run, terms)
    failure = guard.failed_by_far(run, out_of_hand)
    if failure is not None:
        return Failed(clock.images, failure, run)
    is_judged = settled and not out_of_hand
    if is_judged and finish_reason(state, run, task.settings) is not None:
        warnings = (*warnings, *worse_than_untrained(state, run, task.objective, terms))
    is_best = is_judged and (progress.best_loss is None or loss < progress.best_loss)
    if is_best:
        for failure in guard.failures([run]).values():  # the best is stored
            return Failed(clock.images, failure, run)
        progress.best_loss, progress.best_images = loss, clock.images
    # Also when the loss is far too high: then a lower learning rate may help.
    if settled:
        for player in member.players:
            player.schedule.after_validation(loss)
    return Validated(
        clock.images, clock.seconds, clock.epoch, terms, is_best, warnings, is_judged, run
    )

"""Trains one run: builds it from its text, continues or starts it, and stores it in its directory.

All files are written through `aelab.runs`.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Iterator
from typing import Any

import safetensors.torch

from aelab.assembly.cost import out_of_memory
from aelab.assembly.data_checks import look_at_images
from aelab.assembly.parts import build, called_loss, fit_settings, key_of_error, load_images
from aelab.assembly.place import note_place
from aelab.assembly.precision import precision_told, settle_on_machine
from aelab.assembly.recorded import stored_calls
from aelab.assembly.rehearsal import Built, refuse_wrong_arguments
from aelab.assembly.stored_state import (
    damage_told,
    furthest_intact_state,
    state_to_load,
    tensors_of,
    weights_prefix,
)
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec, mistake_of, passes_through
from aelab.errors import (
    AelabError,
    ConfigError,
    DivergedError,
    NotTrained,
    Problems,
    ShapeError,
    StoreError,
    in_words,
)
from aelab.execute import events as ev
from aelab.execute.incidents import note_halving, note_incident, note_mending
from aelab.execute.jobs import Job, Options, Turn, first_record, skip_reason
from aelab.execute.outlook import Outlook, hopeless
from aelab.execute.record import (
    as_entries,
    environment,
    final_record,
    note_findings,
    store_calls,
)
from aelab.execute.reproductions import Reproductions, shown_sets
from aelab.execute.stop import StopRequest
from aelab.findings import stored_findings
from aelab.runs.atomic import concerns_every_run
from aelab.runs.record import HeldError, Run
from aelab.train import (
    CheckpointDue,
    Finished,
    Halved,
    Logged,
    Mended,
    Validated,
    ValidationHalved,
    fit,
    load_weights,
    make_state,
    set_clock,
    start_from_images,
)
from aelab.train.guard.memory import is_out_of_memory

#: Longest training time, about, that a power cut can lose.
SAVE_EVERY_SECONDS = 60.0


def train_run(
    job: Job,
    workspace: Workspace,
    options: Options,
    stop: StopRequest,
    built: Built | None = None,
) -> Iterator[ev.Event]:
    """Trains, continues or skips one run; yields its events.

    A failure of this run is an event, not an exception. Errors that concern every run (a full
    disk, a read-only folder) are raised.

    Args:
        job: the run, and how far to train it now.
        workspace: folder of runs, folders that may be read, and the device.
        options: of the caller.
        stop: checked between batches.
        built: the same run, built before to check it; None builds it now.
    """
    with contextlib.ExitStack() as held:
        run = _begun(job, workspace, options, held)
        if not isinstance(run, Run):
            yield run
            return
        try:
            run.set_status("running", error=None, stopped=None)
            yield from _Session(job, workspace, run, options, stop, built).train()
        except Exception as error:
            if concerns_every_run(error):
                with contextlib.suppress(StoreError):  # a full disk may refuse this too
                    run.set_status("interrupted", error=error_entry(error))
                raise
            yield _failed(run, job.spec, error)


def _begun(
    job: Job, workspace: Workspace, options: Options, held: contextlib.ExitStack
) -> Run | ev.RunSkipped | ev.RunErred:
    """The directory of a run, locked until `held` ends; or why the run is not trained now."""
    spec, turn = job.spec, job.turn
    try:
        run = workspace.store.create(
            first_record(spec, workspace.trust),
            spec_files(spec),
            restart=options.restart and not (turn and turn.again),
        )
        run.checkpoints()  # raises if unreadable: then it is unknown whether the run was started
        if skipped := _skipped(run, spec, options):
            return skipped
        held.enter_context(run.lock())
    except HeldError as error:
        return ev.RunSkipped(spec.name, error.message, held=True)
    except StoreError as error:
        if concerns_every_run(error):
            raise
        return ev.RunErred(spec.name, str(error))
    return _skipped(run, spec, options) or run  # another process may have trained it meanwhile


def _skipped(run: Run, spec: RunSpec, options: Options) -> ev.RunSkipped | None:
    reason = skip_reason(run, options)
    if not reason:
        return None
    return ev.RunSkipped(spec.name, reason, failed_before=run.state == "failed")


def spec_files(spec: RunSpec) -> dict[str, Any]:
    """The files that every run directory gets at its creation."""
    return {
        "experiment.yml": spec.text,
        "resolved.yml": spec.resolved_text,
        "environment.json": environment(),
    }


def _failed(run: Run, spec: RunSpec, error: Exception) -> ev.RunErred:
    no_memory = is_out_of_memory(error)
    if no_memory and not isinstance(error, AelabError):
        with contextlib.suppress(StoreError):
            run.log(traceback.format_exc())
        error = out_of_memory(error, spec, (run.record.get("parameters") or {}).get("model"))
    if not isinstance(error, AelabError) and (
        passes_through(error, spec.blocks) or called_loss(error)
    ):
        with contextlib.suppress(StoreError):
            run.log(traceback.format_exc())
        error = mistake_of(error, spec.blocks, key_of_error(error, spec))
    mine = isinstance(error, AelabError)
    if isinstance(error, ConfigError | ShapeError) and not (error.where and error.where.file):
        error.where = key_of_error(error, spec)
    message = str(error) if mine else in_words(error)
    # The status comes last: a run that is killed before it is trained again and loses nothing.
    with contextlib.suppress(StoreError):  # the failure may be that of writing
        run.log(message if mine else traceback.format_exc())
        if isinstance(error, DivergedError):
            note_incident(run, error)
    with contextlib.suppress(StoreError):
        # A system error may be gone next time, and the first stage trained: "interrupted" lets
        # the same command continue.
        refused = isinstance(error, StoreError) and isinstance(error.__cause__, OSError)
        again = refused or isinstance(error, NotTrained)
        run.set_status("interrupted" if again else "failed", error=error_entry(error))
    if not mine:
        message += f" (details: {run.path}/log.txt)"
    # "Impossible": an error of the text, found before the first image.
    wrong = isinstance(error, ConfigError | ShapeError | Problems)
    impossible = wrong and not isinstance(error, NotTrained) and not run.status.get("images")
    return ev.RunErred(spec.name, message, impossible, no_memory)


def error_entry(error: Exception) -> dict[str, str]:
    """An error as stored in `status.json`, with its hint separate."""
    if not isinstance(error, AelabError):
        return {"type": type(error).__name__, "message": f"{error}", "hint": "", "code": "failed"}
    message = error.where.before(error.message) if error.where else error.message
    hint = error.hint or ""
    return {"type": type(error).__name__, "message": message, "hint": hint, "code": error.code}


def _counts(data: dict[str, Any], kind: str) -> str:
    """`60 images (folder, sha256 d9ffc56f0b5d)`."""
    sets = data.get(kind) or []
    return ", ".join(f"{s['count']:,} ({s['name']}, sha256 {s['sha256'][:12]})" for s in sets)


class _Session:
    """One run that is built and ready to train.

    Args:
        job: its resolved text, and how far to train it now.
        workspace: folder of runs, folders that may be read, and the device.
        run: its directory, locked by the caller.
        options: of the caller.
        stop: checked between batches.
        built: see `train_run`.

    Raises:
        AelabError: the text or the images are wrong, or do not fit each other.
    """

    def __init__(
        self,
        job: Job,
        workspace: Workspace,
        run: Run,
        options: Options,
        stop: StopRequest,
        built: Built | None,
    ) -> None:
        spec = job.spec
        self.spec, self.workspace, self.run, self.stop = spec, workspace, run, stop
        self.number, self.turn, self.options = job.number, job.turn or Turn(), options
        self.hopeless: dict[str, Any] | None = None  # why it is ended early
        calls, restored = stored_calls(run), bool(run.checkpoints())
        taken = built.taken(calls, restored) if built else None
        self.parts = parts = taken or build(spec, workspace, calls=calls, restored=restored)
        self.train_sets, self.validation_sets = train, validation = load_images(parts)
        self.settings = fit_settings(spec, parts, threads=options.threads)
        look_at_images(spec, parts, train, validation, self.settings)
        if options.examine is not None and not run.checkpoints():
            parts.findings += options.examine(spec, parts, train[0][1], self.settings)
        self._settle_record()
        refuse_wrong_arguments(spec, parts, self.settings)
        parts.objective.prepare(train[0][1])
        if not restored:
            start_from_images(parts.model, train[0][1])
        parts.objective.to(parts.device)
        self.state = make_state(parts.model, self.settings, parts.device, parts.objective)
        self.pictures = Reproductions(run, shown_sets(train, validation))
        self._saved_at = time.monotonic()
        self._begin_or_continue()
        self.outlook = Outlook(run, workspace.store, options.rivals)

    def train(self) -> Iterator[ev.Event]:
        """Trains the run; converts the loop's events into files and matrix events."""
        yield self._started()
        self.turn = self.turn.begun()
        for event in fit(
            self.state,
            self.parts.objective,
            self.train_sets,
            self.validation_sets,
            self.settings,
            should_stop=self._should_stop,
        ):
            shown = self._handle(event)
            if shown is not None:
                yield shown

    def _begin_or_continue(self) -> None:
        continued = self._continue()
        if continued:
            self.pictures.skip_to(self.state.clock.images)
        else:
            self._start_from_other_run()
            trial = settle_on_machine(
                self.state, self.parts.objective, self.train_sets, self.settings
            )
            if trial is not None:
                self.run.log(precision_told(trial))
            self.run.truncate_metrics(0)
            self.pictures.originals()
            self._picture()
        self.run.log(
            f"{'continues at' if continued else 'begins at'} {self.state.clock.images:,} images: "
            f"{self.state.learner.members[0].threads} threads, {self.parts.device}, "
            f"objective {self.parts.objective.describe()}"
        )

    def _should_stop(self) -> bool:
        return bool(self.stop or self.hopeless) or self.turn.is_over(self.state.clock.images)

    def _handle(self, event: Any) -> ev.Event | None:
        """Stores an event of the loop; returns the event for the caller, if there is one."""
        match event:
            case Logged():
                return self._logged(event)
            case Validated():
                return self._validated(event)
            case CheckpointDue():
                self._save()
                return None
            case Mended():
                return self._mended(event)
            case Halved() | ValidationHalved():
                return self._halved(event)
            case Finished(reason="stopped"):
                return self._interrupted()
            case Finished():
                return self._finished(event.reason)
        raise AssertionError(f"unknown event {event!r}")

    def _settle_record(self) -> None:
        """Writes the record of model and data; raises if data of a continued run has changed."""
        record = final_record(self.spec, self.parts, self.train_sets, self.validation_sets)
        before = self.run.record.get("data") or {}
        if self.run.checkpoint("latest") is not None:
            # Its original notes: a file of pretrained weights may be missing or changed now.
            before_it = stored_findings(self.run.record)
            record["findings"] = as_entries(before_it) if before_it else record["findings"]
            record |= {"notes": []} if self.run.record.get("notes") else {}
            for kind, words in (("train", "training"), ("validation", "validation")):
                key = f"{kind}_content"  # the pixels; paths and provenance may change
                if key in before and before[key] != record["data"][key]:
                    raise StoreError(
                        f"the {words} images of {self.run.folder} have changed since it was "
                        f"started: {_counts(before, kind)} then, "
                        f"{_counts(record['data'], kind)} now",
                        hint="restore the old images, or --restart trains it on the new ones",
                    )
        self.run.update_record(**record)
        store_calls(self.run, self.parts.calls)
        note_place(self.run, self.spec, self.parts.calls.to_json(), self.workspace.data)

    def _continue(self) -> bool:
        found = furthest_intact_state(self.run)
        if found is None:
            return False
        checkpoint, content, numbers = found
        with damage_told(checkpoint):
            self.state.load(tensors_of(checkpoint, content), numbers)
        self.run.rewind(checkpoint)
        made = self.run.complete_checkpoints(
            checkpoint,
            best=self.state.progress[0].best_images == self.state.clock.images,
            keep=self.spec.settings.keep_checkpoints,
        )
        if made:
            self.run.log(f"states missing after an interruption, made now: {', '.join(made)}")
        return True

    def _start_from_other_run(self) -> None:
        """`load: RUN[@images]`: loads the weights of a stored checkpoint, nothing else of it."""
        if not self.spec.settings.load:
            return

        other, checkpoint = state_to_load(
            self.spec, self.state.learner.members[0].model, self.workspace
        )
        content, _ = checkpoint.read()
        loaded = tensors_of(checkpoint, content)
        prefix = weights_prefix(loaded)
        load_weights(self.state.learner.members[0].model, loaded, prefix)
        if self.state.learner.members[0].ema is not None:
            load_weights(self.state.learner.members[0].ema, loaded, prefix)
        self.run.log(f"weights of {other.folder} at {checkpoint.images:,} images")

    def _started(self) -> ev.RunStarted:
        return ev.RunStarted(
            self.spec.name,
            self.number,
            self.run.record["parameters"]["model"],
            self.state.clock.images,
            self.settings.max_images,
            self.state.learner.members[0].threads,
            [
                found
                for found in stored_findings(self.run.record)
                if found.line() not in {own.line() for own in self.spec.findings}
            ],
        )

    def _logged(self, event: Any) -> ev.RunProgress:
        row = {"split": "train", "images": event.images, "seconds": round(event.seconds, 3)}
        row |= {"epoch": self.state.clock.epoch, **event.terms, "learnrate": event.learnrate}
        self.run.append(row)
        rate = event.images / event.seconds if event.seconds else 0.0
        self._status(rate)
        self._save_now_and_then()
        left = None
        if self.settings.max_images and rate:
            left = max(0.0, (self.settings.max_images - event.images) / rate)
        return ev.RunProgress(
            self.spec.name, event.images, self.settings.max_images, event.terms["loss"], rate, left
        )

    def _status(self, rate: float) -> None:
        self.run.set_status(
            images=self.state.clock.images,
            max_inputs=self.settings.max_images,
            epoch=self.state.clock.epoch,
            seconds=round(self.state.clock.seconds, 3),
            cpu_seconds=round(self.state.clock.cpu_seconds, 3),
            images_per_second=round(rate, 2),
        )

    def _validated(self, event: Any) -> ev.RunValidated:
        row = {"split": "validation", "images": event.images, "seconds": round(event.seconds, 3)}
        self.run.append(row | {"epoch": self.state.clock.epoch, **event.terms})
        loss = event.terms["loss"]
        changes: dict[str, Any] = {"last": {"images": event.images, **event.terms}}
        if event.is_best:
            changes["best"] = {"images": event.images, "loss": loss}
        self.run.set_status(**changes)
        text = ""
        if self.pictures.due(event.images):
            self._picture()
            text = self.pictures.example
        if event.is_best:
            self._save(best=True)
        self._save_now_and_then()
        fresh = note_findings(self.run, event)
        look = self.outlook.look(event.images, loss)
        self.hopeless = hopeless(look, self.options.stop_hopeless)
        return ev.RunValidated(
            self.spec.name, event.images, loss, event.is_best, text, fresh, look.words
        )

    def _picture(self) -> None:
        state = self.state
        set_clock(state.learner.members[0].evaluated_model, state.clock.images, state.clock.epoch)
        self.pictures.write(state.learner.members[0].evaluated_model, state.clock.images)

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            self._save()

    def _halved(self, event: Halved | ValidationHalved) -> ev.RunMended:
        """Records that batches are smaller; the next stored state also contains this."""
        text = note_halving(self.run, event, self.settings.batch_size)
        self.run.log(text)
        return ev.RunMended(self.spec.name, event.images, text)

    def _mended(self, event: Mended) -> ev.RunMended:
        """Records the reaction, and removes entries after the state from which training continues.

        In this order, a process killed at any moment leaves either the old state or the new one,
        and the page is written again when the failure repeats.
        """
        offset = self.run.offset_at(event.images)
        text = note_mending(self.run, event, len(self.state.interventions))
        self._save(offset=offset)
        self.run.truncate_metrics(offset)
        self._status(0.0)
        self.run.log(text)
        return ev.RunMended(self.spec.name, event.images, text)

    def _save(self, best: bool = False, offset: int | None = None) -> None:
        """Stores the state.

        Args:
            offset: length of the metrics of a state that training went back to.
        """
        tensors, numbers = self.state.stored()
        keep = self.spec.settings.keep_checkpoints
        self.run.save_checkpoint(
            self.state.clock.images,
            safetensors.torch.save(tensors),
            numbers,
            best=best,
            keep=keep,
            offset=offset,
        )
        self._saved_at = time.monotonic()

    def _interrupted(self) -> ev.RunInterrupted | ev.RunStopped:
        self._save()
        images, reason = self.state.clock.images, (self.hopeless or {}).get("reason")
        self.run.log(f"stopped at {images:,} images{f': {reason}' if reason else ''}")
        self.run.set_status("interrupted", images=images, stopped=self.hopeless)
        if reason:
            return ev.RunStopped(self.spec.name, images, reason)
        if not self.stop:
            return ev.RunStopped(self.spec.name, images, "its turn is over", for_good=False)
        return ev.RunInterrupted(self.spec.name, images)

    def _finished(self, reason: str) -> ev.RunFinished:
        self._picture()
        self._save()
        state = self.state
        rate = state.clock.images / state.clock.seconds if state.clock.seconds else 0.0
        self._status(rate)
        self.run.log(f"finished at {state.clock.images:,} images: {reason}")
        self.run.set_status("finished", reason=reason)
        last = self.run.status.get("last") or {}
        loss = last.get("loss", state.progress[0].last_loss)
        if loss is not None and not math.isfinite(loss):
            loss = None
        text = self.pictures.example
        return ev.RunFinished(
            self.spec.name,
            state.clock.images,
            loss,
            state.clock.seconds,
            reason,
            self.run.path,
            text,
        )

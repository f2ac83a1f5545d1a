"""Training in worker processes of this machine: several runs at once, each on its own cores.

Workers stay alive while there is work, so each imports torch only once; this process does not need
torch. Jobs are plain data, results are run directories; only events are sent back (see `worker`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.errors import AelabError, Problems, RunFailed, StoreError, visible
from aelab.execute import events as ev
from aelab.execute.engines.worker import Setup
from aelab.execute.jobs import Job, Options, Rehearsal
from aelab.execute.stop import StopRequest
from aelab.hardware import allocator_environment, is_there, machine_mark, process_mark

#: Seconds between two checks of the stop request.
_LOOK_SECONDS = 0.2
#: Seconds that workers may take to save their runs when the pool closes.
_FAREWELL_SECONDS = 20.0
#: Events that end a worker's run.
_ENDS = (ev.RunErred, ev.RunFinished, ev.RunSkipped, ev.RunStopped)
#: Memory of a worker besides model, batch and data (Python, torch, buffers): measured, rounded up.
BASE_MB = 450.0
#: Number of evenly spaced runs of a matrix whose models are built to estimate their memory.
SAMPLED = 8
#: Last lines of a worker's output that are kept for the message if it dies.
_LAST_LINES = 12
_START = "from aelab.execute.engines.worker import main; main()"


class Pool:
    """An engine of `count` long-lived worker processes.

    Args:
        workspace: where runs are, what may be read, and the device.
        options: of the caller; `threads` of each run, 1 by default.
        stop: once requested, every worker saves its run and ends.
        rehearsal: checks whether runs can be built; a module-level function, because it is pickled.
        count: workers, at least 1.
        room_mb: memory that all may use together: fewer runs are trained at once where their models
            need more. None: the caller has said how many.

    Attributes:
        jobs: number of parallel runs; reduced after a worker dies.
    """

    def __init__(
        self,
        workspace: Workspace,
        options: Options,
        stop: StopRequest,
        rehearsal: Rehearsal,
        count: int,
        room_mb: float | None = None,
    ) -> None:
        self.jobs = count
        self._threads = options.threads or 1
        self._options = replace(options, threads=self._threads)
        self._stop = stop
        self._heard: queue.SimpleQueue[tuple[_Worker, tuple[Any, ...]]] = queue.SimpleQueue()
        self._shelf = _make_shelf()
        command = (os.path.basename(sys.argv[0]), *sys.argv[1:])
        self._setup = Setup(workspace, rehearsal, self._shelf, command)
        self._store = workspace.store
        self._workers = [self._worker() for _ in range(count)]
        self._retried: set[str] = set()
        self._room_mb, self._notes = room_mb, list[str]()

    # --- the engine

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """See `Engine`. The first worker tries growing groups of runs; one good run is enough."""
        errors: dict[str, AelabError] = {}
        some, start = 1, 0
        while True:
            part = specs[start : start + some]
            try:
                self._rehearse(part, to_train=True)
                return
            except Problems as problems:
                errors |= {str(error): error for error in problems.errors}
            start, some = start + some, some * 4
            if start >= len(specs):
                raise Problems(list(errors.values()))

    def fit(self, specs: Sequence[RunSpec]) -> int:
        """Runs at once: fewer than there are workers where the models would not find room."""
        if self._room_mb is None or self.jobs == 1:
            return self.jobs
        needs, step = 0.0, max(1, len(specs) // SAMPLED)
        for spec in specs[::step]:
            with contextlib.suppress(AelabError):  # its own failure, reported when it is tried
                needs = max(needs, self._rehearse([spec], to_train=False))
        each = BASE_MB + needs
        fitting = max(1, int(self._room_mb / each))
        if fitting < self.jobs:
            self.jobs = fitting
            self._notes.append(
                f"  {fitting} run{'s' * (fitting > 1)} at once: one needs about {each:,.0f} MB, "
                f"and {self._room_mb:,.0f} MB are free; --jobs N trains N all the same"
            )
        return self.jobs

    def train(self, jobs: Sequence[Job]) -> Iterator[ev.Event]:
        """See `Engine`."""
        waiting = deque((job, self._options) for job in jobs)
        yield from (ev.Told(note) for note in self._notes)
        self._notes.clear()
        told_stop = False
        while True:
            if self._stop and not told_stop:
                told_stop = True
                waiting.clear()
                for worker in self._workers:
                    worker.order("stop", self._stop.exit_code - 128)
            self._hand_out(waiting)
            if not waiting and not any(worker.job for worker in self._workers):
                return
            for worker, message in self._messages():
                yield from self._handled(worker, message, waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            hurry = kind is not None and issubclass(kind, KeyboardInterrupt)
            for worker in self._workers:
                worker.end(_FAREWELL_SECONDS, kill=hurry)
        finally:
            for worker in self._workers:  # a second Ctrl-C may have come meanwhile
                worker.end(0, kill=True)
            shutil.rmtree(self._shelf, ignore_errors=True)

    # --- orders

    def _worker(self) -> _Worker:
        return _Worker(self._setup, self._heard, self._threads)

    def _hand_out(self, waiting: deque[tuple[Job, Options]]) -> None:
        """Gives free workers the waiting jobs, up to `self.jobs` at a time; ends spare workers."""
        busy = sum(worker.job is not None for worker in self._workers)
        while waiting and busy < self.jobs:
            free = next((worker for worker in self._workers if worker.is_free), None)
            if free is None:
                free = self._worker()
                self._workers.append(free)
            free.job = waiting.popleft()
            free.order("train", *free.job)
            busy += 1
        # Workers that are no longer needed end, to free their memory.
        spare = [worker for worker in self._workers if worker.is_free]
        needed = min(self.jobs - busy, len(waiting)) if self.jobs > busy else 0
        for worker in spare[needed:]:
            worker.dismiss()

    def _rehearse(self, specs: Sequence[RunSpec], *, to_train: bool) -> float:
        """MB that the first of these that can be trained needs."""
        worker = next(worker for worker in self._workers if not worker.is_gone)
        worker.order("rehearse", specs, to_train)
        found: AelabError | None = None
        needs = 0.0
        while not self._stop:
            for speaker, message in self._messages():
                match message:
                    case ("gone",) if speaker is worker:
                        raise RunFailed(f"a worker process cannot start: {speaker.last_words()}")
                    case ("gone",):  # perhaps too little memory for this number of workers
                        self._workers.remove(speaker)
                        speaker.end(0)
                        self.jobs = max(1, self.jobs - 1)
                    case ("raised", AelabError() as error):
                        found = error
                    case ("raised" | "fault", _):
                        _raise(message)
                    case ("done",) if found is not None:
                        raise found
                    case ("needs", float() as needs):
                        pass
                    case ("done",):
                        return needs
        return needs

    def _messages(self) -> Iterator[tuple[_Worker, tuple[Any, ...]]]:
        """Yields the messages of workers since the last call; waits a moment for the first."""
        try:
            yield self._heard.get(timeout=_LOOK_SECONDS)
            while True:
                yield self._heard.get_nowait()
        except queue.Empty:
            return

    # --- what comes back

    def _handled(
        self, worker: _Worker, message: tuple[Any, ...], waiting: deque[tuple[Job, Options]]
    ) -> Iterator[ev.Event]:
        """Handles one message; yields the events for the caller."""
        match message:
            case ("event", ev.RunErred(no_memory=True)) if self._may_retry(worker):
                yield self._retry(worker, "out of memory", waiting, retry_failed=True)
            case ("event", ev.RunInterrupted()) if not self._stop:
                pass  # only this worker was ended from outside; "gone" follows and is handled
            case ("event", event):
                if isinstance(event, _ENDS):
                    worker.is_told = True
                yield event
            case ("done",):
                if worker.is_told or self._stop:
                    worker.job, worker.is_told = None, False
            case ("told", line):
                if not self._stop:
                    yield ev.Told(line)
            case ("gone",):
                yield from self._lost(worker, waiting)
            case _:
                _raise(message)

    def _lost(
        self, worker: _Worker, waiting: deque[tuple[Job, Options]]
    ) -> Iterator[ev.Event]:  # fmt: skip
        """Handles the end of a worker; if it had a run, this was unexpected."""
        code = worker.ended()
        self._workers.remove(worker)
        worker.end(0)  # closes its streams
        if worker.job is None or worker.is_told:
            return
        spec = worker.job[0].spec
        if self._stop:
            if images := _images(self._store, spec):
                yield ev.RunInterrupted(spec.name, images)
            return
        reason = _words_of(code)
        if spec.name not in self._retried:
            yield self._retry(worker, reason, waiting)
            return
        message = (
            f"its worker process died twice: {reason}"
            f"{', perhaps for want of memory' if code == -getattr(signal, 'SIGKILL', 9) else ''}"
        )
        if said := worker.last_words():
            message += f"; it said: {said}"
        hint = "lower batch_size or --jobs; --retry-failed tries again from its last saved state"
        _note_failure(self._store, spec, message, hint)
        yield ev.RunErred(spec.name, f"{message}\n  {hint}")

    def _may_retry(self, worker: _Worker) -> bool:
        """Whether to retry a run without memory: only if others ran beside it, and only once."""
        neighbours = sum(other.job is not None for other in self._workers) > 1
        return bool(worker.job and neighbours and worker.job[0].spec.name not in self._retried)

    def _retry(
        self,
        worker: _Worker,
        reason: str,
        waiting: deque[tuple[Job, Options]],
        *,
        retry_failed: bool = False,
    ) -> ev.RunRetried:
        """Puts the run of a worker first in the queue, and reduces the number of parallel runs."""
        assert worker.job
        job, options = worker.job
        worker.job = None
        self._retried.add(job.spec.name)
        self.jobs = max(1, self.jobs - 1)
        # `restart` was done already: the state saved since is kept.
        again = replace(options, restart=False, retry_failed=options.retry_failed or retry_failed)
        waiting.appendleft((job, again))
        return ev.RunRetried(job.spec.name, reason, self.jobs)


@dataclass(eq=False)
class _Worker:
    """One process, and the threads that read its output.

    Attributes:
        job: the run that it trains now.
        is_told: whether the end of that run was reported.
        is_gone: whether it gets no more orders.
    """

    setup: Setup
    heard: queue.SimpleQueue[tuple[_Worker, tuple[Any, ...]]]
    threads: int
    job: tuple[Job, Options] | None = None
    is_told: bool = False
    is_gone: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    def __post_init__(self) -> None:
        count = str(self.threads)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ, **allocator_environment(), "OMP_NUM_THREADS": count,
                "MKL_NUM_THREADS": count, "PYTHONUNBUFFERED": "1",
            },
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.order("begin", self.setup)
        out, err = self.process.stdout, self.process.stderr
        self._hearing = [
            threading.Thread(target=self._hear_lines, args=(err,), daemon=True),
            threading.Thread(target=self._hear, args=(out,), daemon=True),
        ]
        for thread in self._hearing:
            thread.start()

    @property
    def is_free(self) -> bool:
        """Whether it can be given a job."""
        return self.job is None and not self.is_gone

    def order(self, *message: Any) -> None:
        """Sends an order. Errors are ignored: the reading thread notices a dead process."""
        if self.is_gone and message[0] != "stop":
            return
        order = message if message[0] != "begin" else ("begin", message[1])
        assert self.process.stdin
        with contextlib.suppress(OSError, ValueError):
            pickle.dump(order, self.process.stdin)
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """Lets a free worker end."""
        self.order("end")
        self.is_gone = True

    def end(self, seconds: float, *, kill: bool = False) -> None:
        """Ends the process: at once with `kill`, else when its run is saved or the time is over."""
        self.is_gone = True
        if kill:
            self.process.kill()
        assert self.process.stdin
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds if not kill else None)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread, stream in zip(
            self._hearing, (self.process.stderr, self.process.stdout), strict=True
        ):
            thread.join(1)
            if stream is not None and not thread.is_alive():
                stream.close()

    def ended(self) -> int:
        """The exit code of a process whose streams have ended."""
        self.is_gone = True
        code = self.process.wait()
        self._hearing[0].join(1)
        return code

    def last_words(self) -> str:
        """The end of its error output, in one line."""
        return visible(" | ".join(line for line in self.lines if line.strip())[-400:])

    def _hear(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError, ValueError):
            while True:
                self.heard.put((self, pickle.load(stream)))
        self.heard.put((self, ("gone",)))

    def _hear_lines(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                self.lines.append(text)
                self.heard.put((self, ("told", text)))


def _raise(message: tuple[Any, ...]) -> None:
    if message[0] == "raised":
        raise message[1]
    raise RuntimeError(f"a worker process failed:\n{message[1]}")


def _words_of(code: int) -> str:
    """An exit code in words: `signal 9 (SIGKILL)`, `exit code 1`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"signal {-code}"


def _images(store: Any, spec: RunSpec) -> int:
    """Images of the last saved state."""
    with contextlib.suppress(StoreError, TypeError, ValueError):
        return int(store.open(spec.folder).status.get("images") or 0)
    return 0


def _note_failure(store: Any, spec: RunSpec, message: str, hint: str) -> None:
    """Records the failure of a process that died before it could record it itself."""
    with contextlib.suppress(StoreError):
        run = store.open(spec.folder)
        with run.lock():
            error = {"type": "RunFailed", "message": message, "hint": hint}
            run.log(message)
            run.set_status("failed", error=error)


# --- the shelf


def _make_shelf() -> Path:
    """Makes a private folder for shared data sets; removes those of processes that were killed."""
    root, here = Path(tempfile.gettempdir()), machine_mark()
    with contextlib.suppress(OSError):
        for path in root.glob("aelab-data-*"):
            owner = re.fullmatch(rf"aelab-data-{here}-(\d+)-(\w+)-[0-9a-f]+", path.name)
            if owner and not is_there(int(owner[1]), owner[2]):
                shutil.rmtree(path, ignore_errors=True)
    mark = process_mark(os.getpid()) or "x"
    folder = root / f"aelab-data-{here}-{os.getpid()}-{mark}-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    return folder

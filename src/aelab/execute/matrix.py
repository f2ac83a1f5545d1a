"""Trains the runs of a file: selects the unfinished ones and chooses an engine for them.

Finished runs are recognised by their stored files alone, without torch.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aelab import hardware
from aelab.assembly.notes import common_findings
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.config.twins import trained_for
from aelab.errors import ConfigError, StoreError, Where
from aelab.execute import events as ev
from aelab.execute.engines.inline import Inline
from aelab.execute.engines.pool import Pool
from aelab.execute.engines.ray import Cluster, Ray
from aelab.execute.engines.slurm import Array, Slurm
from aelab.execute.estimate import Estimate
from aelab.execute.events import Event
from aelab.execute.jobs import Engine, Job, Options, Rehearsal, skip_reason, stored_runs
from aelab.execute.order import in_order
from aelab.execute.stop import StopRequest
from aelab.execute.twins import begun, same_run
from aelab.runs.locks import why_no_locks
from aelab.runs.record import Run
from aelab.runs.store import Store

#: Names of devices; whether a device exists, only torch knows.
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
#: Memory of a worker with a small model, in MB; it limits the number of workers. Once the models
#: are built and need more, fewer runs are trained at a time.
WORKER_MB = 600.0
#: Seconds between two estimates.
_ESTIMATE_SECONDS = 1.0
#: Seconds between two looks at runs that other processes hold.
_WAIT_SECONDS = 1.0


def run_matrix(
    specs: Sequence[RunSpec],
    workspace: Workspace,
    options: Options,
    stop: StopRequest,
    rehearsal: Rehearsal,
    jobs: int | None = 1,
    slurm: Array | None = None,
    ray: Cluster | None = None,
    budget: float | None = None,
) -> Iterator[Event]:
    """Trains the given runs; yields a start event, their events, and an end event.

    Args:
        rehearsal: checks whether runs can be built, before a directory is made.
        jobs: runs at once; None chooses by free cores and memory.
        slurm: how to submit; trains in tasks of Slurm instead of on this machine.
        ray: train on a Ray cluster instead; where, and what a run needs.
        budget: seconds for all runs together; None: until all are done.
    """
    if budget is not None and (slurm is not None or ray is not None):
        raise ConfigError(
            "a budget is spent on this machine, in turns of its runs; a cluster has no turns",
            where=Where(key="--budget"),
            hint="leave out --slurm and --ray, or --budget",
        )
    store = workspace.store
    workspace = replace(workspace, planned=tuple(specs))
    options = replace(options, rivals=tuple(dict.fromkeys(spec.folder for spec in specs)))
    trained = trained_for(specs, [] if options.restart else begun(specs, store))
    own = [spec for spec in specs if trained[spec.folder] is spec]
    stored = stored_runs(own, workspace, options)
    settled, waiting = _settled(specs, trained, stored, store, options)
    count = _Count()
    started = ev.MatrixStarted([spec.name for spec in specs], common_findings(specs))
    if not waiting:
        if not _DEVICE.fullmatch(workspace.device):  # report a typo although nothing is computed
            from aelab.assembly.parts import choose_device

            choose_device(workspace.device)
        yield started
        yield from count.all(settled)
        yield count.end(stop)
        return
    with contextlib.ExitStack() as held:
        engine, at_once = _engine(
            held, len(waiting), workspace, options, stop, rehearsal, jobs, slurm, ray
        )
        # If one run could be built before, a mistake concerns one run: its event reports it.
        built_before = any(run.state == "finished" for run in stored.values())
        groups = in_order(waiting)
        first = [job.spec for job in groups[0]]
        engine.rehearse([] if built_before else first)
        if isinstance(engine, Pool):
            at_once = engine.fit(first)
        store.make_root()
        yield started
        if why := why_no_locks(store.root):
            yield ev.Told(
                f"  note: locks in {store.root} do not keep other machines out ({why}); each run "
                "is held by a lease instead"
            )
        yield from count.all(settled)
        if budget is not None and len(groups) > 1:
            raise ConfigError(
                "a budget is spent in turns, and some of these runs use others of the file, which "
                "must be finished first",
                where=Where(key="--budget"),
                hint="train those first, by --only, or leave out --budget",
            )
        if budget is not None:
            from aelab.execute.budget import spend

            spent = spend(engine, own, waiting, store, budget, stop, at_once, workspace.trust)
            yield from count.all(spent)
            yield count.end(stop)
            return
        # A group after the other: the runs of one use runs of those before.
        events = (
            event
            for group in groups
            if not stop
            for event in _until_none_is_held(engine, group, workspace, options, stop)
        )
        yield from count.all(_with_progress(events, waiting, at_once) if len(specs) > 1 else events)
        yield count.end(stop)


def _settled(
    specs: Sequence[RunSpec],
    trained: Mapping[str, RunSpec],
    stored: Mapping[str, Run],
    store: Store,
    options: Options,
) -> tuple[list[Event], list[Job]]:
    """Events of the runs that are not trained now, and the jobs of the others.

    Args:
        trained: folder of each run -> the run that is trained for it.
        stored: folder -> the stored run.
    """
    settled: list[Event] = []
    waiting: list[Job] = []
    for number, spec in enumerate(specs, start=1):
        run = stored.get(spec.folder)
        if same := same_run(spec, trained[spec.folder], store, restart=options.restart):
            settled.append(ev.RunSkipped(spec.name, same))
        elif run is not None and (reason := skip_reason(run, options)):
            failed = run.state == "failed"
            settled.append(ev.RunSkipped(spec.name, reason, failed_before=failed))
        else:
            waiting.append(Job(spec, number))
    return settled, waiting


def _engine(
    held: contextlib.ExitStack,
    count: int,
    workspace: Workspace,
    options: Options,
    stop: StopRequest,
    rehearsal: Rehearsal,
    jobs: int | None,
    slurm: Array | None,
    ray: Cluster | None,
) -> tuple[Engine, int]:
    """Where `count` runs are trained, entered in `held`, and how many of them at once."""
    if slurm is not None:
        array = held.enter_context(Slurm(workspace, options, stop, rehearsal, slurm))
        return array, min(slurm.tasks or count, count)
    if ray is not None:
        cluster = held.enter_context(Ray(workspace, options, stop, rehearsal, ray))
        return cluster, min(cluster.room(), count)
    room_mb = hardware.free_memory_mb() if jobs is None else None
    at_once = held.enter_context(_claimed(count, workspace, options, jobs))
    if at_once == 1:
        return held.enter_context(Inline(workspace, options, stop, rehearsal)), 1
    pool = Pool(workspace, options, stop, rehearsal, at_once, room_mb)
    return held.enter_context(pool), at_once


def _until_none_is_held(
    engine: Engine,
    jobs: Sequence[Job],
    workspace: Workspace,
    options: Options,
    stop: StopRequest,
) -> Iterator[Event]:
    """Trains the jobs, then tries again those that another process held.

    Without `wait` there is one second attempt, after everything else is done.
    """
    by_name, awaited, looked = {job.spec.name: job for job in jobs}, set[str](), False
    todo = list(jobs)
    while todo:
        held: list[ev.RunSkipped] = []
        for event in engine.train(todo):
            if isinstance(event, ev.RunSkipped) and event.held:
                held.append(event)
            else:
                yield event
        if looked and not options.wait:
            yield from held
            return
        looked, todo = True, []
        while held and not todo and not stop:
            if options.wait:
                yield from (_awaited(event) for event in held if event.name not in awaited)
                awaited |= {event.name for event in held}
                time.sleep(_WAIT_SECONDS)
            free = [event for event in held if not _is_held(workspace.store, by_name[event.name])]
            todo = [by_name[event.name] for event in free]
            held = [event for event in held if event not in free]
            if not options.wait:
                break
        if options.wait and not stop:
            todo += [by_name[event.name] for event in held]  # tried again after the others
        else:
            yield from held


def _awaited(event: ev.RunSkipped) -> ev.RunAwaited:
    return ev.RunAwaited(event.name, event.reason)


def _is_held(store: Store, job: Job) -> bool:
    """Whether another process seems to train this run."""
    try:
        return store.open(job.spec.folder).seems_held()
    except StoreError:
        return False


class _Count:
    """Counts the runs by outcome."""

    def __init__(self) -> None:
        self._by_kind = dict.fromkeys((ev.RunFinished, ev.RunSkipped, ev.RunErred), 0)
        self._impossible = self._failed_before = self._held = self._stopped = 0

    def all(self, events: Sequence[Event] | Iterator[Event]) -> Iterator[Event]:
        """Yields the same events, and counts them."""
        for event in events:
            if type(event) in self._by_kind:
                self._by_kind[type(event)] += 1
            self._impossible += isinstance(event, ev.RunErred) and event.impossible
            self._failed_before += isinstance(event, ev.RunSkipped) and event.failed_before
            self._held += isinstance(event, ev.RunSkipped) and event.held
            self._stopped += isinstance(event, ev.RunStopped) and event.for_good
            yield event

    def end(self, stop: StopRequest) -> ev.MatrixFinished:
        """The last event."""
        finished, skipped, failed = self._by_kind.values()
        return ev.MatrixFinished(
            finished,
            skipped,
            failed,
            bool(stop),
            self._impossible,
            self._failed_before,
            self._held,
            self._stopped,
        )


def _with_progress(
    events: Iterator[Event], jobs: Sequence[Job], at_once: int
) -> Iterator[Event]:  # fmt: skip
    """Yields the same events, and from time to time the progress of all runs."""
    estimate, told = Estimate(jobs, at_once), float("-inf")
    for event in events:
        estimate.note(event)
        yield event
        now = time.monotonic()
        if isinstance(event, ev.RunProgress | ev.RunFinished) and now - told > _ESTIMATE_SECONDS:
            told = now
            yield ev.MatrixProgress(
                estimate.done, estimate.total, estimate.seconds_left(), estimate.images_per_second
            )


@contextlib.contextmanager
def _claimed(
    runs: int, workspace: Workspace, options: Options, jobs: int | None
) -> Iterator[int]:  # fmt: skip
    """How many runs to train at once: as asked, or by free cores and memory."""
    threads = options.threads or hardware.asked_threads()
    device = workspace.device
    on_cpu = device == "cpu" or (device == "auto" and not hardware.has_gpu())
    if jobs is not None and jobs < 1:
        raise ConfigError(
            f"given {jobs}; at least one run is trained at once",
            where=Where(key="--jobs"),
            hint="type: --jobs auto, or a number from 1",
        )
    if jobs is not None:
        most = least = min(jobs, runs)
    else:
        # On a GPU one run at a time: whether several are faster there was not measured.
        by_memory = max(1, int(min(hardware.free_memory_mb() / WORKER_MB, runs)))
        most, least = by_memory if on_cpu else 1, 1
    # A single run uses all free cores, unless a number of threads is given.
    alone = most == 1 and threads is None and on_cpu
    with hardware.claim(10**6 if alone else most, threads or 1, least) as granted:
        yield 1 if most == 1 else granted

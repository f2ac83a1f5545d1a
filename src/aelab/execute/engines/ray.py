"""Training on a Ray cluster: each run is a task of one worker, on a shared folder of runs.

Ray only places the runs. Their results are read from the folder, as with Slurm. So the loss of a
node, or of this process, costs only the training since the last saved state.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.errors import MissingExtra, StoreError, UserError
from aelab.execute import events as ev
from aelab.execute.engines import ray_task
from aelab.execute.engines.followed import Followed, begin_again
from aelab.execute.engines.ray_task import CommandSettings, Outcome
from aelab.execute.jobs import Job, Options, Rehearsal
from aelab.execute.stop import SIGNALS, StopRequest
from aelab.roots import real
from aelab.runs.checkpoints import Checkpoint

#: Seconds between two looks at the files, and at whether the cluster can hold a run at all.
LOOK_SECONDS, FIT_SECONDS = 1.0, 30.0
#: Seconds in which the first machine of a cluster must answer.
ANSWER_SECONDS = 10.0
#: A run fails after this many losses in a row without a newer saved state.
MOST_LOSSES = 3
#: Seconds in which processes of a lost node must release a run, and between attempts to take it.
FREED_SECONDS, AGAIN_SECONDS = 180.0, 5.0
#: Seconds that workers may take to save their runs.
FAREWELL_SECONDS = 60.0
#: Variables that a run reads, besides those of aelab.
_VARIABLES = ("SOURCE_DATE_EPOCH", "NO_COLOR")
#: Settings of Ray: no usage reports to its makers, and no pages about a lost node between our
#: lines, because this engine reports itself what became of the runs.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*"}
_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Cluster:
    """Where to place runs, and what each needs.

    Attributes:
        address: `HOST:PORT`, `ray://HOST:PORT`, `auto` for the cluster that RAY_ADDRESS names or
            that this machine belongs to, `local` for one of this machine that ends with the
            command.
        runs: at once; None: as many as the cluster has room for.
        cpu: cores that Ray sets aside for a run; None: its threads.
        gpu: share of a GPU, as 0.25.
        memory: bytes that Ray sets aside for a run.
        others: resources of the cluster's own by name.
    """

    address: str = "auto"
    runs: int | None = None
    cpu: float | None = None
    gpu: float = 0.0
    memory: int | None = None
    others: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, address: str, runs: int | None = None, needs: Sequence[str] = ()) -> Cluster:
        """A cluster from the options as typed: `["gpu=0.25 cpu=2", "memory=4G"]`.

        Raises:
            UserError: a word is not NAME=NUMBER.
        """
        found: dict[str, float] = {}
        for word in (word for text in needs for word in text.replace(",", " ").split()):
            match = re.fullmatch(r"([A-Za-z_][\w.:-]*)=(\d+(?:\.\d*)?|\.\d+)([KMGT]?)B?", word)
            if not match or (match[3] and match[1] != "memory"):
                raise UserError(
                    f"--run-needs {word}: write NAME=NUMBER",
                    hint="as in: --run-needs 'cpu=2 gpu=0.25 memory=4G'",
                )
            if match[1] in found:
                raise UserError(f"--run-needs: {match[1]} is given twice; give it once")
            found[match[1]] = float(match[2]) * _BYTES.get(match[3], 1)
        cpu, gpu, memory = found.pop("cpu", None), found.pop("gpu", 0.0), found.pop("memory", None)
        if gpu > 1 and gpu != int(gpu):
            raise UserError(f"--run-needs gpu={gpu:g}: above 1 only whole GPUs can be given")
        return cls(address, runs, cpu, gpu, None if memory is None else int(memory), found)

    def needs(self, threads: int, factor: float = 1.0) -> dict[str, float]:
        """The resources that Ray reserves for a run, by Ray's names; cores times `factor`."""
        cpu = (threads if self.cpu is None else self.cpu) * factor
        found = {"CPU": cpu, "GPU": self.gpu, "memory": float(self.memory or 0), **self.others}
        return {name: number for name, number in found.items() if number}


@dataclass
class _Placed:
    """A run that was submitted to Ray.

    Attributes:
        losses: how often it was lost since its last newer state.
        images: of its stored state when it was placed.
        factor: multiplies the cores that are reserved for it.
        held_since: when another process was first found to hold it; None: never.
    """

    job: Job
    losses: int = 0
    images: int = 0
    factor: float = 1.0
    held_since: float | None = None


class Ray:
    """An engine whose workers are those of a Ray cluster.

    Args:
        workspace: its folder of runs must have the same path on every node.
        options: of the caller; `threads` of each run, 1 where it says nothing.
        stop: once requested, every run is saved.
        rehearsal: checks on this machine whether runs can be built.
        cluster: address, and resources of a run.
    """

    def __init__(
        self,
        workspace: Workspace,
        options: Options,
        stop: StopRequest,
        rehearsal: Rehearsal,
        cluster: Cluster,
    ) -> None:
        self._workspace, self._stop, self._cluster = workspace, stop, cluster
        self._rehearsal, self._options = rehearsal, options
        self._threads = options.threads or 1
        self._token = secrets.token_hex(6)
        self._mark = real(workspace.runs) / ".ray" / self._token
        self._active: dict[Any, _Placed] = {}
        self._later: list[tuple[float, _Placed]] = []
        self._ray: Any = None
        self._task: Any = None
        self._is_ours = False

    # --- the engine

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """See `Engine`. Runs on this machine, so that mistakes do not wait for a node."""
        if specs:
            self._rehearsal(specs, self._workspace, False)

    def train(self, jobs: Sequence[Job]) -> Iterator[ev.Event]:
        """See `Engine`."""
        store = self._workspace.store
        for job in jobs:
            begin_again(job, store, self._options)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.write_text("a command of aelab trains on a Ray cluster\n")
        followed = Followed(jobs, store, time.time(), self._threads)
        waiting = deque(_Placed(job) for job in jobs)
        yield ev.Told(f"  on Ray: {self._size()}")
        looked = fitted = float("-inf")
        told_stop, saved_by = False, math.inf
        while waiting or self._active or self._later:
            if self._stop and not told_stop:
                told_stop, saved_by = True, time.monotonic() + FAREWELL_SECONDS
                waiting.clear()
                self._later.clear()
                self._cancel()
            self._place(waiting)
            yield from self._ended(followed, waiting)
            now = time.monotonic()
            if now > looked:
                yield from followed.look()
                # Thousands of status files on a network take a while: a tenth of the time at most.
                looked = now + max(LOOK_SECONDS, 10 * (time.monotonic() - now))
            if told_stop and now > saved_by:
                yield from self._abandoned(followed)
            elif now > fitted + FIT_SECONDS and not self._stop:
                fitted = now
                yield from self._told_if_too_large()

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        ray = self._ray
        with contextlib.suppress(OSError):
            self._mark.unlink()
        try:
            if kind is None or not issubclass(kind, KeyboardInterrupt):
                self._cancel()
                self._wait_for_saves()
            self._cancel(force=True)
            with contextlib.suppress(Exception):
                self._tidy()
        finally:
            if self._is_ours:
                ray.shutdown()

    # --- the cluster

    def _connect(self) -> None:
        """Attaches to the cluster.

        Raises:
            MissingExtra: Ray is not installed.
            UserError: there is no such cluster.
        """
        # Importing and starting Ray replaces the signal handlers; they are restored below.
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("aelab run --ray", "ray", "ray") from error
        self._ray, address = ray, self._cluster.address
        try:
            if not ray.is_initialized():
                known = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
                _refuse_if_nothing_answers(known)
                self._is_ours = True
                local = {} if address != "local" else {"include_dashboard": False}
                ray.init(
                    address=None if address == "local" and not os.environ.get("RAY_ADDRESS")
                    else address, log_to_driver=False, configure_logging=False, **local,
                )  # fmt: skip
        except UserError:
            raise
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise _no_cluster(address, said[0].partition(". ")[0]) from error
        finally:
            for number, handler in handlers.items():
                with contextlib.suppress(ValueError, TypeError):  # another thread than the first
                    signal.signal(number, handler)
        # No retries by Ray: a lost run is submitted again by us, with a message.
        self._task = ray.remote(max_retries=0)(ray_task.train)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node.get("Alive")]

    def _size(self) -> str:
        nodes = self._nodes()
        total = {
            name: sum(node["Resources"].get(name, 0) for node in nodes) for name in ("CPU", "GPU")
        }
        parts = [f"{len(nodes)} node{'s' * (len(nodes) != 1)}"]
        parts += [f"{number:g} {name}s" for name, number in total.items() if number]
        return ", ".join(parts)

    def room(self) -> int:
        """Number of runs that fit on the cluster now, limited by the option."""
        needs = self._cluster.needs(self._threads)
        nodes = [node["Resources"] for node in self._nodes()]
        slots = sum(
            int(min((node.get(k, 0) / v for k, v in needs.items()), default=1)) for node in nodes
        )
        return max(1, min(slots, self._cluster.runs or slots))

    def _told_if_too_large(self) -> Iterator[ev.Event]:
        """A note if no node has the resources of a run. Not an error: the cluster may grow."""
        needs = self._cluster.needs(self._threads)
        nodes = [node["Resources"] for node in self._nodes()]
        if any(all(node.get(k, 0) >= v for k, v in needs.items()) for node in nodes):
            return
        wanted = " ".join(f"{name}={number:g}" for name, number in needs.items())
        yield ev.Told(f"  waiting: no node of the cluster has what one run needs ({wanted})")

    def _tidy(self) -> None:
        """Removes the copies of data sets on every node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self._ray.remote(num_cpus=0, max_retries=0)(ray_task.tidy)
        done = [
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(self._token)
            for node in self._nodes()
        ]
        self._ray.wait(done, num_returns=len(done), timeout=10)

    # --- runs

    def _place(self, waiting: deque[_Placed]) -> None:
        """Submits as many runs as the option allows; Ray starts them where there is room."""
        now = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            waiting.appendleft(entry[1])
        most = math.inf if self._cluster.runs is None else self._cluster.runs
        while waiting and len(self._active) < most:
            placed = waiting.popleft()
            self._active[self._submit(placed)] = placed

    def _submit(self, placed: _Placed) -> Any:
        needs = self._cluster.needs(self._threads, placed.factor)
        options: dict[str, Any] = {
            "name": placed.job.spec.name,
            "num_cpus": needs.pop("CPU", 0),
            "num_gpus": needs.pop("GPU", 0),
            "scheduling_strategy": "SPREAD",
        }
        if memory := int(needs.pop("memory", 0)):
            options["memory"] = memory
        if needs:
            options["resources"] = needs
        # `begin_again` has applied these options: from now on the run is only continued.
        own = replace(self._options, restart=False, retry_failed=False, threads=self._threads)
        return self._task.options(**options).remote(self._everywhere(), placed.job, own)

    def _everywhere(self) -> CommandSettings:
        here = self._workspace
        data = tuple(real(folder) for folder in here.data)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("AELAB_") or name in _VARIABLES
        }
        environment |= {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return CommandSettings(
            replace(here, runs=real(here.runs), data=data),
            os.getcwd(),
            self._mark,
            environment,
            (os.path.basename(sys.argv[0]), *sys.argv[1:]),
            self._token,
        )

    def _ended(self, followed: Followed, waiting: deque[_Placed]) -> Iterator[ev.Event]:
        """Yields the events of runs that have ended; waits a moment."""
        if not self._active:
            time.sleep(min(LOOK_SECONDS, 0.2))
            return
        done, _ = self._ray.wait(list(self._active), num_returns=1, timeout=LOOK_SECONDS)
        for reference in done:
            placed = self._active.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield from self._lost(placed, error, followed, waiting)
                continue
            if outcome.error is not None:
                raise outcome.error
            if outcome.fault:
                raise RuntimeError(f"a worker process failed:\n{outcome.fault}")
            yield from self._told(placed, outcome, followed, waiting)

    def _told(
        self, placed: _Placed, outcome: Outcome, followed: Followed, waiting: deque[_Placed]
    ) -> Iterator[ev.Event]:
        """Handles the end of a run that its worker reported."""
        event, name = outcome.event, placed.job.spec.name
        match event:
            case ev.RunInterrupted() if not self._stop:
                yield from self._lost(placed, None, followed, waiting)
                return
            case ev.RunSkipped(held=True) if placed.losses and not self._stop:
                # Processes of a node that Ray counts as lost may still train it for a while.
                now = time.monotonic()
                placed.held_since = placed.held_since or now
                if now < placed.held_since + FREED_SECONDS:
                    self._later.append((now + AGAIN_SECONDS, placed))
                    return
        yield from followed.look()  # its start may not have been seen yet
        if followed.forget(name) and event is not None:
            yield event

    def _lost(
        self,
        placed: _Placed,
        error: Exception | None,
        followed: Followed,
        waiting: deque[_Placed],
    ) -> Iterator[ev.Event]:
        """Handles the loss of a worker or node: submits the run again, if it made progress."""
        yield from followed.look()
        name = placed.job.spec.name
        if name not in {job.spec.name for job in followed.left}:
            return  # it had ended before
        if self._stop:
            followed.forget(name)
            self._wait_for_save(placed)  # Ray reports a cancelled task before it has ended
            if images := self._saved(placed):
                yield ev.RunInterrupted(name, images)
            return
        reason, images = _words_of(error), self._saved(placed)
        losses = 1 if images > placed.images else placed.losses + 1
        if losses >= MOST_LOSSES:
            followed.forget(name)
            hint = "the same command continues it from its last saved state"
            yield ev.RunErred(name, f"its worker was lost {losses} times: {reason}\n  {hint}")
            return
        factor = placed.factor
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            factor = min(2 * factor, self._largest_factor())  # fewer neighbours on its node
        waiting.appendleft(_Placed(placed.job, losses, images, factor))
        yield ev.RunRetried(name, reason, self.room())

    def _largest_factor(self) -> float:
        """The cores of the largest node divided by those of a run."""
        cores = self._cluster.needs(self._threads).get("CPU", 0)
        most = max((node["Resources"].get("CPU", 0) for node in self._nodes()), default=0)
        return max(1.0, most / cores) if cores else 1.0

    def _abandoned(self, followed: Followed) -> Iterator[ev.Event]:
        """Ends runs that were not saved in time; their earlier saved states are kept."""
        left = list(self._active.values())
        self._cancel(force=True)
        for placed in left:
            if followed.forget(placed.job.spec.name) and (images := self._saved(placed)):
                yield ev.RunInterrupted(placed.job.spec.name, images)

    def _saved(self, placed: _Placed) -> int:
        """Images of a run's last saved state."""
        with contextlib.suppress(StoreError, KeyError, TypeError, ValueError):
            run = self._workspace.store.open(placed.job.spec.folder)
            return int(Checkpoint("latest", run.path / "checkpoints").about()["images"])
        return 0

    def _wait_for_save(self, placed: _Placed) -> None:
        end = time.monotonic() + FAREWELL_SECONDS
        with contextlib.suppress(StoreError):
            while time.monotonic() < end:
                if self._workspace.store.open(placed.job.spec.folder).state != "running":
                    return
                time.sleep(0.2)

    def _wait_for_saves(self) -> None:
        for placed in self._active.values():
            self._wait_for_save(placed)

    def _cancel(self, *, force: bool = False) -> None:
        """Asks all workers to save their runs and end; with `force` ends them at once."""
        for reference in self._active:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=force)
        if force:
            self._active.clear()


def _refuse_if_nothing_answers(address: str) -> None:
    """Checks a cluster's address early; Ray itself would try for minutes.

    Raises:
        UserError: no process listens at `HOST:PORT`.
    """
    place = re.fullmatch(r"(?:ray://)?([^\s:/]+):(\d{1,5})", address)
    if place:
        try:
            socket.create_connection((place[1], int(place[2])), timeout=ANSWER_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, f"nothing answers there ({error})") from error


def _no_cluster(address: str, why: str) -> UserError:
    return UserError(
        f"there is no Ray cluster to attach to (--ray {address}): {why}",
        hint="start one on its first machine with `ray start --head`, and type --ray HOST:6379, or "
        "--ray local to try it on this machine alone",
    )


def _words_of(error: Exception | None) -> str:
    """The reason of a lost worker, in one line."""
    if error is None:
        return "its worker was asked to end"
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    sentence = first.strip().partition(". ")[0]
    return f"{type(error).__name__}: {sentence}"[:200] if sentence else type(error).__name__

"""Training in the tasks of a Slurm array: the same command on other machines, on a shared folder.

One batch script is submitted. Each of its tasks is an `aelab run` of the same file that trains runs
which no other task holds. So a lost task costs only the training since its last saved state:
another task, or the next array, takes its run over.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.errors import UserError
from aelab.execute import events as ev
from aelab.execute.engines.followed import Followed, begin_again
from aelab.execute.jobs import Job, Options, Rehearsal
from aelab.execute.stop import StopRequest

#: Seconds between two checks of the files, and between two queries of Slurm.
LOOK_SECONDS, ASK_SECONDS = 2.0, 15.0
#: After this many arrays in a row without progress the remaining runs count as failed.
MOST_ARRAYS = 3
#: Seconds after the end of an array in which its last files may still arrive.
_LATE_SECONDS = 5.0
#: Options of `run` that are for the command that submits, and whether a value follows.
_OURS = {"--slurm": False, "--sbatch": True, "--jobs": True, "-j": True, "--threads": True,
         "--wait": False, "--restart": False, "--retry-failed": False, "--quiet": False,
         "-q": False}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """How to submit a Slurm array.

    Attributes:
        options: of `sbatch`, as typed: `--partition=gpu`, `--time=4:00:00`.
        command: arguments of `aelab` that train the file, without those of the submission.
        tasks: number of parallel tasks; None: one for each run.
    """

    options: tuple[str, ...]
    command: tuple[str, ...]
    tasks: int | None = None


class Slurm:
    """An engine whose workers are the tasks of Slurm arrays.

    Args:
        workspace: its folder of runs must have the same path on every node.
        options: of the caller; `threads` are the CPUs of a task.
        stop: once requested, the array is cancelled; its runs are saved.
        rehearsal: checks on this machine whether runs can be built.
        array: how to submit.
    """

    def __init__(
        self,
        workspace: Workspace,
        options: Options,
        stop: StopRequest,
        rehearsal: Rehearsal,
        array: Array,
    ) -> None:
        self._workspace, self._options, self._stop = workspace, options, stop
        self._rehearsal, self._array = rehearsal, array
        self._submitted: list[str] = []

    def rehearse(self, specs: Sequence[RunSpec]) -> None:
        """See `Engine`. Runs on this machine, so that mistakes are found without queueing."""
        if specs:
            self._rehearsal(specs, self._workspace, False)

    def train(self, jobs: Sequence[Job]) -> Iterator[ev.Event]:
        """See `Engine`."""
        for job in jobs:
            begin_again(job, self._workspace.store, self._options)
        followed = Followed(jobs, self._workspace.store, time.time(), self._options.threads or 1)
        fruitless, before = 0, followed.reached
        while followed.left and not self._stop and fruitless < MOST_ARRAYS:
            number, log = self._submit(len(followed.left))
            yield ev.Told(f"  submitted to Slurm as job {number}; its output: {log}")
            yield from self._until_over(number, followed)
            # A task at its time limit has saved its run: the next array continues it.
            fruitless = fruitless + 1 if followed.reached == before else 0
            before = followed.reached
        yield from followed.look()
        for job in followed.left if not self._stop else ():
            yield ev.RunErred(
                job.spec.name,
                f"no progress in {MOST_ARRAYS} Slurm jobs; their output: {self._log_folder}\n"
                "  the same command continues it",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # SIGHUP (129): the terminal was closed. The submitted jobs keep running.
        left_alone = self._stop.exit_code == 129
        for number in [] if left_alone else self._submitted:
            _call(["scancel", number], may_fail=True)

    @property
    def _log_folder(self) -> Path:
        return Path(os.path.abspath(self._workspace.runs)) / ".slurm"

    def _until_over(self, number: str, followed: Followed) -> Iterator[ev.Event]:
        asked, over_since = time.monotonic(), None
        while followed.left and not self._stop:
            yield from followed.look()
            now = time.monotonic()
            if over_since is not None and now > over_since + _LATE_SECONDS:
                break
            if over_since is None and now > asked + ASK_SECONDS:
                asked = now
                over_since = None if self._is_queued(number) else now
            time.sleep(LOOK_SECONDS)
        if not self._stop:
            self._submitted.remove(number)
            if not followed.left:  # tasks that found nothing to do
                _call(["scancel", number], may_fail=True)

    def _submit(self, runs: int) -> tuple[str, Path]:
        """Submits an array; returns the job number and the output files."""
        folder = self._log_folder
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / "%A-%a.txt"
        script = self.script(min(self._array.tasks or runs, runs), output)
        told = _call(["sbatch", "--parsable", *self._array.options], given=script)
        number = told.strip().partition(";")[0]
        self._submitted.append(number)
        return number, Path(str(output).replace("%A", number))

    def script(self, tasks: int, output: Path) -> str:
        """The batch script of an array."""
        threads = self._options.threads or 1
        words = [sys.executable, "-m", "aelab", *self._array.command,
                 "--jobs", "1", "--threads", str(threads), "--quiet"]  # fmt: skip
        return (
            "#!/bin/sh\n"
            f"#SBATCH --job-name=aelab --array=0-{tasks - 1} --cpus-per-task={threads}\n"
            f"#SBATCH --requeue --open-mode=append --output={output}\n"
            # A minute before its time is up, each task saves its run.
            "#SBATCH --signal=B:USR1@60\n"
            f"cd {shlex.quote(os.getcwd())} || exit 1\n"
            f"{shlex.join(words)} &\n"
            "task=$!\n"
            # USR1 comes to this shell alone; TERM, of a cancelled job, comes to the task as well.
            "trap 'kill -USR1 $task' USR1\n"
            "trap : TERM\n"
            "wait $task; code=$?\n"
            "while kill -0 $task 2>/dev/null; do wait $task; code=$?; done\n"
            "# 75: nothing left to do while others still train\n"
            '[ "$code" = 75 ] && exit 0\n'
            'exit "$code"\n'
        )

    def _is_queued(self, number: str) -> bool:
        """Whether a task of the job waits or runs; a job unknown to Slurm has ended."""
        return bool(_call(["squeue", "-h", "-j", number, "-o", "%T"], may_fail=True).strip())


def command_of(words: Sequence[str]) -> tuple[str, ...]:
    """The arguments that the tasks repeat: the command line without the submission's options."""
    kept, skip = [], False
    for word in words:
        name, _, value = word.partition("=")
        if skip:
            skip = False
        elif name in _OURS:
            skip = _OURS[name] and not value
        else:
            kept.append(word)
    return tuple(kept)


def _call(command: list[str], *, given: str | None = None, may_fail: bool = False) -> str:
    """Runs one of Slurm's programs; returns its output.

    Raises:
        UserError: it is not installed, or fails.
    """
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except OSError as error:
        if may_fail:
            return ""
        raise UserError(
            f"cannot start {command[0]}: {error.strerror}",
            hint="type this on a machine of the cluster where Slurm's commands are installed",
        ) from error
    if done.returncode and not may_fail:
        raise UserError(
            f"{command[0]} refused: {done.stderr.strip() or done.stdout.strip()}",
            hint="options of sbatch are given as in: --sbatch 'partition=long time=4:00:00'",
        )
    return done.stdout if not done.returncode else ""

"""What a worker of a Ray cluster does: it trains one run into the shared folder.

Ray keeps the process for the next run, so torch is imported once in each. Both directions are
plain data; the run's directory is the result.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aelab._version import __version__
from aelab.assembly.workspace import Workspace
from aelab.errors import AelabError, UserError
from aelab.execute import events as ev
from aelab.execute.jobs import Job, Options
from aelab.execute.stop import StopRequest
from aelab.hardware import machine_mark, process_mark

#: Seconds until a file that another machine made must be seen: network file systems are late.
_SEEN_SECONDS = 60.0
#: What an end of a run is told by.
_ENDS = (ev.RunFinished, ev.RunErred, ev.RunSkipped, ev.RunInterrupted, ev.RunStopped)


@dataclass(frozen=True)
class Place:
    """What holds for all runs of a command, wherever they are trained.

    Attributes:
        workspace: with absolute paths, which every node has.
        folder: where the command was typed.
        mark: a file in the folder of the runs, by which a node sees that it shares it.
        environment: variables of the command that runs depend on.
        command: what the user typed, which runs remember.
        token: hexadecimal, of this command alone.
        version: of aelab.
    """

    workspace: Workspace
    folder: str
    mark: Path
    environment: dict[str, str]
    command: tuple[str, ...]
    token: str
    version: str = __version__


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        event: its end; None where it has none.
        error: what concerns every run.
        fault: the traceback of a fault in aelab.
    """

    event: ev.Event | None = None
    error: AelabError | None = None
    fault: str = ""


def train(place: Place, job: Job, options: Options) -> Outcome:
    """Trains one run in this process, or continues it. Raises nothing."""
    argv = sys.argv[:]
    try:
        _enter(place)
        from aelab.data.shared import sharing_sets
        from aelab.execute.session import train_run

        sys.argv[:] = place.command
        end: ev.Event | None = None
        with _saving_when_asked() as stop, sharing_sets(_shelf(place.token)):
            for event in train_run(job.spec, place.workspace, options, stop, job.number, job.turn):
                end = event if isinstance(event, _ENDS) else end
        return Outcome(end)
    except AelabError as error:
        return Outcome(error=error)
    except Exception:
        return Outcome(fault=traceback.format_exc())
    finally:
        sys.argv[:] = argv


def tidy(token: str) -> None:
    """Removes the copies of data sets that this node has kept for a command."""
    shutil.rmtree(_shelf(token), ignore_errors=True)


def _enter(place: Place) -> None:
    """Makes this process one of the command.

    Raises:
        UserError: this machine lacks what all must have.
    """
    host = platform.node()
    if place.version != __version__:
        raise UserError(
            f"{host} has aelab {__version__}, and the command is of {place.version}",
            hint="install the same version on every node of the cluster",
        )
    end = time.monotonic() + _SEEN_SECONDS
    while not place.mark.exists():
        if time.monotonic() > end:
            raise UserError(
                f"{host} does not see {place.mark}, which the command has made",
                hint="the runs folder (--runs), the file and its data must be on a shared file "
                "system that every node sees under the same path",
            )
        time.sleep(0.5)
    try:
        os.chdir(place.folder)  # relative paths of the file's data start there
    except OSError as error:
        raise UserError(f"{host} has no folder {place.folder}: {error.strerror}") from error
    os.environ.update(place.environment)


@contextlib.contextmanager
def _saving_when_asked() -> Iterator[StopRequest]:
    """Ray cancels with an interrupt, and ends workers with SIGTERM: both save the run first."""
    stop, before = StopRequest(), {}

    def ask(number: int, frame: object) -> None:
        if not stop:  # asked twice, it would end without saving
            stop.ask(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shelf(token: str) -> Path:
    """This node's folder for one copy of each data set.

    All workers of a node are children of one process of Ray, so it counts as the owner: what a
    killed command leaves is removed after that process has ended, as `pool` does.
    """
    owner = os.getppid()
    mark = process_mark(owner) or "x"
    folder = Path(tempfile.gettempdir()) / f"aelab-data-{machine_mark()}-{owner}-{mark}-{token}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder

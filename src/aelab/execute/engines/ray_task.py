"""The task of a worker of a Ray cluster: trains one run into the shared folder.

Ray reuses the process for the next run, so each imports torch only once. Arguments and results are
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

#: Seconds to wait for a file of another machine: network file systems have delays.
_SEEN_SECONDS = 60.0
#: Events that end a run.
_ENDS = (ev.RunFinished, ev.RunErred, ev.RunSkipped, ev.RunInterrupted, ev.RunStopped)


@dataclass(frozen=True)
class CommandSettings:
    """The settings of a command that all its runs need, on any machine.

    Attributes:
        workspace: with absolute paths, which must exist on every node.
        folder: working folder of the command.
        mark: a file in the folder of the runs; a node that sees it shares the folder.
        environment: variables of the command that runs depend on.
        command: as typed by the user; runs store it.
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
    """The result of training one run.

    Attributes:
        event: the event of its end, or None.
        error: an error that concerns every run.
        fault: the traceback of an unexpected error in aelab.
    """

    event: ev.Event | None = None
    error: AelabError | None = None
    fault: str = ""


def train(place: CommandSettings, job: Job, options: Options) -> Outcome:
    """Trains or continues one run in this process. Never raises."""
    argv = sys.argv[:]
    try:
        _enter(place)
        from aelab.data.shared import sharing_sets
        from aelab.execute.session import train_run

        sys.argv[:] = place.command
        end: ev.Event | None = None
        with _saving_when_asked() as stop, sharing_sets(_shelf(place.token)):
            for event in train_run(job, place.workspace, options, stop):
                end = event if isinstance(event, _ENDS) else end
        return Outcome(end)
    except AelabError as error:
        return Outcome(error=error)
    except Exception:
        return Outcome(fault=traceback.format_exc())
    finally:
        sys.argv[:] = argv


def tidy(token: str) -> None:
    """Removes the copies of data sets of a command on this node."""
    shutil.rmtree(_shelf(token), ignore_errors=True)


def _enter(place: CommandSettings) -> None:
    """Sets working folder and environment of the command in this process.

    Raises:
        UserError: this machine has another version, or does not share the folder.
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
    """Context manager: on SIGINT (Ray cancels) or SIGTERM (Ray ends workers) the run is saved."""
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
    """The folder of this node with one copy of each data set.

    All workers of a node are children of one Ray process, which counts as the owner. After its end
    the remains of a killed command are removed, as `pool` does.
    """
    owner = os.getppid()
    mark = process_mark(owner) or "x"
    folder = Path(tempfile.gettempdir()) / f"aelab-data-{machine_mark()}-{owner}-{mark}-{token}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder

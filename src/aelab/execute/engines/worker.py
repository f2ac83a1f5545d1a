"""A worker process: trains the runs that the pool sends, one at a time.

Both directions are pickled tuples of plain data, one kind of message each:

    pool -> worker   ("begin", Setup), ("rehearse", specs, to_train), ("train", job, options),
                     ("stop", signal), ("end",)
    worker -> pool   ("event", event), ("needs", MB), ("done",), ("raised", error),
                     ("fault", traceback)

If the first stream ends without "end", the pool process has died. The worker then saves its run and
ends, so that no process is left over. Output of a run goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aelab.assembly.workspace import Workspace
from aelab.execute import events as ev
from aelab.execute.jobs import Rehearsal
from aelab.execute.stop import StopRequest
from aelab.late_compiler import postpone_compiler
from aelab.preparation import reporting

if TYPE_CHECKING:
    from aelab.assembly.rehearsal import Built, Rehearsed

#: Seconds that a worker without a pool may take to save its run.
GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Setup:
    """The settings for all jobs.

    Attributes:
        workspace: folder of runs, folders that may be read, and the device.
        rehearsal: checks whether runs can be built.
        shelf: folder with one copy of each data set, shared by all workers.
        command: as typed by the user; runs store it.
    """

    workspace: Workspace
    rehearsal: Rehearsal
    shelf: Path
    command: tuple[str, ...]


def main() -> None:
    """Runs the worker until its end; never returns."""
    # Ctrl-C and SIGHUP reach every process of the command; here the pool sends "stop" instead.
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    postpone_compiler()
    worker = _Worker()
    code = 1
    try:
        worker.work()
        code = 0
    except BaseException:
        worker.say("fault", traceback.format_exc())
    finally:
        worker.out.flush()
        os._exit(code)  # without waiting for the listening thread or torch's cleanup


class _Worker:
    def __init__(self) -> None:
        self.out: IO[bytes] = os.fdopen(os.dup(1), "wb")
        self._in: IO[bytes] = os.fdopen(os.dup(0), "rb")
        # Output of the user's code must not mix with the messages on stdout.
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self.stop = StopRequest()
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._built: Built | None = None  # by the rehearsal, until a run is trained
        self._saying = threading.Lock()
        for number in (signal.SIGTERM, getattr(signal, "SIGUSR1", None)):
            if number is not None:
                signal.signal(number, lambda number, _: self._ask(number))
        _, self._setup = pickle.load(self._in)
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, *message: Any) -> None:
        """Sends one message; if the pool is gone, asks the run to stop."""
        try:
            with self._saying:
                pickle.dump(message, self.out)
                self.out.flush()
        except OSError:
            self._ask()

    def work(self) -> None:
        """Executes orders until there are no more."""
        from aelab.data.shared import sharing_sets
        from aelab.execute.session import train_run

        setup: Setup = self._setup
        sys.argv[:] = setup.command
        with sharing_sets(setup.shelf), reporting(self._preparing):
            while (order := self._orders.get()) is not None and not self.stop:
                try:
                    if order[0] == "rehearse":
                        self.say("needs", self._rehearse(*order[1:]))
                    else:
                        _, job, options = order
                        built, self._built = self._built, None
                        if built and built.spec.folder != job.spec.folder:
                            built = None  # another worker was given that run
                        happening = train_run(job, setup.workspace, options, self.stop, built)
                        for event in happening:
                            self.say("event", event)
                except Exception as error:
                    self.say("raised", error)
                self.say("done")
                if self.stop:
                    return

    def _rehearse(self, specs: Any, to_train: bool) -> float:
        from aelab.assembly.parts import choose_device

        choose_device(self._setup.workspace.device)
        if not specs:
            return 0.0
        found: Rehearsed = self._setup.rehearsal(specs, self._setup.workspace, to_train)
        self._built = found.built or self._built
        return found.megabytes

    def _preparing(self, what: str, done: int, total: int) -> None:
        self.say("event", ev.Preparing(what, done, total))

    def _ask(self, number: int = signal.SIGTERM) -> None:
        if not self.stop:  # asked twice, it would end without saving
            self.stop.ask(number)
            self._orders.put(None)

    def _listen(self) -> None:
        """Reads orders while a run is trained; a broken stream means the end of the pool."""
        try:
            while True:
                order = pickle.load(self._in)
                if order[0] == "end":
                    self._orders.put(None)
                    return
                if order[0] == "stop":
                    self._ask(order[1])
                else:
                    self._orders.put(order)
        except (EOFError, OSError, pickle.UnpicklingError):
            self._ask()
            # Mapped files stay readable after they are removed.
            shutil.rmtree(self._setup.shelf, ignore_errors=True)
            time.sleep(GRACE_SECONDS)
            os._exit(1)


if __name__ == "__main__":
    main()

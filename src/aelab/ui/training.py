"""The page's own engine: one process for each experiment file, started and stopped by the page.

Only files that were named on the command line can be started; a request never holds a path.
Stopping ends the input of the process, which then saves every run. So the runs are also saved when
the page itself ends, whatever ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aelab.errors import UserError, one_of, visible
from aelab.lab import Lab, Only

#: Lines that are kept of what a process told, and seconds that it may take to save.
KEPT_LINES, FAREWELL_SECONDS = 40, 60.0


@dataclass
class Training:
    """One experiment file that the page can train.

    Attributes:
        name: what the page calls it: its path as it was given.
        path: the file.
        process: None before the first start.
        state: `idle`, `running`, `stopping` or `failed`.
        said: the last lines.
        done, total: runs.
        seconds_left: of the whole file; None if unknown.
        images_per_second: of all runs in training.
        words: what happens now, in words.
    """

    name: str
    path: Path
    process: subprocess.Popen[str] | None = None
    state: str = "idle"
    said: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    images_per_second: float = 0.0
    words: str = "not started"

    def as_json(self) -> dict[str, Any]:
        """Plain data for the page."""
        return {
            "name": self.name, "state": self.state, "said": list(self.said), "done": self.done,
            "total": self.total, "seconds_left": self.seconds_left, "words": self.words,
            "images_per_second": round(self.images_per_second),
        }  # fmt: skip


class Trainings:
    """The experiment files of a page. Safe to use from several threads.

    Args:
        lab: the workspace in which they are trained.
        files: as named on the command line.
        only: a glob that a run's name must match, or several: one of them must.
        jobs: runs trained at once; None: as many as the machine has room for.
    """

    def __init__(
        self, lab: Lab, files: Sequence[Path] = (), *, only: Only = None, jobs: int | None = 1
    ) -> None:
        self._lab, self._only, self._jobs = lab, only, jobs
        self._lock = threading.RLock()
        self._known = {str(path): Training(str(path), path) for path in files}

    def told(self) -> list[dict[str, Any]]:
        """The state of every file, as plain data."""
        with self._lock:
            return [training.as_json() for training in self._known.values()]

    def start(self, name: str) -> None:
        """Starts or continues the runs of a file; nothing where it is trained already.

        Raises:
            UserError: the page does not know the file, or it is still saving.
        """
        with self._lock:
            training = self._named(name)
            if training.state == "stopping":
                raise UserError(f"{name} is still being saved", hint="start it again in a moment")
            if training.state == "running":
                return
            training.state, training.words = "running", "starting"
            training.done, training.total, training.seconds_left = 0, 0, None
            training.said.clear()
            training.process = process = subprocess.Popen(
                [sys.executable, "-m", "aelab.ui.trainer"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                encoding="utf-8", errors="replace",
                start_new_session=True,  # Ctrl-C ends the page, and the page stops this
            )  # fmt: skip
            self._send(process, training.path)
            threading.Thread(target=self._follow, args=(training, process), daemon=True).start()

    def stop(self, name: str) -> None:
        """Asks the process of a file to save its runs and to end; nothing where there is none.

        Raises:
            UserError: the page does not know the file.
        """
        with self._lock:
            training = self._named(name)
            if training.state == "running" and training.process and training.process.stdin:
                training.state, training.words = "stopping", "saving"
                training.process.stdin.close()

    def close(self, saving: Callable[[list[str]], None] | None = None) -> None:
        """Stops every process, and waits until its runs are saved.

        Args:
            saving: called with the names of the files that are being saved, if there are any.
        """
        for name in self._known:
            self.stop(name)
        busy = [each.name for each in self._known.values() if each.state == "stopping"]
        if busy and saving is not None:
            saving(busy)
        for training in self._known.values():
            if training.process is not None:
                try:
                    training.process.wait(FAREWELL_SECONDS)
                except subprocess.TimeoutExpired:
                    training.process.kill()

    def _named(self, name: str) -> Training:
        if name not in self._known:
            known = one_of(self._known) if self._known else "none"
            raise UserError(
                f"the page does not train {visible(name)}; it may train: {known}",
                hint="name a file when you start the page: aelab ui --run FILE",
            )
        return self._known[name]

    def _send(self, process: subprocess.Popen[str], path: Path) -> None:
        """Tells a process what to train."""
        workspace = self._lab.workspace
        given = {
            "file": str(path), "runs": str(workspace.runs), "only": self._only, "jobs": self._jobs,
            "data": [str(folder) for folder in workspace.data], "trust": workspace.trust,
            "device": workspace.device, "retry_failed": True,
        }  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()

    def _follow(self, training: Training, process: subprocess.Popen[str]) -> None:
        """Reads what a process tells until it ends."""
        assert process.stdout is not None and process.stdin is not None
        with process.stdout, process.stdin:
            for line in process.stdout:
                with self._lock:
                    _note(training, line.rstrip("\n"))
            code = process.wait()
        with self._lock:
            if training.state == "stopping":
                training.state, training.words = "idle", "stopped; what was trained is saved"
            elif code:
                training.state = "failed"
                training.words = training.said[-1] if training.said else f"ended with code {code}"
            else:
                training.state = "idle"
            training.seconds_left, training.images_per_second = None, 0.0


def _note(training: Training, line: str) -> None:
    """Takes one line of a process into what is known of its training."""
    try:
        event = json.loads(line)
        kind = event["event"]
    except (ValueError, TypeError, KeyError):
        if line.strip():
            training.said.append(visible(line))
        return
    name = event.get("name", "")
    if kind == "MatrixStarted":
        training.total = len(event["names"])
        training.words = f"0 of {training.total} runs done"
    elif kind == "MatrixProgress":
        training.done, training.total = event["done"], event["total"]
        training.seconds_left = event["seconds_left"]
        training.images_per_second = event["images_per_second"]
        training.words = f"{training.done} of {training.total} runs done"
    elif kind == "RunProgress":
        if training.total == 1:
            training.seconds_left = event["seconds_left"]
            training.images_per_second = event["images_per_second"]
            training.words = f"{event['images']:,} images"
    elif kind == "Preparing":
        training.words = f"{event['what']}: {event['done']} of {event['total']}"
    elif kind in ("Told", "RunMended"):
        training.said.append(visible(event["text"]))
    elif kind in ("RunErred", "Refused"):
        training.said.append(visible(f"{name}: {event['message']}" if name else event["message"]))
    elif kind == "MatrixFinished":
        parts = [f"{event[key]} {key}" for key in ("finished", "skipped", "failed") if event[key]]
        training.words = ", ".join(parts) or "nothing to do"

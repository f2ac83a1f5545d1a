"""One run: a directory of plain files. docs/run-format.md describes every one of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aelab.errors import StoreError, visible
from aelab.runs.atomic import (
    explain,
    make_folder,
    read_json,
    with_numbers,
    write_all,
    write_bytes,
    write_json,
)
from aelab.runs.checkpoints import (
    Checkpoint,
    copy_checkpoint,
    delete_checkpoint,
    list_checkpoints,
    save_checkpoint,
    settle,
    superfluous,
)
from aelab.runs.foreign import checked_record, checked_status, refuse_links, stays_inside
from aelab.runs.ledger import append_rows, read_rows, settled_length, truncate_rows
from aelab.runs.status import STATES, actual_state, is_alive, now, state_words, this_process

#: The format version this code writes, and the newest it reads.
FORMAT = 1


class Run:
    """One run directory. Readers need nothing; a writer holds `lock()` while it writes.

    Args:
        path: the run's directory.
        folder: its name relative to the store, with `/` between parts.
        record: the content of `run.json`.
        is_new: whether it was made just now.
    """

    def __init__(
        self, path: Path, folder: str, record: dict[str, Any], *, is_new: bool = False
    ) -> None:
        self.path = path
        self.folder = folder
        self.record = record
        self.is_new = is_new
        self._status: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Run({self.folder!r})"

    @classmethod
    def at(cls, path: Path, folder: str | None = None) -> Run:
        """The run stored in `path`.

        Raises:
            StoreError: if it is no run, is damaged, or was written by a newer aelab.
        """
        if not os.path.isfile(path / "run.json"):
            raise StoreError(
                f"{path} is not a run: it has no run.json", hint="aelab ls shows the runs there are"
            )
        record = checked_record(read_json(path / "run.json"), path / "run.json")
        version = record.get("format")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise StoreError(f"{path / 'run.json'}: `format` is {version!r}, expected a number")
        if version > FORMAT:
            raise StoreError(
                f"{path} was written by a newer aelab (run format {version}); this one reads up "
                f"to format {FORMAT}",
                hint="pip install --upgrade aelab",
            )
        name = folder or record.get("folder") or path.name
        if visible(name) != name:
            raise StoreError(f"{path} has control characters in its name", hint="rename the folder")
        return cls(path, name, {"matrix": {}, "name": name, "identity": "", **record})

    # --- what it is doing

    @property
    def status(self) -> dict[str, Any]:
        """The content of `status.json`, as it was when first asked for; `refresh` asks again."""
        if self._status is None:
            try:
                path = self.path / "status.json"
                self._status = checked_status(with_numbers(read_json(path)), path)
            except StoreError as error:
                # A power cut can empty a file; the run itself is in order and can be continued.
                gone = not (self.path / "status.json").exists()
                self._status = {"state": "waiting"} if gone else {"state": "interrupted"}
                if not gone:
                    self._status["note"] = error.message
        return self._status

    @property
    def state(self) -> str:
        """`waiting`, `running`, `finished`, `failed` or `interrupted` (also when killed)."""
        return actual_state(self.status)

    @property
    def state_words(self) -> str:
        """The state for people, for instance `interrupted (killed)`."""
        return state_words(self.status)

    def refresh(self) -> Run:
        """Forget what was read, so that the next look sees what a live run wrote meanwhile."""
        self._status = None
        return self

    def set_status(self, state: str | None = None, **changes: Any) -> dict[str, Any]:
        """Change some entries of `status.json`; the others stay.

        Args:
            state: one of `STATES`; `running` also notes this process, so that readers can tell
                whether it still lives.
            changes: entries of `status.json`: images, seconds, best, last, error, ...

        Returns:
            The whole new status.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state {state!r} is none of {', '.join(STATES)}")
        before = self.status
        status = {**before, **changes}
        if state is not None:
            status["state"] = state
        status.setdefault("state", "waiting")
        if status["state"] == "running":
            status.update(this_process())
        else:
            for name in ("pid", "mark", "host"):
                status.pop(name, None)
        status["updated"] = now()
        # A heartbeat need not wait for the disk; a new state or an error must.
        durable = status["state"] != before.get("state") or "error" in changes
        write_json(self.path / "status.json", status, durable=durable)
        self._status = status
        return status

    @contextlib.contextmanager
    def lock(self, timeout_seconds: float = 0) -> Iterator[Run]:
        """Hold the run for writing, and tidy up after a killed writer.

        Args:
            timeout_seconds: how long to wait for another process.

        Raises:
            StoreError: if another process holds it.
        """
        from filelock import FileLock, Timeout

        refuse_links(self.path)  # also before: locking itself opens a file
        lock = FileLock(self.path / "lock", timeout=timeout_seconds)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"run {self.folder} is being trained by {self._owner_words()}",
                hint="wait for it, or stop that process; aelab ls shows how far it is",
            ) from error
        except NotImplementedError as error:
            raise StoreError(
                f"{self.path}: this file system has no locks", hint="choose another runs folder"
            ) from error
        except OSError as error:
            raise explain(error, self.path / "lock") from error
        try:
            refuse_links(self.path)
            self._tidy()
            write_json(self.path / "lock.json", this_process(), durable=False)
            self.refresh()
            yield self
        finally:
            with contextlib.suppress(OSError):
                (self.path / "lock.json").unlink()
            lock.release()

    def _owner_words(self) -> str:
        for source in (self.path / "lock.json", self.path / "status.json"):
            with contextlib.suppress(StoreError):
                owner = read_json(source)
                if owner.get("pid") and is_alive(owner, 0.0):
                    return f"process {owner['pid']} on host {owner.get('host')}"
        return "another process"

    def _tidy(self) -> None:
        for folder in (self.path, self.path / "checkpoints", self.path / "images"):
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(folder):
                    if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                        os.unlink(entry)
        settle(self.path / "checkpoints")

    # --- metrics

    def metrics(self, split: str | None = None) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl` in order, of one split (`train`, `validation`) if given.

        Each row has `split`, `images` (seen), `seconds` (of training), `epoch`, `loss`, and the
        objective's terms; a torn last line is left out.
        """
        return read_rows(self.path / "metrics.jsonl", split)

    def append(self, *rows: Mapping[str, Any]) -> int:
        """Add rows to `metrics.jsonl`, all or none; returns its new length in bytes."""
        return append_rows(self.path / "metrics.jsonl", rows)

    def metrics_offset(self) -> int:
        """Length of `metrics.jsonl` in bytes once it is safely on the disk."""
        return settled_length(self.path / "metrics.jsonl")

    def truncate_metrics(self, offset: int) -> None:
        """Forget the rows after `offset` bytes."""
        truncate_rows(self.path / "metrics.jsonl", offset)

    # --- checkpoints

    def checkpoints(self) -> list[Checkpoint]:
        """Every stored state: kept ones by images, then `best`, then `latest`."""
        return list_checkpoints(self.path / "checkpoints")

    def checkpoint(self, name: str = "latest") -> Checkpoint | None:
        """The state called `name`, or None where there is none."""
        return next((entry for entry in self.checkpoints() if entry.name == name), None)

    def save_checkpoint(
        self,
        images: int,
        tensors: bytes,
        numbers: Mapping[str, Any],
        *,
        best: bool = False,
        keep: str | int = "best+latest",
    ) -> Checkpoint:
        """Write the state as `latest`, and as `best` and under its images where asked for.

        The metrics written so far belong to it: continuing from it truncates to them.

        Args:
            images: images seen.
            tensors: the bytes of a safetensors file.
            numbers: what JSON can hold.
            best: whether it is the best so far.
            keep: `keep_checkpoints` of the experiment, see `checkpoints.superfluous`.

        Raises:
            StoreError: if the system refuses; the older states are then unharmed.
        """
        folder = self.path / "checkpoints"
        kept = {entry.images for entry in self.checkpoints() if entry.name.startswith("images-")}
        unwanted = superfluous({*kept, images}, keep)
        latest = save_checkpoint(folder, "latest", images, tensors, numbers, self.metrics_offset())
        if best:
            copy_checkpoint(latest, "best")
        if images not in unwanted:
            copy_checkpoint(latest, f"images-{images:09d}")
        for number in unwanted:
            delete_checkpoint(Checkpoint(f"images-{number:09d}", folder))
        return latest

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Make the metrics as they were when `checkpoint` was written, to continue from it."""
        self.truncate_metrics(int(checkpoint.about()["metrics_offset"]))

    # --- other files

    def inside(self, relative: str) -> Path:
        """The path of one of the run's files; its folder is made.

        Raises:
            StoreError: if `relative` leaves the run's directory.
        """
        path = self.path / relative
        home = self.path.resolve()
        if home not in path.resolve().parents:
            raise StoreError(f"{relative!r} is not inside the run {self.folder}")
        make_folder(path.parent)
        return path

    def write_bytes(self, relative: str, data: bytes) -> Path:
        """Write one file of the run in one step, for instance `images/train-000060000.png`."""
        path = self.inside(relative)
        write_bytes(path, data)
        return path

    def write_json(self, relative: str, value: Any) -> Path:
        """Write one JSON file of the run in one step."""
        path = self.inside(relative)
        write_json(path, value)
        return path

    def read_text(self, relative: str) -> str:
        """The text of one of the run's files; empty where there is none, or a link leads out."""
        if not stays_inside(self.path / relative, self.path):
            return ""
        try:
            return (self.path / relative).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise explain(error, self.path / relative, "read") from error

    def update_record(self, **changes: Any) -> None:
        """Note more in `run.json`, for instance parameter counts once the model is built."""
        record = {**self.record, **changes}
        write_json(self.path / "run.json", record)
        self.record = record

    def log(self, text: str) -> None:
        """Add one line to `log.txt`, with the time before it."""
        line = f"{now()} {text.rstrip()}\n".encode(errors="backslashreplace")
        path = self.path / "log.txt"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                write_all(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise explain(error, path) from error

    def size_bytes(self) -> int:
        """Bytes on the disk; files with two names (hard links) count once."""
        seen: dict[tuple[int, int], int] = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(OSError):
                    facts = os.lstat(os.path.join(folder, name))
                    seen[(facts.st_dev, facts.st_ino)] = facts.st_size
        return sum(seen.values())

"""One run: a directory of plain files, all described in docs/run-format.md."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aelab.errors import StoreError, visible
from aelab.roots import lies_inside
from aelab.runs import disk
from aelab.runs.atomic import (
    explain,
    make_folder,
    to_json,
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
from aelab.runs.files import (
    LARGEST_PICTURE,
    LARGEST_TEXT,
    is_regular,
    open_regular,
    read,
    read_json,
    refuse_other_kinds,
    walk,
)
from aelab.runs.foreign import checked_record, checked_status, refuse_links
from aelab.runs.ledger import (
    append_rows,
    length_up_to,
    read_rows,
    settled_length,
    truncate_rows,
)
from aelab.runs.locks import Lease, Taken, held
from aelab.runs.shown import history_frame, run_html
from aelab.runs.status import (
    BEAT_SECONDS,
    STATES,
    actual_state,
    age_seconds,
    is_alive,
    is_here,
    now,
    state_words,
    this_process,
)

if TYPE_CHECKING:
    import pandas

#: The format version this code writes, and the newest it reads.
FORMAT = 1
#: Entries of a status that only show progress: written at most once a second.
_HEARTBEAT = {"images", "max_inputs", "epoch", "seconds", "images_per_second"}
#: Entries of a row of metrics that are not terms of the objective.
_CLOCKS = {"split", "seconds", "epoch"}


class HeldError(StoreError):
    """Another process is writing this run."""


@contextlib.contextmanager
def metrics_kept(runs: Iterable[Run]) -> Iterator[None]:
    """Context manager: inside, each run parses its metrics once and keeps them.

    For a page that needs them in several places; nobody may change the rows.
    """
    chosen = list(runs)
    for run in chosen:
        run._keeps_rows = True
    try:
        yield
    finally:
        for run in chosen:
            run._keeps_rows, run._rows = False, None


class Run:
    """One run directory. Readers need no lock; a writer holds `lock()` while it writes.

    Args:
        path: the run's directory.
        folder: its name relative to the store, with `/` between parts.
        record: the content of `run.json`.
        is_new: whether it was made just now.

    Attributes:
        damage: problems found while reading its files; the run can still be used.
    """

    def __init__(
        self, path: Path, folder: str, record: dict[str, Any], *, is_new: bool = False
    ) -> None:
        self.path = path
        self.folder = folder
        self.record = record
        self.is_new = is_new
        self.damage: list[str] = []
        self._lease: Lease | None = None
        self._status: dict[str, Any] | None = None
        self._written_at = -1.0
        self._keeps_rows = False
        self._rows: list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"Run({self.folder!r})"

    @classmethod
    def at(cls, path: Path, folder: str | None = None) -> Run:
        """Opens the run stored in `path`.

        Raises:
            StoreError: it is no run, is damaged, or was written by a newer aelab.
        """
        if not os.path.lexists(path / "run.json"):
            if holds_a_run(path):
                raise StoreError(
                    f"{path} has lost its run.json: it has the other files of a run",
                    hint="restore run.json from a copy, or train it again with --restart; aelab "
                    "rm removes it",
                )
            raise StoreError(
                f"{path} is not a run: it has no run.json", hint="aelab ls lists the runs"
            )
        record = checked_record(read_json(path / "run.json", path), path / "run.json")
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
        """The content of `status.json`, cached at the first access; `refresh` reads it again.

        Missing or damaged entries are taken from the metrics; the entry `note` then says so.
        """
        if self._status is None:
            self._status = self._read_status()
        return self._status

    def _read_status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        told = None
        try:
            stored = read_json(path, self.path)
            told = stored.pop("sum", None)
            whole = told is None or told == _sum(stored)
            status = checked_status(with_numbers(stored), path)
            note = "" if whole else f"{path} is damaged: its checksum does not match its entries"
        except StoreError as error:
            # A power cut can empty the file; the run itself is intact and can be continued.
            gone = not os.path.lexists(path)
            status, whole = {"state": "waiting" if gone else "interrupted"}, False
            note = f"{path} is missing" if gone else error.message
            if gone and not self.metrics() and not self._has_states():
                return status
            status["state"] = "interrupted"
        # With a sum, a missing best means that no validation was judged.
        complete = "last" in status and ("best" in status or told is not None)
        if whole and (status.get("state") == "waiting" or complete):
            return status
        rebuilt = self._from_metrics(keep=status if whole else {})
        if note or any(status.get(key) != value for key, value in rebuilt.items()):
            status |= rebuilt
            if note:
                status["note"] = f"{note}; its losses are those of metrics.jsonl"
        return status

    def _has_states(self) -> bool:
        return os.path.isdir(self.path / "checkpoints")

    def _from_metrics(self, keep: Mapping[str, Any]) -> dict[str, Any]:
        """The status as far as the metrics and the latest state give it, completed by `keep`."""
        found: dict[str, Any] = {}
        rows = self.metrics("validation")
        if rows:
            last = rows[-1]
            found["last"] = {name: last[name] for name in last if name not in _CLOCKS}
            best = self._best_of(rows)
            found |= {} if best is None else {"best": best}
        every = rows if "images" in keep else self.metrics()
        if every:
            end = max(every, key=lambda row: int(row["images"]))
            clock = {name: end[name] for name in ("images", "epoch", "seconds") if name in end}
            found |= {name: value for name, value in clock.items() if value is not None}
        limit = self.record.get("max_inputs")
        if every and limit is not None:
            found["max_inputs"] = limit
        return {name: value for name, value in found.items() if keep.get(name) is None}

    def _best_of(self, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The best validation: as stored in the latest state, or a lower loss since then."""
        best: dict[str, Any] | None = None
        seen = -1
        with contextlib.suppress(StoreError):
            latest = Checkpoint("latest", self.path / "checkpoints").about()
            loss, images = (latest["numbers"].get(f"best_{name}") for name in ("loss", "images"))
            if not isinstance(loss, int | float) or not isinstance(images, int):
                return None  # nothing was judged yet
            best, seen = {"images": images, "loss": float(loss)}, int(latest["images"])
        for row in rows:
            loss = row.get("loss")
            if row["images"] <= seen or not isinstance(loss, int | float) or loss != loss:
                continue
            if best is None or loss < best["loss"]:
                best = {"images": row["images"], "loss": loss}
        return best

    @property
    def state(self) -> str:
        """`waiting`, `running`, `finished`, `failed` or `interrupted` (also when killed)."""
        return actual_state(self.status, self._silent_seconds())

    @property
    def state_words(self) -> str:
        """The state for people, for instance `interrupted (killed)`."""
        return state_words(self.status, self._silent_seconds())

    def _silent_seconds(self) -> float | None:
        """Seconds since the last sign of a writer on another machine; None if it is on this one."""
        if self.status.get("state") != "running" or is_here(self.status):
            return None
        signs = [age_seconds(self.status)]
        with contextlib.suppress(OSError):
            signs.append(time.time() - os.stat(self.path / "lock.json").st_mtime)
        return min((sign for sign in signs if sign is not None), default=None)

    def seems_held(self) -> bool:
        """Whether the process that last locked this run seems to be alive; takes no lock."""
        path = self.path / "lock.json"
        with contextlib.suppress(StoreError, OSError):
            return is_alive(read_json(path, self.path), time.time() - os.stat(path).st_mtime)
        return False

    def refresh(self) -> Run:
        """Drop cached files, so that the next access reads what a live run wrote meanwhile."""
        self._status = None
        return self

    def set_status(self, state: str | None = None, **changes: Any) -> dict[str, Any]:
        """Change some entries of `status.json`; the others stay.

        Args:
            state: one of `STATES`; `running` also stores this process, so that readers can check
                whether it is still alive.
            changes: entries of `status.json`: images, seconds, best, last, error, ...

        Returns:
            The whole new status.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state {state!r} is none of {', '.join(STATES)}")
        self._refuse_if_lost()
        before = self.status
        status = {**before, **changes}
        status.pop("note", None)  # a note on damage that this write repairs
        now_seconds = time.monotonic()
        if state is None and set(changes) <= _HEARTBEAT and now_seconds < self._written_at + 1:
            self._status = status
            return status
        if state is not None:
            status["state"] = state
        status.setdefault("state", "waiting")
        if status["state"] == "running":
            status.update(this_process())
        else:
            for name in ("pid", "mark", "host", "machine"):
                status.pop(name, None)
        status["updated"] = now()
        write_json(self.path / "status.json", {**status, "sum": _sum(status)})
        self._written_at = now_seconds
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
        refuse_links(self.path)  # before, too: locking itself opens a file
        with contextlib.ExitStack() as stack:
            try:
                with contextlib.suppress(FileNotFoundError):
                    refuse_other_kinds(self.path / "lock", os.stat(self.path / "lock"))
                self._lease = stack.enter_context(held(self.path, timeout_seconds))
            except Taken as error:
                raise self._held() from error
            except OSError as error:
                raise explain(error, self.path / "lock") from error
            stack.callback(self._let_go)
            refuse_links(self.path)
            self._tidy()
            write_json(self.path / "lock.json", this_process(), durable=False)
            self.refresh()
            with _beating(self.path / "lock.json"):
                yield self

    def _held(self) -> HeldError:
        return HeldError(
            f"run {self.folder} is being trained by {self._owner_words()}",
            hint="wait for it, or stop that process; aelab ls shows its progress",
        )

    def _let_go(self) -> None:
        if self._lease is None or self._lease.check():
            with contextlib.suppress(OSError):
                disk.unlink(self.path / "lock.json")
        self._lease = None

    def _refuse_if_lost(self) -> None:
        """Raises if another process has taken the lease of this run, before anything is written.

        Raises:
            HeldError: it was taken, because this process was silent for two minutes.
        """
        if self._lease is not None and not self._lease.check():
            raise HeldError(
                f"run {self.folder} was taken over by {self._owner_words()}, because this process "
                "gave no sign of life for two minutes",
                hint="it goes on there; aelab ls shows its progress",
            )

    @contextlib.contextmanager
    def held_for_removal(self) -> Iterator[None]:
        """Like `lock`, but also for a damaged run.

        Raises:
            HeldError: another process is writing it.
        """
        with contextlib.ExitStack() as stack:
            try:
                if is_regular(self.path / "lock", self.path):
                    stack.enter_context(held(self.path))
            except Taken as error:
                raise self._held() from error
            except OSError as error:
                owner = self._owner_words()
                if owner != "another process":
                    raise HeldError(f"run {self.folder} is being trained by {owner}") from error
            yield

    def _owner_words(self) -> str:
        for source in (self.path / "lock.json", self.path / "status.json"):
            with contextlib.suppress(StoreError):
                owner = read_json(source, self.path)
                if owner.get("pid") and is_alive(owner, 0.0):
                    return visible(f"process {owner['pid']} on host {owner.get('host')}")
        return "another process"

    def _tidy(self) -> None:
        for folder in (self.path, self.path / "checkpoints", self.path / "images"):
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                            with contextlib.suppress(OSError):  # a failure is harmless
                                disk.unlink(entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise explain(error, folder) from error
        settle(self.path / "checkpoints")

    # --- metrics

    def metrics(self, split: str | None = None) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl` in order, of one split (`train`, `validation`) if given.

        Each row has `split`, `images` (seen), `seconds` (of training), `epoch`, `loss`, and the
        objective's terms. A torn last line and damaged lines are left out; `damage` lists the
        latter.
        """
        if self._rows is not None:
            return [row for row in self._rows if split is None or row.get("split") == split]
        damaged: list[str] = []
        wanted = None if self._keeps_rows else split
        rows = read_rows(self.path / "metrics.jsonl", wanted, home=self.path, damaged=damaged)
        self._note_damage(*damaged)
        if not self._keeps_rows:
            return rows
        self._rows = rows
        return self.metrics(split)

    def history(self) -> pandas.DataFrame:
        """The rows of `metrics` as a data frame of pandas, a row a logged moment.

        Columns: `split` (`train` or `validation`), `images` seen, `seconds` of training, `epoch`,
        `loss`, and the terms of the objective; NaN where a split does not log a term.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return history_frame(self.metrics())

    def _repr_html_(self) -> str:
        """What a notebook shows: settings, state, losses, and the latest reproductions."""
        status = self.status
        losses = {
            f"{name} loss": f"{value:.6g}"
            for name in ("last", "best")
            if isinstance(value := (status.get(name) or {}).get("loss"), int | float)
        }
        facts = {
            "state": self.state_words,
            **self.record["matrix"],
            "images": status.get("images"),
            **losses,
            "objective": self.record.get("objective"),
        }
        return run_html(self.folder, facts, self.path)

    def lacks_metrics(self) -> str:
        """A description of missing metrics if the run has trained but has none; else empty."""
        path = self.path / "metrics.jsonl"
        try:
            if os.stat(path).st_size:
                return ""
        except FileNotFoundError:
            pass
        except OSError:
            return ""  # reported when it is read
        return f"{path} is missing or empty: there is no curve" if self.status.get("images") else ""

    def _note_damage(self, *found: str) -> None:
        self.damage = list(dict.fromkeys([*self.damage, *found]))

    def append(self, *rows: Mapping[str, Any]) -> int:
        """Add rows to `metrics.jsonl`, all or none; returns its new length in bytes."""
        self._refuse_if_lost()
        return append_rows(self.path / "metrics.jsonl", rows)

    def metrics_offset(self) -> int:
        """Waits until `metrics.jsonl` is on the disk and returns its length in bytes."""
        return settled_length(self.path / "metrics.jsonl")

    def offset_at(self, images: int) -> int:
        """Length of `metrics.jsonl` in bytes, without rows after `images` images."""
        return length_up_to(self.path / "metrics.jsonl", images, home=self.path)

    def truncate_metrics(self, offset: int) -> None:
        """Cut off the rows after `offset` bytes."""
        truncate_rows(self.path / "metrics.jsonl", offset)

    # --- checkpoints

    def checkpoints(self) -> list[Checkpoint]:
        """All stored states: kept ones by images, then `best`, then `latest`."""
        return list_checkpoints(self.path / "checkpoints")

    def checkpoint(self, name: str = "latest") -> Checkpoint | None:
        """The state called `name`, or None."""
        return next((entry for entry in self.checkpoints() if entry.name == name), None)

    def save_checkpoint(
        self,
        images: int,
        tensors: bytes,
        numbers: Mapping[str, Any],
        *,
        best: bool = False,
        keep: str | int = "best+latest",
        offset: int | None = None,
    ) -> Checkpoint:
        """Write the state as `latest`, and if asked also as `best` and as a kept state.

        It stores the length of the metrics so far: continuing from it truncates them to that.

        Args:
            images: images seen.
            tensors: the bytes of a safetensors file.
            numbers: values for JSON.
            best: whether it is the best so far.
            keep: `keep_checkpoints` of the experiment, see `checkpoints.superfluous`.
            offset: length of the metrics of a state that training went back to.

        Raises:
            StoreError: the system refuses; the older states are then unchanged.
        """
        folder = self.path / "checkpoints"
        kept = {entry.images for entry in self.checkpoints() if entry.name.startswith("images-")}
        unwanted = superfluous({*kept, images}, keep)
        self._refuse_if_lost()
        settled = self.metrics_offset()
        length = settled if offset is None else offset
        latest = save_checkpoint(folder, "latest", images, tensors, numbers, length)
        if best:
            copy_checkpoint(latest, "best")
        if images not in unwanted:
            copy_checkpoint(latest, f"images-{images:09d}")
        for number in unwanted:
            delete_checkpoint(Checkpoint(f"images-{number:09d}", folder))
        return latest

    def complete_checkpoints(
        self, latest: Checkpoint, *, best: bool, keep: str | int = "best+latest"
    ) -> list[str]:
        """Makes copies of the latest state that are missing because a process was killed.

        Args:
            latest: an intact state from which the run continues.
            best: whether it is the best so far.
            keep: as for `save_checkpoint`.

        Returns:
            The names of the states that were made.
        """
        if latest.name != "latest":
            return []  # a damaged state was skipped: leave its copies unchanged
        folder, images = self.path / "checkpoints", latest.images
        have = {entry.name: entry for entry in self.checkpoints()}
        kept = {entry.images for name, entry in have.items() if name.startswith("images-")}
        unwanted = superfluous({*kept, images}, keep)
        due = ["best"] if best else []
        due += [f"images-{images:09d}"] if images not in unwanted else []
        made = [name for name in due if not self._is_copy(have.get(name), latest)]
        for name in made:
            copy_checkpoint(latest, name)
        for number in unwanted:
            delete_checkpoint(Checkpoint(f"images-{number:09d}", folder))
        return made

    def _is_copy(self, state: Checkpoint | None, latest: Checkpoint) -> bool:
        """Whether a state exists, is intact, and equals the latest one."""
        if state is None:
            return False
        try:
            state.read()
            return state.about() == latest.about()
        except StoreError:
            return False

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Truncate the metrics to those at `checkpoint`, to continue from it."""
        self.truncate_metrics(int(checkpoint.about()["metrics_offset"]))

    # --- other files

    def inside(self, relative: str) -> Path:
        """The path of one of the run's files; makes its folder.

        Raises:
            StoreError: if `relative` leaves the run's directory.
        """
        path = self.path / relative
        if not lies_inside(path, self.path):
            raise StoreError(f"{relative!r} is not inside the run {self.folder}")
        make_folder(path.parent)
        return path

    def write_bytes(self, relative: str, data: bytes) -> Path:
        """Write one file of the run atomically, for instance `images/train-000060000.png`."""
        path = self.inside(relative)
        write_bytes(path, data)
        return path

    def write_json(self, relative: str, value: Any) -> Path:
        """Write one JSON file of the run atomically."""
        path = self.inside(relative)
        write_json(path, value)
        return path

    def read_text(self, relative: str) -> str:
        """The text of one of the run's files; empty if it is missing or may not be read.

        `damage` then holds the reason, except for a missing file.
        """
        try:
            data = read(self.path / relative, self.path, LARGEST_TEXT)
        except FileNotFoundError:
            return ""
        except StoreError as error:
            self._note_damage(error.message)
            return ""
        return data.decode("utf-8", errors="replace")

    def read_picture(self, relative: str) -> bytes:
        """The bytes of one of the run's pictures.

        Raises:
            StoreError: it does not exist, or is no file of this run.
        """
        path = self.path / relative
        try:
            return read(path, self.path, LARGEST_PICTURE)
        except FileNotFoundError as error:
            raise explain(error, path, "read") from error

    def update_record(self, **changes: Any) -> None:
        """Add entries to `run.json`, for instance parameter counts once the model is built."""
        record = {**self.record, **changes}
        write_json(self.path / "run.json", record)
        self.record = record

    def log(self, text: str) -> None:
        """Append one line to `log.txt`, with the time before it."""
        line = f"{now()} {text.rstrip()}\n".encode(errors="backslashreplace")
        path = self.path / "log.txt"
        try:
            descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                write_all(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise explain(error, path) from error

    def size_bytes(self) -> int:
        """Bytes on the disk; hard links to the same file count once."""
        seen: dict[tuple[int, int], int] = {}
        for entry in walk(self.path):
            with contextlib.suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(facts.st_mode):
                    seen[(facts.st_dev, facts.st_ino)] = facts.st_size
        return sum(seen.values())


class BrokenRun(Run):
    """A stand-in for a run that cannot be read, so that lists still show it.

    Args:
        path: the directory.
        folder: its name relative to the store.
        problem: the error of reading it.

    Attributes:
        problem: the same.
    """

    def __init__(self, path: Path, folder: str, problem: StoreError) -> None:
        record = {"name": visible(folder), "folder": visible(folder), "identity": "", "matrix": {}}
        super().__init__(path, visible(folder), record)
        self.problem = problem
        self._status = self._unreadable()

    def _unreadable(self) -> dict[str, Any]:
        error = {"type": "", "message": self.problem.message, "hint": self.problem.hint or ""}
        return {"state": "unreadable", "error": error}

    @property
    def state(self) -> str:
        """Always `unreadable`."""
        return "unreadable"

    @property
    def state_words(self) -> str:
        """Always `unreadable`."""
        return "unreadable"

    def refresh(self) -> Run:
        """Returns itself: there is nothing to read again."""
        return self

    def metrics(self, split: str | None = None) -> list[dict[str, Any]]:
        """Empty, because the run cannot be read."""
        return []

    def read_text(self, relative: str) -> str:
        """Empty, because the run cannot be read."""
        return ""

    def read_picture(self, relative: str) -> bytes:
        """Raises the error of reading the run."""
        raise self.problem

    def checkpoints(self) -> list[Checkpoint]:
        """Empty, because the run cannot be read."""
        return []


def holds_a_run(path: Path) -> bool:
    """Whether a folder has files that only a run has, with or without a readable `run.json`."""
    if os.path.lexists(path / "run.json"):
        return True
    return any(os.path.lexists(path / name) for name in ("metrics.jsonl", "resolved.yml")) and (
        os.path.lexists(path / "status.json")
    )


@contextlib.contextmanager
def _beating(path: Path) -> Iterator[None]:
    """Context manager: renews a file's time regularly, as a sign of life for other machines."""
    over = threading.Event()

    def beat() -> None:
        """Renews the time until the block has ended or the run was removed."""
        while not over.wait(BEAT_SECONDS):
            try:
                os.utime(path)
            except OSError:
                return

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _sum(status: Mapping[str, Any]) -> str:
    """A checksum of the entries, so that a damaged loss is noticed."""
    plain = json.loads(to_json(dict(status)))
    text = json.dumps(plain, sort_keys=True)
    return f"{zlib.crc32(text.encode(errors='backslashreplace')):08x}"

"""The runs folder: makes, finds and lists runs. Different runs never share a directory."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aelab.config.slugs import DEEPEST, FOLDERS_OF_SYSTEMS
from aelab.errors import StoreError, did_you_mean
from aelab.hardware import is_there
from aelab.roots import real
from aelab.runs import disk
from aelab.runs.atomic import explain, make_folder, write_bytes, write_json
from aelab.runs.checkpoints import Checkpoint, delete_checkpoint
from aelab.runs.files import is_folder, remove_tree
from aelab.runs.record import FORMAT, BrokenRun, HeldError, Run, holds_a_run
from aelab.settings import setting_of

#: Files of a run directory that is not complete yet (its process may have been killed).
_UNFINISHED = {"lock", "lock.json", "lease", "log.txt", "status.json", "checkpoints", "images"}
#: Age at which files left by killed processes in the runs folder are removed.
_LEFTOVER_SECONDS = 600.0


Names = list[str]
Runs = list[Run]


@dataclass(frozen=True)
class Listing:
    """The content of a store.

    Attributes:
        runs: the readable runs, in natural order.
        broken: a stand-in for each unreadable run.
    """

    runs: list[Run]
    broken: list[BrokenRun]

    @property
    def problems(self) -> list[StoreError]:
        """One error for each directory that cannot be read."""
        return [run.problem for run in self.broken]

    @property
    def every(self) -> list[Run]:
        """Readable and broken runs in natural order, so that none is silently missing."""
        return sorted([*self.runs, *self.broken], key=lambda run: natural(run.folder))


class Store:
    """A folder of runs.

    Args:
        root: the folder; made with the first run.
    """

    def __init__(self, root: Path | str = "runs") -> None:
        self.root = Path(root)

    # --- making

    def path_of(self, folder: str) -> Path:
        """The path of the run called `folder`, whether it exists or not.

        Raises:
            StoreError: if the name would lead out of the store, into another run, or through a
                link.
        """
        parts = PurePosixPath(folder).parts
        wrong = next((part for part in parts if part.startswith(".") or "\\" in part), None)
        if not parts or folder.startswith("/") or wrong or "\0" in folder:
            raise StoreError(
                f"experiment_name {folder!r} cannot name a folder in {self.root}: every part "
                "between slashes must be a plain name (no `..`, no leading dot or slash)",
                hint="for instance: experiment_name: vae/base28_${matrix_slug}",
            )
        root = real(self.root)
        path = root.joinpath(*parts)
        try:
            leads_elsewhere = real(path) != path
        except OSError as error:
            raise explain(error, self.root / folder) from error
        if leads_elsewhere:
            raise StoreError(
                f"{self.root / folder} goes through a symbolic link; runs are written only "
                f"under {self.root}",
                hint="make the runs folder itself the link, not a folder in it",
            )
        for parent in path.parents:
            if parent == root:
                break
            if os.path.lexists(parent / "run.json"):
                raise StoreError(
                    f"{self.root / folder} would be inside the run {parent.relative_to(root)}",
                    hint="choose an experiment_name that does not begin with another run's name",
                )
        return self.root.joinpath(*parts)

    def create(
        self,
        record: Mapping[str, Any],
        files: Mapping[str, Any] | None = None,
        *,
        restart: bool = False,
    ) -> Run:
        """Make the directory of a run, or open it if the same run exists already.

        Args:
            record: the content of `run.json`; `folder` and `identity` are required.
            files: further files by name, as text, bytes, or a value for JSON: `experiment.yml`,
                `resolved.yml`, `calls.json`, `environment.json`.
            restart: remove an existing run of any identity and start again.

        Returns:
            The run; `is_new` is true if it was made now.

        Raises:
            StoreError: if another run has this folder, or the system refuses.
        """
        folder, files = PurePosixPath(str(record["folder"])).as_posix(), files or {}
        path = self.path_of(folder)
        if restart and holds_a_run(path):
            self.remove(Run(path, folder, dict(record)))
        elif holds_a_run(path):
            return self._existing(path, record, files)
        self._refuse_foreign(path, files)
        self.make_root()
        make_folder(path)
        run = Run(path, folder, {**record, "format": FORMAT}, is_new=True)
        return self._made(run, files) or self._existing(path, record, files)

    def make_root(self) -> None:
        """Makes the runs folder if needed, and removes leftovers in it.

        Raises:
            StoreError: the system refuses, which concerns every run.
        """
        make_folder(self.root)
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise explain(PermissionError(errno.EACCES, "permission denied"), self.root)
        self._tidy()
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            try:
                write_bytes(ignore, b"*\n")
            except StoreError:  # see `_tidy`; where the system refuses, it does so again
                write_bytes(ignore, b"*\n")

    def _made(self, run: Run, files: Mapping[str, Any]) -> Run | None:
        """Writes the first files of a run; None if another process made it meanwhile.

        The process that makes a run also trains it under the same lock. So this waits until the
        run exists, not until the lock is free.
        """
        deadline = time.monotonic() + 10
        while True:
            try:
                with run.lock():
                    if os.path.lexists(run.path / "run.json"):
                        return None
                    for name, content in files.items():
                        _write_any(run, name, content)
                    write_json(run.path / "run.json", run.record)  # last: it makes the folder a run
                    return run
            except HeldError:
                if os.path.lexists(run.path / "run.json"):
                    return None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _tidy(self) -> None:
        """Removes files left by killed processes in the runs folder itself; ignores failures."""
        with contextlib.suppress(OSError), os.scandir(self.root) as entries:
            for entry in list(entries):
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFTOVER_SECONDS
                with contextlib.suppress(OSError, StoreError):
                    if old and re.fullmatch(r"\.removed-[0-9a-f]{16}", entry.name):
                        remove_tree(Path(entry.path))
                    elif of := re.fullmatch(r"\.\.gitignore\.(\d+)-\w+\.tmp", entry.name):
                        # A process of this number may live on another machine, too: there its
                        # file may vanish, and `make_root` writes it again.
                        if old or not is_there(int(of[1])):
                            disk.unlink(entry.path)

    def existing(self, record: Mapping[str, Any], files: Mapping[str, Any]) -> Run | None:
        """The stored run of this folder and identity; None if there is no readable one.

        A different run that never trained is removed: it came from a file that was corrected since.

        Raises:
            StoreError: a different run has this folder.
        """
        path = self.path_of(str(record["folder"]))
        if not holds_a_run(path):
            return None
        run = self._entry(str(record["folder"]), path)
        if isinstance(run, BrokenRun):
            return None  # `create` reports the reason; other runs of the file are still trained
        if run.record["identity"] == record["identity"]:
            return run
        if not run.checkpoints() and not run.metrics():
            self.remove(run)
            return None
        return self._existing(path, record, files)

    def _existing(self, path: Path, record: Mapping[str, Any], files: Mapping[str, Any]) -> Run:
        run = Run.at(path, str(record["folder"]))
        if run.record["identity"] != record["identity"]:
            raise StoreError(
                f"{self.root / run.folder} holds a different run: "
                f"{_difference(run, record, files)}",
                hint="use another experiment_name to keep both, or --restart to replace it; "
                f"`load: {run.folder}` continues from its weights under the other name",
            )
        return run

    def _refuse_foreign(self, path: Path, files: Mapping[str, Any]) -> None:
        try:
            names = [entry.name for entry in os.scandir(path)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, path) from error
        ours = _UNFINISHED | set(files)
        foreign = [name for name in names if name not in ours and not name.startswith(".")]
        if foreign and holds_a_run(path):
            return  # another process made it meanwhile
        if foreign:
            raise StoreError(
                f"{path} exists and is not a run: it holds {', '.join(sorted(foreign)[:5])}",
                hint="choose another experiment_name, or move that folder away",
            )
        inside = _look(path, "")[0]
        if inside:
            raise StoreError(
                f"{path} holds other runs: {', '.join(inside[:5])}",
                hint="choose an experiment_name that is not the beginning of another run's name",
            )

    def remove(self, run: Run, *, checkpoints_only: bool = False) -> None:
        """Delete a run with all its files, or only its stored states.

        Works for broken runs, too.

        Raises:
            StoreError: it is being trained, is no run, or the system refuses.
        """
        if isinstance(run, BrokenRun) and not holds_a_run(run.path):
            raise StoreError(f"{run.path} is not a run; nothing was removed") from run.problem
        if checkpoints_only:
            with run.lock():
                for state in run.checkpoints():
                    delete_checkpoint(state)
            return
        doomed = self.root / f".removed-{secrets.token_hex(8)}"
        with run.held_for_removal():
            try:
                # One rename, so that a crash never leaves half a run under its name.
                disk.replace(run.path, doomed)
            except OSError as error:
                raise explain(error, run.path, "remove") from error
        remove_tree(doomed)
        for parent in run.path.parents:
            if parent == self.root:
                break
            try:
                disk.rmdir(parent)
            except OSError:
                break

    # --- finding

    def scan(self) -> Listing:
        """All runs of the store in natural order, and those that could not be read.

        Reads only the `run.json` of each; statuses are read at the first access.
        """
        names, unreadable = _look(self.root, "")
        found = [self._entry(folder) for folder in sorted(names, key=natural)]
        broken = [run for run in found if isinstance(run, BrokenRun)]
        broken += [BrokenRun(self.root / name, name, error) for name, error in unreadable.items()]
        return Listing([run for run in found if not isinstance(run, BrokenRun)], broken)

    def _entry(self, folder: str, path: Path | None = None) -> Run:
        """The run called `folder`, or a stand-in with the reason why it cannot be read."""
        path = self.root / folder if path is None else path
        try:
            return Run.at(path, folder)
        except StoreError as error:
            return BrokenRun(path, folder, error)

    def list(self) -> Runs:
        """All readable runs of the store, in natural order (`x2` before `x10`)."""
        return self.scan().runs

    def stored(self, folder: str) -> Run | None:
        """The run with exactly this name; None if the store has none. Looks at no other run.

        Raises:
            StoreError: it cannot be read.
        """
        path = self.root / folder
        return Run.at(path, folder) if holds_a_run(path) else None

    def open(self, folder: str | Path) -> Run:
        """Opens a run by its name in the store, a path, or an unambiguous part.

        A part is the name's end (`ds-mnist_lr-0.001`) or a pattern (`*mnist*0.001`).

        Raises:
            StoreError: none or several match; the message has the most similar names.
        """
        text = str(folder)
        exact = self._exact(text)
        if exact is not None:
            return exact
        found = self._matching(text)
        if len(found) == 1:
            return Run.at(self.root / found[0], found[0])
        if found:
            raise StoreError(
                f"{text!r} could be {len(found)} runs: {', '.join(found[:6])}"
                + (", ..." if len(found) > 6 else ""),
                hint="type more of the name",
            )
        raise self._unknown(text)

    def select(self, patterns: Iterable[str | Path]) -> Runs:
        """The runs that match any pattern, each once, in the order of the patterns.

        A pattern is a name, a path, a name's end, a glob, or a folder of runs (`vae`). Without
        patterns, all runs are returned. An unreadable run is returned as a `BrokenRun`.

        Raises:
            StoreError: a pattern matches nothing.
        """
        wanted = [str(pattern) for pattern in patterns]
        if not wanted:
            return self.scan().every
        chosen: dict[Path, Run] = {}
        for text in wanted:
            place = self._exact_place(text)
            if place is not None:
                path, folder = place
                chosen.setdefault(real(path), self._entry(folder or path.name, path))
                continue
            found = self._matching(text)
            if not found:
                raise self._unknown(text)
            for name in found:
                run = self._entry(name)
                chosen.setdefault(real(run.path), run)
        return [*chosen.values()]

    def resolve(self, reference: str) -> tuple[Run, Checkpoint]:
        """The run and stored state for `RUN` or `RUN@images`.

        Args:
            reference: `RUN` (its best state, else its latest), `RUN@best`, `RUN@latest` or
                `RUN@100_000`; RUN as in `open`.

        Raises:
            StoreError: there is no such run or state; the message lists the existing states.
        """
        name, _, moment = reference.rpartition("@")
        if not name or "/" in moment or self._exact(reference) is not None:
            name, moment = reference, ""
        run = self.open(name)
        states = {entry.name: entry for entry in run.checkpoints()}
        digits = re.sub("[_,]", "", moment)
        wanted = [moment] if moment else ["best", "latest"]
        if digits.isdecimal():
            count = int(digits)
            kept = [key for key in ("latest", "best") if key in states]
            wanted = [f"images-{count:09d}", *(k for k in kept if states[k].images == count)]
        for key in wanted:
            if key in states:
                return run, states[key]
        have = ", ".join(f"{run.folder}@{_moment(name)}" for name in states) or "none"
        raise StoreError(
            f"run {run.folder} has no stored state {moment or 'yet'}; there are: {have}",
            hint="the best state is stored at validations, and this run has had none"
            if moment == "best"
            else "keep_checkpoints: all (in the experiment) keeps every one",
        )

    def _exact(self, text: str) -> Run | None:
        place = self._exact_place(text)
        return None if place is None else Run.at(*place)

    def _exact_place(self, text: str) -> tuple[Path, str | None] | None:
        """Path and name of the run with exactly this name or path; outside the store no name."""
        for path in (self.root / text, Path(text)):
            with contextlib.suppress(OSError, ValueError):
                if text and holds_a_run(path):
                    inside = real(path)
                    root = real(self.root)
                    name = inside.relative_to(root).as_posix() if root in inside.parents else None
                    return path, name
        return None

    def _matching(self, text: str) -> Names:
        names = sorted(_look(self.root, "")[0], key=natural)
        text = text.rstrip("/")
        with contextlib.suppress(OSError, ValueError):
            relative = real(text).relative_to(real(self.root)).as_posix()
            inside = names if relative == "." else _beneath(names, relative)
            if inside:
                return inside
        if any(sign in text for sign in "*?["):
            return [name for name in names if fnmatch.fnmatchcase(name, text)] or [
                name for name in names if fnmatch.fnmatchcase(name, f"*{text}")
            ]
        return (
            _beneath(names, text)
            or [name for name in names if name.endswith(f"/{text}")]
            or [name for name in names if name.endswith(text)]
        )

    def _unknown(self, text: str) -> StoreError:
        found, unreadable = _look(self.root, "")
        for folder, error in unreadable.items():
            if text.rstrip("/") == folder or text.startswith(f"{folder}/"):
                return error
        names = sorted(found, key=natural)
        with contextlib.suppress(OSError, ValueError, StoreError):
            if Path(text).is_dir() and (count := len(_look(Path(text), "")[0])):
                return StoreError(
                    f"there is no run {text!r} in {self.root}: it is a folder of "
                    f"{count} run{'s' if count != 1 else ''}",
                    hint=f"add --runs {shlex.quote(text)}",
                )
        if not names:
            return StoreError(
                f"there is no run {text!r}: {self.root} holds no runs",
                hint="train some with: aelab run FILE",
            )
        ends = {name.rpartition("/")[2]: name for name in names}
        near = did_you_mean(text, names) or did_you_mean(text, ends)
        return StoreError(
            f"there is no run {text!r} in {self.root}{near}",
            hint="aelab ls lists all of them",
        )


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that compares numbers in a name as numbers: `x2` before `x10`."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in pieces if p]


def _look(folder: Path, prefix: str) -> tuple[list[str], dict[str, StoreError]]:
    """Names of all runs under `folder`, and errors of unreadable folders by name.

    Does not enter runs, links or hidden folders, nor more than `DEEPEST` levels.
    """
    found: list[str] = []
    unreadable: dict[str, StoreError] = {}
    waiting = [(folder, prefix, 0)]
    while waiting:
        place, above, depth = waiting.pop()
        try:
            with os.scandir(place) as opened:
                entries = list(opened)
        except FileNotFoundError:
            continue
        except OSError as error:
            if place == folder:
                raise explain(error, folder, "read") from error
            unreadable[above.rstrip("/")] = explain(error, place, "read")
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in FOLDERS_OF_SYSTEMS:
                continue
            if not is_folder(entry):
                continue
            name = f"{above}{entry.name}"
            if holds_a_run(Path(entry.path)):
                found.append(name)
            elif depth < DEEPEST:
                waiting.append((Path(entry.path), f"{name}/", depth + 1))
    return found, unreadable


def _beneath(names: list[str], folder: str) -> list[str]:
    return [name for name in names if name == folder or name.startswith(f"{folder}/")]


def _moment(checkpoint_name: str) -> str:
    return str(int(checkpoint_name[7:])) if checkpoint_name[:7] == "images-" else checkpoint_name


def _write_any(run: Run, name: str, content: Any) -> None:
    if isinstance(content, str):
        run.write_bytes(name, content.encode(errors="surrogateescape"))
    elif isinstance(content, bytes):
        run.write_bytes(name, content)
    else:
        run.write_json(name, content)


def _difference(run: Run, record: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """A short text on the differences between the stored run and the one with the same folder."""
    found = [
        f"{setting_of(key)} was {run.record[key]!r} and is now {record[key]!r}"
        for key in ("experiment", "seed", "trial", "max_inputs")
        if key in run.record and key in record and run.record[key] != record[key]
    ]
    if (found and not found[0].startswith("experiment")) or len(found) > 1:
        return ", ".join(found)
    old = run.read_text("resolved.yml").splitlines()
    new = str(files.get("resolved.yml", "")).splitlines()
    for number, (before, after) in enumerate(zip(old, new, strict=False), 1):
        if _with_new_name(before) != _with_new_name(after):
            found.append(f"line {number} was `{before.strip()}` and is now `{after.strip()}`")
            break
    return ", ".join(found) or "its settings were others"


def _with_new_name(line: str) -> str:
    """A line of a file with an old name of a setting replaced by the present one."""
    key, colon, value = line.partition(":")
    return f"{setting_of(key)}{colon}{value}"

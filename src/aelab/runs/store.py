"""The runs folder: makes, finds and lists runs. Two different runs never share a directory."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aelab.errors import StoreError, did_you_mean
from aelab.runs.atomic import explain, make_folder, write_bytes, write_json
from aelab.runs.checkpoints import Checkpoint, delete_checkpoint
from aelab.runs.record import FORMAT, Run

#: What a run directory may hold before it is complete (a process may die while making one).
_UNFINISHED = {"lock", "lock.json", "log.txt", "status.json", "checkpoints", "images"}


Names = list[str]
Runs = list[Run]


@dataclass(frozen=True)
class Listing:
    """What a store holds: its readable runs, and one error for each directory that is not."""

    runs: list[Run]
    problems: list[StoreError]


class Store:
    """A folder of runs.

    Args:
        root: the folder; made with the first run.
    """

    def __init__(self, root: Path | str = "runs") -> None:
        self.root = Path(root)

    # --- making

    def path_of(self, folder: str) -> Path:
        """Where the run called `folder` is or would be.

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
        root = self.root.resolve()
        path = root.joinpath(*parts)
        try:
            leads_elsewhere = path.resolve() != path
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
            if os.path.exists(parent / "run.json"):
                raise StoreError(
                    f"{self.root / folder} would lie inside the run {parent.relative_to(root)}",
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
        """Make the directory of a run, or open it where the same run exists already.

        Args:
            record: the content of `run.json`; `folder` and `identity` are required.
            files: further files by name, as text, bytes, or a value for JSON: `experiment.yml`,
                `resolved.yml`, `calls.json`, `environment.json`.
            restart: remove what is there, whatever its identity, and begin afresh.

        Returns:
            The run; `is_new` tells whether it was made now.

        Raises:
            StoreError: if another run has this folder, or the system refuses.
        """
        folder, files = PurePosixPath(str(record["folder"])).as_posix(), files or {}
        path = self.path_of(folder)
        if restart and os.path.exists(path / "run.json"):
            self.remove(Run(path, folder, dict(record)))
        elif os.path.exists(path / "run.json"):
            return self._existing(path, record, files)
        self._refuse_foreign(path, files)
        make_folder(path)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            write_bytes(ignore, b"*\n")
        run = Run(path, folder, {**record, "format": FORMAT}, is_new=True)
        with run.lock(timeout_seconds=10):  # others hold it only while they make it
            if os.path.exists(path / "run.json"):  # somebody else was quicker
                return self._existing(path, record, files)
            for name, content in files.items():
                _write_any(run, name, content)
            write_json(path / "run.json", run.record)  # last: its presence makes it a run
        return run

    def existing(self, record: Mapping[str, Any], files: Mapping[str, Any]) -> Run | None:
        """The stored run of this folder and identity; None where there is none.

        A different run that never trained is removed: a file's mistake, mended since.

        Raises:
            StoreError: a different run has this folder.
        """
        path = self.path_of(str(record["folder"]))
        if not os.path.exists(path / "run.json"):
            return None
        run = Run.at(path, str(record["folder"]))
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
                f"`load: {run.folder}` goes on from its weights under the other name",
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
        if foreign:
            raise StoreError(
                f"{path} exists and is not a run: it holds {', '.join(sorted(foreign)[:5])}",
                hint="choose another experiment_name, or move that folder away",
            )

    def remove(self, run: Run, *, checkpoints_only: bool = False) -> None:
        """Delete a run with everything in it, or only its stored states.

        Raises:
            StoreError: if it is being trained, or the system refuses.
        """
        if checkpoints_only:
            with run.lock():
                for state in run.checkpoints():
                    delete_checkpoint(state)
            return
        doomed = self.root / f".removed-{secrets.token_hex(8)}"
        with run.lock():
            try:
                # One rename, so that a crash never leaves half a run under its name.
                os.replace(run.path, doomed)
            except OSError as error:
                raise explain(error, run.path, "remove") from error
        shutil.rmtree(doomed, ignore_errors=True)
        for parent in run.path.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:
                break

    # --- finding

    def scan(self) -> Listing:
        """Every run of the store in natural order, and what could not be read.

        Reads only `run.json` of each; statuses are read when asked for.
        """
        runs, problems = [], []
        for folder in sorted(_run_folders(self.root, ""), key=natural):
            try:
                runs.append(Run.at(self.root / folder, folder))
            except StoreError as error:
                problems.append(error)
        return Listing(runs, problems)

    def list(self) -> Runs:
        """Every readable run of the store, in natural order (`x2` before `x10`)."""
        return self.scan().runs

    def open(self, folder: str | Path) -> Run:
        """The run called `folder`: its name in the store, a path, or an unmistakable part.

        A part is the name's end (`ds-mnist_lr-0.001`) or a pattern (`*mnist*0.001`).

        Raises:
            StoreError: if there is none, or several; the message has the nearest names.
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
                hint="give more of the name",
            )
        raise self._unknown(text)

    def select(self, patterns: Iterable[str | Path]) -> Runs:
        """The runs that any pattern means, each once, in the order of the patterns.

        A pattern is a name, a path, a name's end, a glob, or a folder of runs (`vae`). No pattern
        at all means every run.

        Raises:
            StoreError: if a pattern fits nothing.
        """
        wanted = [str(pattern) for pattern in patterns]
        if not wanted:
            return self.scan().runs
        chosen: dict[Path, Run] = {}
        for text in wanted:
            exact = self._exact(text)
            if exact is not None:
                chosen.setdefault(exact.path.resolve(), exact)
                continue
            found = self._matching(text)
            if not found:
                raise self._unknown(text)
            for name in found:
                run = Run.at(self.root / name, name)
                chosen.setdefault(run.path.resolve(), run)
        return [*chosen.values()]

    def resolve(self, reference: str) -> tuple[Run, Checkpoint]:
        """The run and stored state meant by `RUN` or `RUN@images`.

        Args:
            reference: `RUN` (its best state, else its latest), `RUN@best`, `RUN@latest` or
                `RUN@100_000`; RUN as in `open`.

        Raises:
            StoreError: if there is no such run or state; the message lists the states there are.
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
            hint="the best state is stored at validations, of which this run has had none"
            if moment == "best"
            else "keep_checkpoints: all (in the experiment) keeps every one",
        )

    def _exact(self, text: str) -> Run | None:
        for path, folder in ((self.root / text, None), (Path(text), None)):
            with contextlib.suppress(OSError, ValueError):
                if text and os.path.isfile(path / "run.json"):
                    inside = path.resolve()
                    root = self.root.resolve()
                    name = inside.relative_to(root).as_posix() if root in inside.parents else folder
                    return Run.at(path, name)
        return None

    def _matching(self, text: str) -> Names:
        names = sorted(_run_folders(self.root, ""), key=natural)
        text = text.rstrip("/")
        with contextlib.suppress(OSError, ValueError):
            relative = Path(text).resolve().relative_to(self.root.resolve()).as_posix()
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
        names = sorted(_run_folders(self.root, ""), key=natural)
        with contextlib.suppress(OSError, ValueError):
            if Path(text).is_dir() and (count := len(_run_folders(Path(text), ""))):
                return StoreError(
                    f"there is no run {text!r} in {self.root}: it is a folder of "
                    f"{count} run{'s' if count != 1 else ''}",
                    hint=f"add --runs {shlex.quote(text)}",
                )
        if not names:
            return StoreError(
                f"there is no run {text!r}: {self.root} holds no runs",
                hint="aelab run FILE makes some",
            )
        ends = {name.rpartition("/")[2]: name for name in names}
        near = did_you_mean(text, names) or did_you_mean(text, ends)
        return StoreError(
            f"there is no run {text!r} in {self.root}{near}",
            hint="aelab ls lists all of them",
        )


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key by which numbers in a name count as numbers: `x2` before `x10`."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in pieces if p]


def _run_folders(folder: Path, prefix: str) -> list[str]:
    """Names of all runs under `folder`; does not look into runs, links or hidden folders."""
    found: list[str] = []
    try:
        entries = [*os.scandir(folder)]
    except FileNotFoundError:
        return found
    except OSError as error:
        raise explain(error, folder, "read") from error
    for entry in entries:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        if os.path.exists(os.path.join(entry.path, "run.json")):
            found.append(prefix + entry.name)
        else:
            found += _run_folders(Path(entry.path), f"{prefix}{entry.name}/")
    return found


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
    """In a few words, what distinguishes the stored run from the one that wants its place."""
    found = [
        f"{key} was {run.record[key]!r} and is now {record[key]!r}"
        for key in ("experiment", "seed", "trial", "max_inputs")
        if key in run.record and key in record and run.record[key] != record[key]
    ]
    if (found and not found[0].startswith("experiment")) or len(found) > 1:
        return ", ".join(found)
    old = run.read_text("resolved.yml").splitlines()
    new = str(files.get("resolved.yml", "")).splitlines()
    for number, (before, after) in enumerate(zip(old, new, strict=False), 1):
        if before != after:
            found.append(f"line {number} was `{before.strip()}` and is now `{after.strip()}`")
            break
    return ", ".join(found) or "its settings were others"

"""A writer dies at every system call that changes the disk, in turn; what it left is continued.

The numbered points are the calls of `aelab.runs.disk`, in the order in which a run makes them.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.assembly.stored_state import furthest_intact_state
from aelab.errors import StoreError
from aelab.runs import disk
from aelab.runs.record import Run
from aelab.runs.store import Store

HOW = ("before", "half", "after", "power")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut takes is played here; waiting for the true disk would take minutes."""
    monkeypatch.setattr(disk, "fsync", lambda descriptor: None)


class Died(BaseException):
    """The process is gone: nothing that would catch an error catches this."""


@dataclass
class Dying:
    """The calls of `disk`, of which one is the last.

    Args:
        root: the runs folder.
        point: the number of the call at which the process dies, from 0.
        how: `before` it, `after` it, with `half` of what it writes, or `power`: after it the
            machine loses its power, and what was not synced is gone.

    Attributes:
        calls: their names, in order.
    """

    root: Path
    point: int | None = None
    how: str = "before"
    calls: list[str] = field(default_factory=list)
    is_dead: bool = False
    #: What the disk has for certain: bytes by inode, and names by folder.
    content: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, dict[str, int]] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is counted, and perhaps the last."""

        def made(*arguments: Any, **keywords: Any) -> Any:
            if self.is_dead:
                raise Died
            if name == "open" and not arguments[1] & os.O_CREAT:
                return self._opened(real, *arguments)
            number = len(self.calls)
            self.calls.append(name)
            if number == self.point and self.how == "before":
                self.is_dead = True
                raise Died
            if number == self.point and self.how == "half" and name == "write":
                descriptor, data = arguments
                real(descriptor, bytes(data)[: len(data) // 2])
                self.is_dead = True
                raise Died
            result = (
                self._opened(real, *arguments) if name == "open" else real(*arguments, **keywords)
            )
            if name == "fsync":
                self._synced(arguments[0])
            if number == self.point:
                self.is_dead = True
                raise Died
            return result

        return made

    def _opened(self, real: Callable[..., Any], path: Any, flags: int, *more: Any) -> int:
        is_new = not os.path.lexists(path)
        descriptor: int = real(path, flags, *more)
        number = os.fstat(descriptor).st_ino
        if is_new:
            self.content.pop(number, None)  # numbers are used again
        if os.path.isdir(path):
            self.paths[number] = os.path.abspath(path)
        return descriptor

    def _synced(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        if facts.st_ino in self.paths and os.path.isdir(self.paths[facts.st_ino]):
            folder = self.paths[facts.st_ino]
            with os.scandir(folder) as entries:
                self.names[folder] = {entry.name: entry.inode() for entry in entries}
            return
        place = Path(f"/proc/self/fd/{descriptor}")
        self.content[facts.st_ino] = place.read_bytes()

    def lose_power(self) -> None:
        """Leaves of the runs folder what was synced: files that were not are empty or gone."""
        kept: dict[str, bytes | None] = {}

        def walk(folder: str) -> None:
            for name, number in self.names.get(folder, {}).items():
                path = os.path.join(folder, name)
                if path in self.names or number in self.paths:
                    kept[path] = None
                    walk(path)
                else:
                    kept[path] = self.content.get(number, b"")

        walk(os.path.abspath(self.root))
        shutil.rmtree(self.root)
        self.root.mkdir()
        for path, data in kept.items():
            if data is None:
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).write_bytes(data)


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, root: Path, **options: Any) -> Iterator[Dying]:
    """Inside of `with`, a process that dies at a point."""
    process = Dying(root, **options)
    with monkeypatch.context() as patch:
        for name in disk.CALLS:
            patch.setattr(disk, name, process.call(name, getattr(disk, name)))
        with contextlib.suppress(Died):
            yield process
    if process.is_dead and process.how == "power":
        process.lose_power()
    if process.is_dead and root.exists():
        for entry in os.scandir(root):  # half an hour later, or leftovers could be another's work
            os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - 1800))


def write_a_run(root: Path) -> None:
    """What a session makes of a run, without a model: every kind of file and of change.

    It validates at every second moment, goes back once from 6 to 4, and keeps some states.
    """
    record = {"folder": "a/b", "identity": "1", "name": "a/b", "matrix": {}}
    run = Store(root).create(record, {"experiment.yml": "a: 1", "environment.json": {"b": 2}})
    with run.lock():
        if run.state == "finished":
            return
        run.set_status("running", error=None)
        run.update_record(parameters={"model": 3})
        if not (run.path / "calls.json").exists():
            run.write_json("calls.json", {"calls": []})
        found = furthest_intact_state(run)
        if found is None:
            run.truncate_metrics(0)
            run.write_bytes("images/train-originals.png", b"originals")
            numbers: dict[str, Any] = {"images": 0, "best_loss": None, "best_images": None}
        else:
            checkpoint, _, numbers = found
            run.rewind(checkpoint)
            is_best = numbers["best_images"] == numbers["images"]
            run.complete_checkpoints(checkpoint, best=is_best, keep=2)
        numbers = dict(numbers)
        while numbers["images"] < 8:
            _one_moment(run, numbers)
        run.save_checkpoint(8, _tensors(numbers), numbers, keep=2)
        run.log("finished")
        run.set_status("finished", reason="max_images", images=8)


def _one_moment(run: Run, numbers: dict[str, Any]) -> None:
    images = numbers["images"] = numbers["images"] + 1
    factor = 0.5 if numbers.get("gone_back") else 1.0
    run.append({"split": "train", "images": images, "loss": factor / images})
    run.set_status(images=images, epoch=0)
    if images == 6 and not numbers.get("gone_back"):
        offset = run.offset_at(4)
        run.write_json("incident.json", {"format": 1, "incidents": [{"cause": "x"}]})
        run.write_bytes("incident.html", b"<html>")
        run.update_record(findings=[{"level": "note", "code": "numbers-ended"}])
        numbers |= {"images": 4, "gone_back": True}
        run.save_checkpoint(4, _tensors(numbers), numbers, keep=2, offset=offset)
        run.truncate_metrics(offset)
        run.set_status(images=4, last={"images": 4, "loss": 1 / 4})
        return
    if images % 2 == 0:
        loss = (1 if images != 4 else 1.5) / images
        run.append({"split": "validation", "images": images, "loss": loss})
        best = numbers["best_loss"] is None or loss < numbers["best_loss"]
        if best:
            numbers |= {"best_loss": loss, "best_images": images}
        changes: dict[str, Any] = {"last": {"images": images, "loss": loss}}
        changes |= {"best": {"images": images, "loss": loss}} if best else {}
        run.set_status(**changes)
        run.write_bytes(f"images/train-{images:09d}.png", b"%d" % images)
        run.save_checkpoint(images, _tensors(numbers), numbers, best=best, keep=2)


def _tensors(numbers: dict[str, Any]) -> bytes:
    return json.dumps(numbers, sort_keys=True).encode() * 40


#: Entries that tell the time, and files that do.
CLOCKS = {
    "updated",
    "seconds",
    "cpu_seconds",
    "wall_seconds",
    "images_per_second",
    "sum",
    "command",
}
TIMED = {"log.txt", "environment.json", "place.json"}


def contents(root: Path) -> dict[str, Any]:
    """Every file below the runs folder, without what tells the time."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.name in TIMED:
            found[name] = "timed"
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_bytes()))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [_timeless(row) for row in rows]
        else:
            found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _timeless(v) for k, v in value.items() if k not in CLOCKS}
        if {"images", "metrics_offset", "numbers"} <= kept.keys():
            kept["metrics_offset"] = 0  # rows have seconds, whose digits differ
        return kept
    if isinstance(value, list):
        return [_timeless(item) for item in value]
    return value


def points(monkeypatch: pytest.MonkeyPatch, root: Path, work: Callable[[Path], None]) -> list[str]:
    """The calls of an uninterrupted run."""
    with dying(monkeypatch, root) as process:
        work(root)
    return process.calls


@pytest.mark.parametrize("how", HOW)
def test_a_death_at_some_points_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Some, others for each kind of death; the slow test takes all."""
    assert _deaths(tmp_path, monkeypatch, how, slice(HOW.index(how), None, 29)) > 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", HOW)
def test_a_death_at_any_point_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    # A file is written by one call, so that fewer points can be half done.
    least = 40 if how == "half" else 300
    assert _deaths(tmp_path, monkeypatch, how, slice(None)) > least


def _deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, chosen: slice) -> int:
    """How many points were tried, of those where this death is possible."""
    calls = points(monkeypatch, tmp_path / "whole", write_a_run)
    assert len(calls) > 300 and set(calls) == set(disk.CALLS) - {"rename", "rmdir"}
    whole = contents(tmp_path / "whole")
    possible = [n for n, name in enumerate(calls) if how != "half" or name == "write"]
    for point in possible[chosen]:
        root = tmp_path / f"{how}-{point}"
        with dying(monkeypatch, root, point=point, how=how):
            write_a_run(root)
        write_a_run(root)
        assert contents(root) == whole, (point, calls[point])
        shutil.rmtree(root)
    return len(possible[chosen])


def test_two_deaths_are_no_worse_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one strikes while the first one is tidied up."""
    count = len(points(monkeypatch, tmp_path / "whole", write_a_run))
    whole = contents(tmp_path / "whole")
    for first in range(7, count, 97):
        for second in range(3, 60, 19):
            root = tmp_path / f"{first}-{second}"
            for point in (first, second):
                with dying(monkeypatch, root, point=point, how="power"):
                    write_a_run(root)
            write_a_run(root)
            assert contents(root) == whole, (first, second)
            shutil.rmtree(root)


def test_nothing_in_the_store_changes_the_disk_but_through_the_points() -> None:
    """`touch` and `rmtree` of a lease and the times of files hold nothing that could be lost."""
    allowed = {"os.open", "os.utime", "os.chmod"}
    changing = {*(f"os.{name}" for name in disk.CALLS), "os.ftruncate", "os.remove", "os.symlink"}
    methods = {"unlink", "rmdir", "mkdir", "write_text", "rename", "replace", "symlink_to"}
    for path in Path(disk.__file__).parent.glob("*.py"):
        if path.name == "disk.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called = ast.unparse(node.func)
            if called in allowed:
                continue
            assert called not in changing, f"{path.name}:{node.lineno}: {called}"
            if node.func.attr in methods and not called.startswith("disk."):
                # `str.replace` and `dataclasses.replace` are no files'.
                is_text = node.func.attr == "replace" and len(node.args) == 2
                assert is_text, f"{path.name}:{node.lineno}: {called}"


TEXT = """
experiment_name: n
train_set: noise_dataset((1, 8, 8), size=48, seed=1)
validation_set: noise_dataset((1, 8, 8), size=16, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
batch_size: 8
learnrate: 1e+30
optimizer: Adam
max_images: 64
validate_every_images: 16
checkpoint_every_images: 24
log_every_images: 16
keep_checkpoints: all
on_nan: {rollback: {lower_lr: 1e-33}}
"""


@pytest.fixture
def train(tmp_path: Path) -> Callable[[Path], None]:
    """Trains a run that goes back once."""
    file = tmp_path / "n.yml"
    file.write_text(TEXT)

    def trained(root: Path) -> None:
        list(lab.run(file, runs=root, device="cpu"))

    return trained


def _real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Callable[[Path], None], every: int
) -> int:
    calls = points(monkeypatch, tmp_path / "whole", train)
    whole = contents(tmp_path / "whole")
    assert "n/incident.json" in whole and whole["n/status.json"]["state"] == "finished"
    tried = 0
    for point in range(every // 2, len(calls), every):
        how = HOW[tried % len(HOW)] if every > 1 else "power"
        root = tmp_path / f"dies-{point}"
        with dying(monkeypatch, root, point=point, how=how):
            train(root)
        train(root)
        assert contents(root) == whole, (point, how, calls[point])
        assert "finished at 64 images" in (root / "n/log.txt").read_text()
        shutil.rmtree(root)
        tried += 1
    return tried


def test_a_trained_run_that_dies_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Callable[[Path], None]
) -> None:
    assert _real(tmp_path, monkeypatch, train, every=97) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_trained_run_that_dies_at_any_point_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Callable[[Path], None]
) -> None:
    assert _real(tmp_path, monkeypatch, train, every=1) > 300


def test_a_clock_that_runs_backwards_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_a_run(tmp_path / "whole")
    moment = [2e9]

    def earlier() -> float:
        moment[0] -= 3600
        return moment[0]

    monkeypatch.setattr("time.time", earlier)
    with dying(monkeypatch, tmp_path / "back", point=200, how="after"):
        write_a_run(tmp_path / "back")
    write_a_run(tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "whole")


@dataclass
class Refusing:
    """A disk that is full, or not ours any more, after so many calls."""

    point: int
    number: int
    seen: int = 0

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is counted, and perhaps refused."""

        def made(*arguments: Any, **keywords: Any) -> Any:
            self.seen += 1
            if self.seen > self.point and name in ("write", "mkdir", "link", "replace"):
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments, **keywords)

        return made


@pytest.mark.parametrize("number", [28, 13], ids=["full disk", "permission"])
def test_a_refusal_at_any_point_is_told_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """From a point on the system refuses everything but removing; then it allows it again."""
    calls = points(monkeypatch, tmp_path / "whole", write_a_run)
    whole = contents(tmp_path / "whole")
    for point in range(0, len(calls), 23):
        root, seen = tmp_path / f"refused-{point}", [0]

        def refusing(
            name: str, real: Callable[..., Any], seen: list[int] = seen, point: int = point
        ) -> Any:
            def call(*arguments: Any, **keywords: Any) -> Any:
                seen[0] += 1
                if seen[0] > point and name in ("write", "mkdir", "link", "replace"):
                    raise OSError(number, os.strerror(number))
                return real(*arguments, **keywords)

            return call

        with monkeypatch.context() as patch:
            for name in disk.CALLS:
                patch.setattr(disk, name, refusing(name, getattr(disk, name)))
            try:
                write_a_run(root)
            except StoreError as error:
                assert str(error)
            else:
                assert point > len(calls) - 12
        write_a_run(root)
        assert contents(root) == whole, (point, calls[point])
        shutil.rmtree(root)


SERVER = """
import os, sys
import torch
from aelab import lab
import aelab.execute.session

for line in sys.stdin:
    word, *rest = line.split()
    if word == "start":
        child = os.fork()
        if child == 0:
            list(lab.run(rest[0], runs=rest[1], device="cpu", threads=1))
            os._exit(0)
        print(child, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(rest[0]), 0)[1]), flush=True)
"""


class Trainer:
    """Trains in processes of their own, which start at once: their parent has loaded torch."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _asked(self, *words: object) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(" ".join(map(str, words)) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(self, file: Path, root: Path) -> int:
        """Begins to train; returns the number of the process."""
        return self._asked("start", file, root)

    def wait(self, process: int) -> int:
        """The exit code of a process, once it has ended; below 0 for the number of a signal."""
        return self._asked("wait", process)

    def train(self, file: Path, root: Path) -> None:
        """Trains to the end."""
        assert self.wait(self.start(file, root)) == 0

    def close(self) -> None:
        """Ends the parent."""
        self._server.kill()
        self._server.communicate()


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "n.yml"
    path.write_text(TEXT)
    return path


def _killed(tmp_path: Path, file: Path, trainer: Trainer, kills: int, seed: int) -> list[int]:
    """Trains in processes that get SIGKILL at random instants; returns their exit codes."""
    trainer.train(file, tmp_path / "warm")
    started = time.monotonic()
    trainer.train(file, tmp_path / "whole")
    seconds = time.monotonic() - started
    whole, moments, codes = contents(tmp_path / "whole"), random.Random(seed), []
    while len(codes) < kills:
        root = tmp_path / f"killed-{len(codes)}"
        for _ in range(min(3, kills - len(codes))):
            process = trainer.start(file, root)
            time.sleep(moments.uniform(0.0, seconds))
            os.kill(process, signal.SIGKILL)  # it is there until it is waited for
            codes.append(trainer.wait(process))
        trainer.train(file, root)
        assert contents(root) == whole, f"after {len(codes)} kills"
        shutil.rmtree(root)
    return codes


def test_three_real_kills_change_nothing(tmp_path: Path, file: Path, trainer: Trainer) -> None:
    codes = _killed(tmp_path, file, trainer, kills=3, seed=1)
    assert set(codes) <= {0, -signal.SIGKILL} and -signal.SIGKILL in codes


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_real_kills_change_nothing(tmp_path: Path, file: Path, trainer: Trainer) -> None:
    codes = _killed(tmp_path, file, trainer, kills=100, seed=2)
    assert codes.count(-signal.SIGKILL) > 50


def test_two_processes_on_one_store_train_each_run_once(
    tmp_path: Path, file: Path, trainer: Trainer
) -> None:
    """The second one finds the run held or finished; what is left is that of one process."""
    trainer.train(file, tmp_path / "whole")
    both = [trainer.start(file, tmp_path / "shared") for _ in range(2)]
    assert [trainer.wait(process) for process in both] == [0, 0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
    log = (tmp_path / "shared/n/log.txt").read_text()
    assert log.count("begins at 0 images") == 1 and "continues at" not in log

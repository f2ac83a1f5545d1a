"""Training on a Ray cluster: by a stand-in for Ray, and with -m slow on a real cluster of nodes.

The stand-in trains in this process, one run after the other, whenever it is waited for. What it
cannot show, workers that are killed, several machines and Ray itself, the slow test shows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aelab import lab
from aelab.cli.options import with_address
from aelab.errors import MissingExtra, UserError
from aelab.execute import events as ev
from aelab.execute import session
from aelab.execute.engines import ray as engine
from aelab.execute.engines.ray import Cluster
from aelab.execute.stop import StopRequest
from aelab.runs.store import Store


class Lost(BaseException):
    """Nothing of aelab's catches it, as nothing catches the end of a machine."""


class RayError(Exception):
    """As Ray's."""


class OutOfMemoryError(RayError):
    """As Ray's."""


@dataclass(eq=False)
class Task:
    """What was submitted, and what became of it."""

    work: Callable[[], Any]
    error: RayError | None = None
    value: Any = None


class FakeRay(ModuleType):
    """Enough of Ray for one command.

    Attributes:
        fates: error of each of the next tasks; None: it goes well.
        submitted: options of every task that was submitted.
    """

    def __init__(self) -> None:
        super().__init__("ray")
        self.fates: list[type[RayError] | None] = []
        self.submitted: list[dict[str, Any]] = []
        self.begun: dict[str, Any] = {}
        self.exceptions = SimpleNamespace(RayError=RayError, OutOfMemoryError=OutOfMemoryError)

    def is_initialized(self) -> bool:
        return bool(self.begun)

    def init(self, **options: Any) -> None:
        self.begun = {"done": True, **options}

    def shutdown(self) -> None:
        self.begun = {}

    def nodes(self) -> list[dict[str, Any]]:
        has = {"CPU": 4.0, "GPU": 1.0, "memory": 2.0**33, "tpu": 4.0}
        return [{"Alive": True, "NodeID": str(i), "Resources": has} for i in range(2)]

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        def with_options(function: Any, **options: Any) -> Any:
            def submit(*given: Any) -> Task:
                if function.__name__ == "train":
                    self.submitted.append(options)
                return Task(lambda: function(*given))

            return SimpleNamespace(remote=submit)

        return lambda function: SimpleNamespace(
            options=lambda **options: with_options(function, **options)
        )

    def wait(self, tasks: list[Task], num_returns: int = 1, timeout: float = 0) -> Any:
        for task in tasks[:num_returns]:
            fate = self.fates.pop(0) if self.fates else None
            try:
                with pytest.MonkeyPatch.context() as patch:
                    if fate is not None:
                        patch.setattr(session, "train_run", _lost_on_the_way)
                    task.value = task.work()
            except Lost:
                assert fate is not None
                task.error = fate("the node of the task is gone\nand more")
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task: Task) -> Any:
        if task.error is not None:
            raise task.error
        return task.value

    def cancel(self, task: Task, force: bool = False) -> None:
        task.work = lambda: None
        task.error = RayError("cancelled")


_train_run = session.train_run


def _lost_on_the_way(*given: Any) -> Iterator[ev.Event]:
    for event in _train_run(*given):
        if isinstance(event, ev.RunProgress) and event.images >= 240:
            raise Lost
        yield event


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found, strategies = FakeRay(), ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = dict  # type: ignore[attr-defined]
    for name, module in {
        "ray": found, "ray.util": ModuleType("ray.util"), strategies.__name__: strategies,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


def _losses(runs: Path) -> dict[str, list[Any]]:
    found = {}
    for path in sorted(runs.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [(row["split"], row["images"], row["loss"]) for row in rows]
    return found


def test_a_run_whose_node_is_lost_goes_on_elsewhere_to_the_last_digit(
    tiny: Path, tmp_path: Path, fake: FakeRay
) -> None:
    only, cut, whole = "*seed-1", tmp_path / "cut", tmp_path / "whole"
    fake.fates = [RayError, None, OutOfMemoryError]
    cluster = Cluster.of("auto", None, ["gpu=0.25 memory=1G", "tpu=2"])
    events = list(lab.run(tiny, only=only, runs=cut, device="cpu", threads=1, ray=cluster))
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (2, 0)
    retried = [event for event in events if isinstance(event, ev.RunRetried)]
    assert {event.jobs for event in retried} == {4}  # as many as there are pairs of tpu
    assert [event.reason.partition(":")[0] for event in retried] == ["RayError", "OutOfMemoryError"]
    assert any(isinstance(e, ev.Told) and "2 nodes, 8 CPUs" in e.text for e in events)
    assert any(isinstance(event, ev.RunProgress) for event in events)
    asked = [(run["num_cpus"], run["num_gpus"], run["memory"]) for run in fake.submitted]
    # What was lost for want of memory gets the room of two.
    assert sorted(asked) == [(1, 0.25, 2**30)] * 3 + [(2.0, 0.25, 2**30)]
    assert fake.submitted[0]["resources"] == {"tpu": 2.0}
    assert not fake.begun  # who attached leaves
    assert not list((cut / ".ray").iterdir())
    list(lab.run(tiny, only=only, runs=whole, device="cpu", threads=1))
    assert _losses(cut) == _losses(whole)


def test_a_run_that_does_not_get_on_is_given_up_and_the_others_are_trained(
    tiny: Path, tmp_path: Path, fake: FakeRay
) -> None:
    tiny.write_text(
        tiny.read_text().replace("between_validations: 160", "between_validations: 480")
    )
    cluster = Cluster(runs=1)
    fake.fates = [RayError] * 3
    events = list(lab.run(tiny, only="*seed-1", runs=tmp_path / "runs", device="cpu", ray=cluster))
    (erred,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "was lost 3 times: RayError: the node of the task is gone" in erred.message
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (1, 1)


def test_a_stop_cancels_what_ray_has_and_the_same_command_goes_on(
    tiny: Path, tmp_path: Path, fake: FakeRay
) -> None:
    stop, events, runs = StopRequest(), [], tmp_path / "runs"
    given: dict[str, Any] = {"runs": runs, "device": "cpu", "threads": 1, "ray": Cluster()}
    for event in lab.run(tiny, only="*seed-1", stop=stop, **given):
        events.append(event)
        if isinstance(event, ev.RunFinished):
            stop.ask()
    last = events[-1]
    assert isinstance(last, ev.MatrixFinished) and last.interrupted and last.finished == 1
    assert [event for event in lab.run(tiny, only="*seed-1", **given)][-1] == ev.MatrixFinished(
        1, 1, 0, False
    )


def test_without_ray_the_command_says_what_to_install(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"--ray needs the package ray") as caught:
        list(lab.run(tiny, runs=tmp_path / "runs", device="cpu", ray=Cluster()))
    assert caught.value.hint == 'type: pip install "aelab[ray]"'


def test_a_cluster_that_is_not_there_is_a_mistake_of_the_call(
    tiny: Path, tmp_path: Path, fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(fake, "init", nobody)
    with pytest.raises(UserError, match="no Ray cluster to attach to \\(--ray auto\\)"):
        list(lab.run(tiny, runs=tmp_path / "runs", device="cpu", ray=Cluster()))


def test_an_address_where_nothing_answers_is_told_before_ray_tries_for_minutes(
    tiny: Path, tmp_path: Path, fake: FakeRay
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--ray {address}\\): nothing answers there"):
            cluster = Cluster(address)
            list(lab.run(tiny, runs=tmp_path / "runs", device="cpu", ray=cluster))
    assert not fake.begun


def test_what_a_run_needs_is_checked() -> None:
    found = Cluster.of("auto", 3, ["cpu=2, gpu=.5 memory=512M"])
    assert found == Cluster("auto", 3, 2.0, 0.5, 2**29)
    assert found.needs(1) == {"CPU": 2.0, "GPU": 0.5, "memory": 2.0**29}
    for wrong in ("gpu", "gpu=x", "cpu=2G", "gpu=1.5"):
        with pytest.raises(UserError, match=f"--run-needs {wrong}"):
            Cluster.of("auto", None, [wrong])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "a.yml", "--ray"], "run a.yml --ray=auto"),
        (["run", "--ray", "a.yml", "-j", "2"], "run --ray=auto a.yml -j 2"),
        (["run", "--ray", "node1:6379", "a.yml"], "run --ray node1:6379 a.yml"),
        (["run", "--ray", "local", "a.yml"], "run --ray local a.yml"),
        (["run", "--ray=ray://x:10001", "a.yml"], "run --ray=ray://x:10001 a.yml"),
    ],
)
def test_the_address_may_be_left_out(words: list[str], expected: str) -> None:
    assert " ".join(with_address(words)) == expected


# --- a real cluster

#: Ray's processes start slowly on a loaded machine.
SECONDS = 900.0


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.mark.slow  # starts three nodes of Ray, and ray (70 MB) is not among the tools of dev
@pytest.mark.timeout(3000)
def test_a_node_and_then_the_command_are_killed_and_no_digit_is_lost(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importlib.util.find_spec("ray"), 'this test needs Ray; type: pip install "aelab[ray]"'
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster as Nodes

    text = tiny.read_text().replace("max_inputs: 480", "max_inputs: 96_000")
    text = text.replace("between_validations: 160", "between_validations: 3_200")
    tiny.write_text(text.replace("num_train_loss_steps: 80", "num_train_loss_steps: 1_600"))
    runs, nodes = tmp_path / "runs", Nodes(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )  # fmt: skip
    command = [sys.executable, "-m", "aelab", "run", str(tiny), "--device", "cpu", "--runs",
               str(runs), "--ray", nodes.address, "--threads", "1",
               "--run-needs", "gpu=0.5"]  # fmt: skip

    def start(name: str) -> subprocess.Popen[bytes]:
        with (tmp_path / name).open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=tmp_path)

    def images() -> list[int]:
        return [int(run.status.get("images") or 0) for run in Store(runs).list()]

    try:
        first, _second = (nodes.add_node(num_cpus=1, num_gpus=1) for _ in range(2))
        driver = start("first.txt")
        _until(lambda: sum(n > 3_200 for n in images()) >= 2, "no two runs got on")
        nodes.remove_node(first, allow_graceful=False)
        _until(
            lambda: "trying tiny" in (tmp_path / "first.txt").read_text(), "the loss was not told"
        )
        nodes.add_node(num_cpus=1, num_gpus=1)  # the cluster grows while the command runs
        begun = sum(images())
        _until(lambda: sum(images()) > begun + 3_200, "nothing went on after the loss")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert not all(run.state == "finished" for run in Store(runs).list())
        again = start("second.txt")
        assert again.wait(SECONDS) == 0, (tmp_path / "second.txt").read_text()
    finally:
        nodes.shutdown()
    assert [run.state for run in Store(runs).list()] == ["finished"] * 4
    list(lab.run(tiny, runs=tmp_path / "whole", device="cpu", threads=1))
    assert _losses(runs) == _losses(tmp_path / "whole")

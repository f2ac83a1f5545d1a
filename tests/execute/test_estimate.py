"""The time left of a matrix, corrected with every event."""

from __future__ import annotations

from pathlib import Path

import pytest

from aelab.config import load
from aelab.execute import events as ev
from aelab.execute.estimate import Estimate
from aelab.execute.jobs import Job


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jobs(tmp_path: Path, tiny_text: str) -> list[Job]:
    """mlp 1, mlp 2, conv 1, conv 2."""
    path = tmp_path / "tiny.yml"
    path.write_text(tiny_text)
    return [Job(spec, number) for number, spec in enumerate(load(path).runs(), start=1)]


def _started(job: Job) -> ev.RunStarted:
    return ev.RunStarted(job.spec.name, job.number, 10, 0, 480, 1)


def _progress(job: Job, left: float) -> ev.RunProgress:
    return ev.RunProgress(job.spec.name, 0, 480, 0.1, 100.0, left)


def _finished(job: Job) -> ev.RunFinished:
    return ev.RunFinished(job.spec.name, 480, 0.1, 5.0, "max_images", Path("x"))


def test_nothing_is_said_before_anything_is_known(jobs: list[Job]) -> None:
    estimate = Estimate(jobs, 2, Clock())
    estimate.note(_started(jobs[0]))
    assert estimate.seconds_left() is None
    assert (estimate.done, estimate.total) == (0, 4)


def test_waiting_runs_go_to_whoever_is_free_first(jobs: list[Job]) -> None:
    clock = Clock()
    estimate = Estimate(jobs, 2, clock)
    for job in jobs[:2]:
        estimate.note(_started(job))
        estimate.note(_progress(job, left=10.0))
    assert estimate.seconds_left() == 20.0  # two pairs of 10 seconds
    assert estimate.images_per_second == 200.0
    one = Estimate(jobs, 1, clock)
    one.note(_started(jobs[0]))
    one.note(_progress(jobs[0], left=10.0))
    assert one.seconds_left() == 40.0


def test_a_waiting_run_is_guessed_from_those_most_like_it(jobs: list[Job]) -> None:
    clock = Clock()
    estimate = Estimate(jobs, 1, clock)
    for job, took in ((jobs[0], 10.0), (jobs[2], 100.0)):  # mlp 1, conv 1
        estimate.note(_started(job))
        clock.now += took
        estimate.note(_finished(job))
    assert estimate.done == 2
    # mlp 2 shares its net with one that took 10 s, conv 2 with one that took 100 s.
    assert estimate.seconds_left() == pytest.approx(110.0)


def test_a_run_that_is_tried_again_waits_again_for_fewer_neighbours(jobs: list[Job]) -> None:
    estimate = Estimate(jobs, 2, Clock())
    for job in jobs[:2]:
        estimate.note(_started(job))
        estimate.note(_progress(job, left=10.0))
    estimate.note(ev.RunRetried(jobs[0].spec.name, "signal 9", 1))
    assert estimate.at_once == 1
    assert estimate.seconds_left() == 40.0

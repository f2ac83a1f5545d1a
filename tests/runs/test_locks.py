"""Who may write a run where kernel locks do not reach: a lease, taken by renaming."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.execute import events as ev
from aelab.runs import locks
from aelab.runs.locks import Lease, Taken, held, why_no_locks
from aelab.runs.record import HeldError
from aelab.runs.store import Store

#: A machine that is not this one.
ELSEWHERE = "0123456789abcdef"


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system was looked at before."""
    monkeypatch.setattr(locks, "_probed", {})
    monkeypatch.delenv("AELAB_LOCKS", raising=False)


def _silent(lease: Path, seconds: float) -> None:
    """Makes the owner of a lease one that has given no sign for so long."""
    (owner,) = lease.iterdir()
    then = time.time() - seconds
    os.utime(owner, (then, then))


def test_a_lease_is_one_process_s_until_it_is_given_back(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        assert lease.check()
        with pytest.raises(Taken):
            Lease(tmp_path).__enter__()
        with pytest.raises(Taken):
            Lease(tmp_path, machine=ELSEWHERE).__enter__()
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["free"]
    with Lease(tmp_path, machine=ELSEWHERE):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_of_many_who_take_a_lease_at_once_one_succeeds(tmp_path: Path) -> None:
    for state in ("new", "free", "abandoned"):
        if state == "abandoned":
            Lease(tmp_path, machine=ELSEWHERE)._taken()
            _silent(tmp_path / "lease", 1_000)
        start, got = threading.Barrier(8), []

        def take(start: threading.Barrier = start, got: list[Lease] = got) -> None:
            lease = Lease(tmp_path)
            start.wait()
            if lease._taken():
                got.append(lease)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1, state
        got[0].__exit__()


def test_a_lost_machine_s_lease_is_taken_over_and_it_writes_no_more(tmp_path: Path) -> None:
    lost = Lease(tmp_path, machine=ELSEWHERE)
    assert lost._taken()
    _silent(tmp_path / "lease", 100)
    with pytest.raises(Taken):  # not two minutes yet
        Lease(tmp_path).__enter__()
    _silent(tmp_path / "lease", 130)
    with Lease(tmp_path) as lease:
        assert lease.check() and not lost.check()
        lost.__exit__()  # gives back nothing
        assert lease.check()


def test_a_process_of_this_machine_that_has_ended_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / f"{locks.machine_mark()}-{os.getpid()}-1-abc").touch()  # another start
    with Lease(tmp_path) as lease:
        assert lease.check()


def test_a_file_system_without_locks_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert why_no_locks(tmp_path) == ""

    def refuse(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(locks, "_probed", {})
    assert why_no_locks(tmp_path) == "the system says: No locks available"
    with held(tmp_path) as lease:
        assert lease is not None
        with pytest.raises(Taken), held(tmp_path):
            pass


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("nfs", "rw,vers=3,nolock,addr=10.0.0.1", "NFS is mounted with nolock"),
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,local_lock=all", "NFS is mounted with local_lock"),
        ("lustre", "rw,flock", ""),
        ("fuse.sshfs", "rw", "a FUSE file system has no locks"),
        ("ext4", "rw", ""),
    ],
)
def test_locks_that_stay_on_one_machine_are_known_from_the_mount(
    kind: str, options: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = os.makedev(0, 77)
    lines = [
        "30 1 0:76 / /a rw - ext4 /dev/a rw,nolock",
        f"31 1 0:77 / /b rw,noatime shared:1 - {kind} host:/b {options}",
    ]
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "\n".join(lines))
    assert locks._local(device) == why


def test_a_matrix_is_trained_under_leases_where_locks_do_not_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_LOCKS", "lease")
    file, runs = tmp_path / "one.yml", tmp_path / "runs"
    file.write_text(ONE)
    events = list(lab.run(file, runs=runs, device="cpu", threads=1))
    assert any(isinstance(e, ev.Told) and "held by a lease instead" in e.text for e in events)
    assert isinstance(events[-1], ev.MatrixFinished) and events[-1].finished == 1
    (run,) = Store(runs).list()
    assert [path.name for path in (run.path / "lease").iterdir()] == ["free"]
    monkeypatch.delenv("AELAB_LOCKS")  # a machine where locks seem to do meets the lease
    with run.lock():
        with pytest.raises(HeldError, match="is being trained by process"):
            run.__class__.at(run.path).lock().__enter__()
        (owner,) = (run.path / "lease").iterdir()
        owner.rename(owner.with_name(f"{ELSEWHERE}-1-2-abc"))
        with pytest.raises(HeldError, match="was taken over"):
            run.set_status("running")


ONE = """
experiment_name: one
train_set: noise_dataset((1, 8, 8), size=64, seed=1)
validation_set: noise_dataset((1, 8, 8), size=16, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), code_size=4))
batch_size: 16
optimizer: Adam
learnrate: 0.001
max_inputs: 64
num_inputs_between_validations: 64
"""

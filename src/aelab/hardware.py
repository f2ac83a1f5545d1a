"""Free cores and memory of this machine, without torch.

Free cores are the cores that this process may use, minus those in use. In use are cores that are
busy now (measured for a short time), and cores that other `aelab run` processes have claimed, even
if they do not use them yet. So processes started in the same second share the cores.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aelab.roots import cache_folder

#: Seconds of one measurement of core usage, and seconds for which it is reused.
_MOMENT, _KEPT = 0.05, 5.0
#: (when, busy cores) of the last measurement.
_measured: list[tuple[float, float]] = []
#: Claims of this process, which it does not count itself.
_own: dict[Path, int] = {}

_TRIM_BYTES = 4_000_000_000


def free_cores() -> int:
    """Cores that are neither in use nor claimed, at most the container's quota; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    taken = max(busy_cores(), float(claimed_cores()))
    free = min((allowed or os.cpu_count() or 1) - taken, _cgroup_cores())
    return max(1, math.floor(free + 0.5))


def asked_threads() -> int | None:
    """OMP_NUM_THREADS if it is set, as by schedulers and parallel shells; else None."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else None


def busy_cores() -> float:
    """Allowed cores in use now; where this is unknown, the load average of the last minute.

    Takes 0.05 seconds, at most every 5 seconds; the caller sleeps meanwhile and is not counted.
    """
    now = time.monotonic()
    if _measured and now - _measured[0][0] < _KEPT:
        return _measured[0][1]
    before = _ticks()
    if before is None:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(_MOMENT)
    after = _ticks() or before
    total = after[1] - before[1]
    busy = (after[0] - before[0]) / total * before[2] if total > 0 else 0.0
    _measured[:] = [(now, busy)]
    return busy


def _ticks() -> tuple[float, float, int] | None:
    """Busy ticks, total ticks and number of the allowed cores; None if unknown."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        allowed = os.sched_getaffinity(0)
        rows = [
            list(map(int, words[1:9]))
            for line in lines
            if (words := line.split()) and words[0][:3] == "cpu" and words[0][3:].isdigit()
            and int(words[0][3:]) in allowed
        ]  # fmt: skip
        idle = sum(row[3] + row[4] for row in rows)
        total = sum(map(sum, rows))
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return (total - idle, total, len(rows)) if rows else None


def free_memory_mb() -> float:
    """Memory that can be used without swapping, in MB; infinite if unknown."""
    free = math.inf
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) / 1024
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free = min(free, (int(limit) - used) / 2**20)
    return free


#: Limits of the memory of a container.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_bytes() -> int | None:
    """Memory of this machine, or the limit of its container if lower; None if not known."""
    found = []
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on every system
        pass
    for path in _GROUP_LIMITS:
        try:
            found.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or the word `max`
            continue
    return min(found) if found else None


def has_gpu() -> bool:
    """Whether `--device auto` may find a GPU; checks device files, as importing torch is slow."""
    if not Path("/proc").exists():
        return True  # unknown on this system
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd"))


def allocator_environment() -> dict[str, str]:
    """Environment variables that make the allocator of a child process keep freed memory."""
    return {
        "MALLOC_TRIM_THRESHOLD_": str(_TRIM_BYTES),
        "MALLOC_MMAP_THRESHOLD_": str(_TRIM_BYTES),
    }


# --- claims


def claimed_cores() -> int:
    """Cores that other processes of this user have claimed on this machine."""
    total = 0
    with contextlib.suppress(OSError):
        for path in _claims().glob("*.json"):
            if path in _own:
                continue
            try:
                claim = json.loads(path.read_text())
                alive = is_there(int(claim["pid"]), claim.get("mark"))
                total += int(claim["cores"]) if alive else 0
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if not alive:
                with contextlib.suppress(OSError):
                    path.unlink()
    return total


@contextlib.contextmanager
def claim(most: int, threads: int = 1, least: int = 1) -> Iterator[int]:
    """Context manager: claims cores for parallel runs; yields the number of runs granted.

    Args:
        most: parallel runs wanted.
        threads: of each run.
        least: runs granted even if no core is free.
    """
    from filelock import FileLock, Timeout

    path = None
    granted = max(least, 1)
    try:
        folder = _claims()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=2):
            granted = max(granted, min(most, free_cores() // threads))
            path = folder / f"{os.getpid()}-{time.monotonic_ns()}.json"
            owner = {"pid": os.getpid(), "mark": process_mark(os.getpid())}
            path.write_text(json.dumps({**owner, "cores": granted * threads}))
            _own[path] = granted * threads
    except (OSError, NotImplementedError, Timeout):  # claims are only advisory
        granted = max(granted, min(most, free_cores() // threads))
    try:
        yield granted
    finally:
        if path is not None:
            _own.pop(path, None)
            with contextlib.suppress(OSError):
                path.unlink()


def _claims() -> Path:
    """The folder of the claims on this machine; a home folder may be shared by several."""
    return cache_folder() / "claims" / machine_mark()


@cache
def machine_mark() -> str:
    """An identifier of this machine since its last start.

    The host name is not enough: containers may share it, and have separate process tables.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def process_mark(pid: int) -> str | None:
    """Start time of process `pid`, in the system's ticks; None if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def is_there(pid: int, mark: object = None) -> bool:
    """Whether process `pid` exists on this machine, and has the start time `mark`."""
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it exists, but belongs to another user
    return mark is None or process_mark(pid) in (None, mark)


def _cgroup_cores() -> float:
    """The CPU quota of a container; infinite without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):
        return math.inf

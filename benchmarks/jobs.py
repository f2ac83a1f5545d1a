"""A matrix of 8 runs: `--jobs 2` against one run after the other, in time and memory.

Both ways are whole `aelab run` commands with one thread a run, in turning order; the ratio of their
times counts, and on a machine that others use only beside the `busy` column: cores that other
programs took meanwhile. With `--two-threads` a third way is one run at a time with two threads.
Memory is the sum over the processes of a command, sampled four times a second: shared pages are
counted once (PSS), so it shows that the data set is in memory once. Results are compared byte by
byte.

    python benchmarks/jobs.py [--rounds 3] [--jobs 2] [--images 6000] [--at-least 1.8]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MATRIX = """
matrix:
  seed: [1, 2, 3, 4, 5, 6, 7, 8]
experiment_name: jobs/${matrix_slug}
seed: ${seed}
globals:
  SHAPE: (1, 28, 28)
train_set: noise_dataset(SHAPE, size=%(size)d, seed=1)
validation_set: noise_dataset(SHAPE, size=1000, seed=2)
model: |
  EncoderDecoder(
      EncoderConv2d(SHAPE, code_size=32, channels=(16, 24, 32), kernel_size=3),
      DecoderConv2d(SHAPE, code_size=32, channels=(16, 24, 32), kernel_size=3),
  )
batch_size: 64
learnrate: 0.001
optimizer: Adam
max_inputs: %(images)d
num_inputs_between_validations: %(images)d
"""


class Cost(NamedTuple):
    """What one command took: seconds by the clock and of CPU, MB in all, busy cores of others."""

    wall: float
    cpu: float
    memory_mb: float
    workers_mb: list[float]
    others: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--images", type=int, default=6_000, help="images a run")
    parser.add_argument("--size", type=int, default=60_000, help="images of the set")
    parser.add_argument("--two-threads", action="store_true")
    parser.add_argument("--at-least", type=float, default=0.0, help="exit code 1 below this ratio")
    given = parser.parse_args()
    ways = {"one by one": (1, 1), f"--jobs {given.jobs}": (given.jobs, 1)}
    if given.two_threads:
        ways["two threads"] = (1, 2)
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        text = MATRIX % {"size": given.size, "images": given.images}
        (home / "jobs.yml").write_text(text)
        for turn in range(given.rounds):
            names = list(ways) if turn % 2 == 0 else list(reversed(ways))
            for name in names:
                jobs, threads = ways[name]
                cost = run(home, f"runs-{turn}-{jobs}-{threads}", jobs, threads)
                costs[name].append(cost)
                print(f"round {turn + 1}, {name:12} {cost.wall:7.1f} s  {cost.cpu:7.1f} CPU s  "
                      f"{cost.memory_mb:6.0f} MB in all  others {cost.others:.1f}",
                      flush=True)  # fmt: skip
            same = states(home / f"runs-{turn}-1-1") == states(home / f"runs-{turn}-{given.jobs}-1")
            if not same:
                raise SystemExit("the two ways left different results")
    slow, fast = costs["one by one"], costs[f"--jobs {given.jobs}"]
    ratios = [one.wall / two.wall for one, two in zip(slow, fast, strict=True)]
    print(f"\nratio of times  {statistics.median(ratios):.2f} "
          f"[{min(ratios):.2f} .. {max(ratios):.2f}], n = {len(ratios)}")  # fmt: skip
    workers = max(fast, key=lambda cost: cost.memory_mb).workers_mb
    print(f"memory, MB: one process {max(c.memory_mb for c in slow):.0f}, "
          f"{given.jobs} jobs {max(c.memory_mb for c in fast):.0f} "
          f"({', '.join(f'{size:.0f}' for size in sorted(workers))} a process)")  # fmt: skip
    return int(statistics.median(ratios) < given.at_least)


def run(home: Path, runs: str, jobs: int, threads: int) -> Cost:
    """One whole command."""
    command = [
        sys.executable, "-m", "aelab", "run", "jobs.yml", "--quiet", "--device", "cpu",
        "--runs", runs, "--jobs", str(jobs), "--threads", str(threads),
    ]  # fmt: skip
    before, ticks = os.times(), busy_seconds()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=home, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    most, each = 0.0, [0.0]
    while process.poll() is None:
        sizes = [memory_mb(pid) for pid in family(process.pid)]
        if sum(sizes) > most:
            most, each = sum(sizes), sizes
        time.sleep(0.25)
    wall = time.perf_counter() - started
    assert process.stderr
    if process.returncode:
        raise SystemExit(process.stderr.read().decode())
    process.stderr.close()
    after = os.times()
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return Cost(wall, cpu, most, each, max(0.0, (busy_seconds() - ticks - cpu) / wall))


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(other for child in below for other in family(int(child)))]


def memory_mb(pid: int) -> float:
    """Memory of a process, each shared page divided among those that share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def busy_seconds() -> float:
    """CPU seconds of the whole machine since it was started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def states(runs: Path) -> dict[str, bytes]:
    """The last state of every run."""
    return {
        str(path.relative_to(runs)): path.read_bytes() for path in runs.rglob("latest.safetensors")
    }


if __name__ == "__main__":
    sys.exit(main())

"""How long the commands take to answer: `--help`, and `table`, `ls` on 500 stored runs.

Each is a fresh process; the median of several counts. CPU seconds are printed beside the clock on
the wall, to tell a slow program from a busy machine. Targets: `aelab --help` under 0.4 s,
`aelab table` on 500 stored runs under 1.5 s.

    python benchmarks/startup.py [--runs 500] [--repeats 7] [--check]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from store import fill  # the benchmark beside this one

from aelab.runs.store import Store

HELP_SECONDS, TABLE_SECONDS = 0.4, 1.5


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(arguments: list[str], repeats: int) -> list[tuple[float, float]]:
    """Wall and CPU seconds of `aelab ARGUMENTS`: once to warm the disk cache, then `repeats`."""
    command = [sys.executable, "-m", "aelab.cli", *arguments]
    times = []
    for _ in range(repeats + 1):
        started, used = time.perf_counter(), cpu_seconds_of_children()
        done = subprocess.run(command, capture_output=True, text=True)
        times.append((time.perf_counter() - started, cpu_seconds_of_children() - used))
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return times[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1000, help="metrics rows a run")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="exit code 1 above a target")
    given = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        fill(Store(root), given.runs, given.rows)
        cases = {
            "--help": (["--help"], HELP_SECONDS),
            f"table, {given.runs} runs": (["table", "--runs", str(root)], TABLE_SECONDS),
            f"ls, {given.runs} runs": (["ls", "--runs", str(root)], TABLE_SECONDS),
        }
        print(f"{'command':24} median     range            CPU      target")
        for name, (arguments, target) in cases.items():
            times = seconds(arguments, given.repeats)
            wall = [pair[0] for pair in times]
            cpu = statistics.median(pair[1] for pair in times)
            median = statistics.median(wall)
            slow |= median > target
            spread = f"[{min(wall):.2f} .. {max(wall):.2f}]"
            print(f"aelab {name:18} {median:5.2f} s   {spread}   {cpu:5.2f} s   {target} s")
    return int(slow and given.check)


if __name__ == "__main__":
    sys.exit(main())

"""How long the page of `aelab ui` takes with many runs, in a real browser.

    python -m benchmarks.ui [--runs 500] [--points 1000]

Prints, for a first and a second opening, the milliseconds from the address to the drawn curves and
of a sort by click; how long a frame takes while the table is scrolled to its end by 120 pixels a
frame; and of all runs selected at once. Time is told as passed, and as CPU time of the page and
of the process that serves, because other work on the machine delays only the first.
Needs Chromium, and no package. The aims: open under 2 s, and less than the 16.7 ms of a
frame at 60 a second while scrolling.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.browser import Browser

DRAWN = (
    "document.documentElement.dataset.ready && "
    "document.querySelectorAll('#charts canvas').length === 2"
)
#: Scrolls the table to its end by 120 pixels a frame; the milliseconds between frames.
SCROLL = """new Promise(done => {
  const box = document.querySelector("#scroller"), frames = [];
  let last = null;
  box.scrollTop = 0;
  const step = now => {
    if (last !== null) frames.push(now - last);
    last = now;
    if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1) { done(frames); return; }
    box.scrollTop += 120;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


def write_runs(folder: Path, count: int, points: int) -> None:
    """Stored runs with falling losses; only what the page reads."""
    drawn = random.Random(0)
    for number in range(count):
        run = folder / "many" / f"run-{number:04d}"
        run.mkdir(parents=True)
        matrix = {
            "lr": drawn.choice([0.1, 0.01]),
            "width": drawn.choice([8, 16, 32]),
            "seed": number,
        }
        record = {"format": 1, "name": f"many/run-{number}", "folder": f"many/run-{number:04d}",
                  "identity": f"{number:064d}", "matrix": matrix, "max_inputs": points,
                  "parameters": {"model": 1000}}  # fmt: skip
        (run / "run.json").write_text(json.dumps(record))
        rows, loss = [], 1.0
        for moment in range(points):
            loss *= 1 - 0.01 * drawn.random()
            split = "validation" if moment % 10 == 9 else "train"
            rows.append(json.dumps({"split": split, "images": moment + 1, "seconds": moment / 9,
                                    "epoch": 0, "loss": loss}))  # fmt: skip
        (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
        status = {"state": "finished", "images": points, "seconds": points / 9,
                  "last": {"loss": loss}, "best": {"loss": loss, "images": points}}  # fmt: skip
        (run / "status.json").write_text(json.dumps(status))


def processor_seconds(process: int) -> float:
    """CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_runs(Path(place), given.runs, given.points)
        server = subprocess.Popen(
            [sys.executable, "-m", "aelab", "ui", place, "--no-browser", "--port", "0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        try:
            address = server.stdout.readline().split()[0]
            with Browser() as browser:
                browser._send("Performance.enable", timeDomain="threadTicks")

                def clocks() -> tuple[float, ...]:
                    """Passed, of the page, of the server, in milliseconds."""
                    told: Any = browser._send("Performance.getMetrics")["metrics"]
                    page = next(each["value"] for each in told if each["name"] == "TaskDuration")
                    spent = time.perf_counter(), page, processor_seconds(server.pid)
                    return tuple(1000 * seconds for seconds in spent)

                def tell(what: str, before: tuple[float, ...]) -> None:
                    passed, page, process = (b - a for a, b in zip(before, clocks(), strict=True))
                    both = f"{page:.0f} of the page, {process:.0f} of the server"
                    print(f"{what}: {passed:.0f} ms, {both}")

                for attempt in ("first", "second"):
                    browser.open("about:blank")  # a page of its own, and so a clock of its own
                    began = clocks()
                    browser.open(address, DRAWN)
                    tell(f"{attempt} opening", began)
                    began = clocks()
                    browser.click('[data-sort="minutes"]')
                    browser.wait(
                        "document.querySelector('[data-sort=minutes]').closest('[aria-sort]')"
                    )
                    tell("sorting", began)
                    began = clocks()
                    frames = sorted(browser.run(SCROLL))
                    each = (clocks()[1] - began[1]) / len(frames)
                    late = sum(frame > 25 for frame in frames)
                    middle = frames[len(frames) // 2]
                    print(
                        f"scrolling {given.runs} runs: {len(frames)} frames, {late} of them late; "
                        f"{middle:.1f} ms in the middle, {frames[-1]:.0f} at most; {each:.1f} ms "
                        "of the page's thread each"
                    )
                began = clocks()
                browser.run("document.querySelector('#scroller tbody tr[tabindex=\"0\"]').focus()")
                browser._send("Input.dispatchKeyEvent", type="keyDown", key="a", modifiers=2,
                              windowsVirtualKeyCode=65)  # fmt: skip
                browser.wait(f"document.querySelectorAll('#legend li').length === {given.runs}")
                tell(f"the curves of {given.runs} runs at once", began)
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()

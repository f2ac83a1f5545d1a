"""How long the page of `aelab ui` takes with many runs, in a real browser.

    python benchmarks/page.py [--runs 500] [--points 1000]

Prints milliseconds from the address to the drawn curves and of a sort by click: passed, and as CPU
time of the page's thread and of this process, which serves; and CPU milliseconds of one look for
changes. Needs Chromium and playwright. The aim: open under 2 s on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import sync_playwright

from aelab.lab import Lab
from aelab.ui.server import make_app
from aelab.ui.watched import Watched


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


def tell(what: str, before: tuple[float, ...], after: tuple[float, ...]) -> None:
    passed, page, process = (b - a for a, b in zip(before, after, strict=True))
    print(f"{what}: {passed:.0f} ms, {page:.0f} of the page, {process:.0f} of the server")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_runs(Path(place), given.runs, given.points)
        lab = Lab(place)
        watched = Watched(lab)
        watched.changed()
        began = time.process_time()
        watched.changed()
        print(f"a look for changes: {1000 * (time.process_time() - began):.1f} ms of CPU")
        config = uvicorn.Config(make_app(lab), port=0, log_level="error", lifespan="off")
        server, socket = uvicorn.Server(config), config.bind_socket()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for attempt in ("first", "second"):
                page = browser.new_page()
                session = page.context.new_cdp_session(page)
                session.send("Performance.enable", {"timeDomain": "threadTicks"})

                def clocks(session: Any = session) -> tuple[float, float, float]:
                    """Passed, of the page, of this process, in milliseconds."""
                    told = session.send("Performance.getMetrics")["metrics"]
                    page = next(each["value"] for each in told if each["name"] == "TaskDuration")
                    seconds = time.perf_counter(), page, time.process_time()
                    return tuple(1000 * value for value in seconds)  # type: ignore[return-value]

                began = clocks()
                page.goto(f"http://127.0.0.1:{socket.getsockname()[1]}/")
                page.locator("canvas").first.wait_for()
                tell(f"{attempt} opening", began, clocks())
                began = clocks()
                page.get_by_role("button", name="minutes").click()
                page.locator("th[aria-sort=ascending]").wait_for()
                tell("sorting", began, clocks())
            browser.close()
        server.should_exit = server.force_exit = True
        thread.join(5)


if __name__ == "__main__":
    main()

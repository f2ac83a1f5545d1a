"""How long the store takes: a table and a listing of many stored runs, each in a fresh process.

    python benchmarks/store.py [--runs 500] [--rows 1000]

Every run has a metrics file of a million images (one training row each 1,000 images, 17
validations). The target is 1.5 s for the table of 500 runs, start-up included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aelab.runs.store import Store

TABLE = (
    "import sys; from aelab.runs.store import Store; from aelab.report.tables import table; "
    "text = table(Store(sys.argv[1]).list(), sort=['loss'])"
)
LISTING = (
    "import sys; from aelab.runs.store import Store; "
    "from aelab.report.listing import listing; "
    "text = listing(Store(sys.argv[1]).list())"
)


def fill(store: Store, runs: int, rows: int) -> None:
    """Make `runs` finished runs with `rows` training rows each."""
    train = [
        {
            "split": "train",
            "images": 1000 * i,
            "seconds": 0.123456 * i,
            "epoch": i // 60,
            "loss": 0.5 / i + 0.0123456789,
            "l1": 0.4 / i + 0.0123456789,
            "kl": 12.3456789 + i,
            "learnrate": 0.0003,
        }
        for i in range(1, rows + 1)
    ]
    validation = [{**row, "split": "validation"} for row in train[:: max(rows // 17, 1)]]
    for number in range(runs):
        matrix = {"lr": 0.0003, "ds": "mnist", "k": number}
        run = store.create(
            {
                "folder": f"vae/compare_lr-0.0003_ds-mnist_k-{number}",
                "identity": str(number),
                "name": f"vae/compare_k:{number}",
                "experiment": "compare.yml",
                "matrix": matrix,
                "matrix_id": f"{number + 1:03d}",
                "max_inputs": 1000 * rows,
                "effect": str(number),
                "parameters": {"model": 1_666_193, "encoder": 1_000_000, "decoder": 666_193},
                "seed": 0,
            }
        )
        run.append(*sorted([*train, *validation], key=lambda row: float(str(row["images"]))))
        last = {"images": 1000 * rows, "loss": 0.02 + number * 1e-5, "kl": 3.0}
        run.set_status("finished", images=1000 * rows, seconds=126.6, last=last, best=last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs")
        start = time.perf_counter()
        fill(store, options.runs, options.rows)
        print(f"making {options.runs} runs: {time.perf_counter() - start:.2f} s")
        for name, code in (("table", TABLE), ("listing", LISTING)):
            times = []
            for _ in range(5):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", code, str(store.root)], check=True)
                times.append(time.perf_counter() - start)
            print(f"{name} of {options.runs} runs: best {min(times):.2f} s, worst {max(times):.2f}")


if __name__ == "__main__":
    main()

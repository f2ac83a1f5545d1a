"""A million 32x32 colour images: how much memory does a process need that trains on them?

    python benchmarks/large_set.py [--images 1_000_000] [--train 50_000]

Writes a NumPy file of random bytes, opens it with `array_dataset`, and trains a small model on it,
in a process of its own. Prints two peaks: memory that only this process has (`RssAnon`, which
counts against the limit), and all pages it has touched (`VmHWM`), which include pages of the mapped
file that the system can take back at any time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_MB = 1024
FILE = """
experiment_name: large
train_set: array_dataset("large.npy")
validation_set: array_dataset("large.npy").limit(200)
model: quick_image_ae((3, 32, 32), channels=(8, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0))
loss_function: l1
optimizer: AdamW
learnrate: 0.001
batch_size: 64
max_images: {images}
"""


def write_array(path: Path, count: int) -> None:
    """Random bytes, some thousand images at a time."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, 32, 32))
    generator = np.random.default_rng(0)
    for start in range(0, count, 4096):
        part = array[start : start + 4096]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    array.flush()


def peaks(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """The largest RssAnon and VmHWM of a process in MB, looked at ten times a second."""
    own = touched = 0.0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            own = max(own, int(lines["RssAnon"].split()[0]) / 1024)
            touched = max(touched, int(lines["VmHWM"].split()[0]) / 1024)
        except (OSError, KeyError, ValueError):  # it has just ended
            pass
        time.sleep(0.1)
    return own, touched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--train", type=int, default=50_000, help="images to train on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write_array(here / "large.npy", given.images)
        (here / "large.yml").write_text(FILE.format(images=given.train))
        size = (here / "large.npy").stat().st_size / 2**20
        began = time.monotonic()
        command = [sys.executable, "-m", "aelab", "run", "large.yml", "--jobs", "1"]
        process = subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL)
        own, touched = peaks(process)
    print(f"{given.images:,} images, {size:,.0f} MB; {given.train:,} trained in "
          f"{time.monotonic() - began:.0f} s, exit code {process.returncode}")  # fmt: skip
    print(f"memory of the process {own:,.0f} MB (limit {LIMIT_MB:,}); with mapped pages "
          f"{touched:,.0f} MB")  # fmt: skip
    sys.exit(process.returncode or own > LIMIT_MB)


if __name__ == "__main__":
    main()

"""Answers of the latent explorer of `aelab ui`, in milliseconds on one thread of a CPU.

    OMP_NUM_THREADS=1 python benchmarks/latent_explorer.py [SIZE] [ROUNDS]

Trains `small_image_ae` briefly on images of SIZE x SIZE (default 32) in three channels, puts 2,000
of them on the map, and asks through the web application, without a network: parsing the question,
decoding, the nearest image, PNG and JSON included. The aim is 50 ms at 32x32.
"""

from __future__ import annotations

import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from aelab.lab import Lab
from aelab.ui.server import make_app

FILE = """
experiment_name: explored
train_set: kali_dataset((3, {size}, {size}), size=2000, seed=1)
validation_set: kali_dataset((3, {size}, {size}), size=2000, seed=2)
model: small_image_ae((3, {size}, {size}))
batch_size: 32
learnrate: 0.001
optimizer: Adam
max_images: 2000
"""


def asked(app: Any, name: str, body: bytes) -> bytes:
    """The answer to one question."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "method": "POST", "path": f"/api/explore/{name}", "raw_path": b"",
        "query_string": b"run=explored", "scheme": "http", "http_version": "1.1", "root_path": "",
        "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1:8080"), (b"origin", b"http://127.0.0.1:8080")],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200, sent
    return b"".join(part.get("body", b"") for part in sent[1:])


def main(size: int = 32, rounds: int = 60) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "explored.yml").write_text(FILE.format(size=size))
        here = Lab(Path(place) / "runs", device="cpu")
        for _ in here.run(Path(place) / "explored.yml"):
            pass
        app = make_app(here)
        began = time.perf_counter()
        asked(app, "decode", b'{"point": {"image": 0}}')
        print(f"opening the run and its map: {time.perf_counter() - began:.1f} s")
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), "orange").save(picture, "PNG")
        places = [{"place": [0.02 * k, -0.01 * k], "directions": {"2": 0.5}} for k in range(rounds)]
        questions = {
            "a place": ("decode", [json.dumps({"point": each}).encode() for each in places]),
            "an image": ("decode", [b'{"point": {"image": %d}}' % k for k in range(rounds)]),
            "between two images": ("decode", [
                b'{"point": {"from": {"image": 1}, "to": {"image": %d}, "t": 0.4}}' % k
                for k in range(2, rounds + 2)
            ]),
            "a picture of one's own": ("look", [picture.getvalue()] * rounds),
        }  # fmt: skip
        for words, (name, bodies) in questions.items():
            spent = []
            for body in bodies:
                began = time.perf_counter()
                asked(app, name, body)
                spent.append(1000 * (time.perf_counter() - began))
            ordered = sorted(spent)
            print(
                f"{words}: median {statistics.median(spent):.1f} ms, "
                f"90 % below {ordered[int(0.9 * len(ordered))]:.1f} ms, n = {rounds}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

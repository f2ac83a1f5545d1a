"""Make the stored run of the present format that `test_golden.py` opens: `python make_golden.py`.

Run it once for every new format version, and keep the older folders: they are the promise that old
runs stay readable. The numbers are generated; no model is trained.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from aelab.runs.record import FORMAT, Run
from aelab.runs.store import Store

EXPERIMENT = """\
matrix:
  ds: ["kali", "noise"]
  lr: [0.001]
experiment_name: golden/tiny_${matrix_slug}
train_set: |
  {"kali": kali_dataset(shape=(1, 8, 8)), "noise": noise_dataset(shape=(1, 8, 8))}["${ds}"]
batch_size: 16
learnrate: ${lr}
optimizer: Adam
max_inputs: 6_400
model: |
  VariationalAutoencoder(encoder=EncoderConv2d((1, 8, 8), code_size=4), latent_dims=4)
"""

DATA = {
    "train": [
        {"name": "kali", "source": "generated", "count": 640, "sha256": "5e" * 32, "note": ""}
    ],
    "validation": [
        {
            "name": "kali",
            "source": "generated",
            "count": 64,
            "sha256": "a1" * 32,
            "note": "held out",
        }
    ],
    "train_content": "5f" * 32,
    "validation_content": "a2" * 32,
}

RECORD = {
    "folder": "golden/tiny_ds-kali_lr-0.001",
    "name": "golden/tiny_ds:kali_lr:0.001",
    "identity": "c0ffee" * 10,
    "matrix": {"ds": "kali", "lr": 0.001},
    "matrix_id": "1",
    "matrix_slug": "ds:kali_lr:0.001",
    "seed": 0,
    "trial": None,
    "max_inputs": 6_400,
    "experiment": "tiny.yml",
    "legacy": [],
    "notes": [],
    "parameters": {"model": 52, "encoder": 32, "decoder": 20},
    "shape": [1, 8, 8],
    "latent_shape": [4],
    "flops_per_image": 2048,
    "data": DATA,
    "effect": "ef" * 32,
    "extra": {"compression-ratio": 16.0},
    "trust": False,
}


def main() -> None:
    home = Path(__file__).parent / f"format-{FORMAT}"
    shutil.rmtree(home, ignore_errors=True)
    store = Store(home)
    resolved = EXPERIMENT.replace("${matrix_slug}", "ds:kali_lr:0.001")
    run = store.create(
        RECORD,
        {
            "experiment.yml": EXPERIMENT,
            "resolved.yml": resolved.replace("${ds}", "kali").replace("${lr}", "0.001"),
            "calls.json": [{"name": "kali_dataset", "arguments": {"shape": [1, 8, 8]}}],
            "environment.json": {"python": "3.11", "torch": "2.13", "threads": 1, "device": "cpu"},
        },
    )
    with run.lock():
        train(run)
    for name in ("lock", "../../.gitignore"):
        (run.path / name).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    print(f"{home}: {size:,} bytes")


def train(run: Run) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (8, 128), dtype=np.uint8)
    run.write_bytes("images/train-originals.png", png(pixels))
    run.write_bytes("images/heldout-originals.png", png(pixels[::-1]))
    run.set_status("running", images=0, max_inputs=6_400)
    best = {"images": 0, "loss": float("inf")}
    for images in range(320, 6_401, 320):
        facts = {"images": images, "seconds": images / 4000, "epoch": images // 640}
        loss = 0.3 * 0.9 ** (images / 640) + 0.001 * float(generator.normal())
        terms = {"l1": loss * 0.9, "kl": 2.5 + loss}
        run.append({"split": "train", **facts, "loss": loss * 1.1, **terms, "learnrate": 0.001})
        if images % 640:
            continue
        run.append({"split": "validation", **facts, "loss": loss, **terms})
        is_best = loss < best["loss"]
        best = {"images": images, "loss": loss} if is_best else best
        weights = {"model.weight": np.full((4, 13), loss, np.float32)}
        numbers = {"images": images, "epoch": facts["epoch"], "best_loss": best["loss"]}
        run.save_checkpoint(images, save(weights), numbers, best=is_best, keep="every 3200")
        if images % 3200 == 0:
            for part in ("train", "heldout"):
                run.write_bytes(f"images/{part}-{images:09d}.png", png(pixels // 2))
    run.log("finished")
    run.set_status(
        "finished",
        images=6_400,
        epoch=10,
        seconds=1.6,
        wall_seconds=2.0,
        images_per_second=4000.0,
        best=best,
        last={"images": 6_400, "loss": loss, **terms},
        error=None,
    )


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


if __name__ == "__main__":
    main()

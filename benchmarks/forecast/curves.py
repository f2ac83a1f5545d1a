"""Curves of short real runs: what the forecast is calibrated on, and what tests hold it to.

Trains a matrix of eight rows for each of nine architectures on each of four data sets, and keeps
the validation and training losses as one JSON file. A row is a schedule, an optimiser, a learning
rate and a seed, drawn once for each matrix. Everything is trained by `aelab run`, so the same
command continues after an interruption.

    AELAB_DATA=... python benchmarks/forecast/curves.py --runs FOLDER [--out FILE] [--jobs 1]
    python benchmarks/forecast/curves.py --runs FOLDER --collect     (only the JSON file)
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import zlib
from pathlib import Path
from typing import Any

from aelab import lab
from aelab.execute.events import RunErred, RunFinished
from aelab.runs.record import Run

#: Where the curves are kept: beside the test that reads them.
CURVES = Path(__file__).parents[2] / "tests" / "analysis" / "curves.json"

#: Validations of a run; the first is after the first batch.
VALIDATIONS = 40

DATA = {
    "mnist": ("1, 14, 14", "mnist_dataset(train=True, shape=SHAPE, interpolation=True)",
              "mnist_dataset(train=False, shape=SHAPE, interpolation=True)"),
    "fmnist": ("1, 16, 16", "fmnist_dataset(train=True, shape=SHAPE, interpolation=True)",
               "fmnist_dataset(train=False, shape=SHAPE, interpolation=True)"),
    "rpg": ("3, 16, 16", "rpg_tile_dataset_3x32x32(validation=False, shape=SHAPE)",
            "rpg_tile_dataset_3x32x32(validation=True, shape=SHAPE)"),
    "kali": ("1, 16, 16", "kali_dataset(SHAPE, size=6000, seed=1, max_iterations=7, aa=2)",
             "kali_dataset(SHAPE, size=400, seed=2, max_iterations=7, aa=2)"),
}  # fmt: skip

NETS = {
    "linear": "EncoderDecoder(EncoderMLP(SHAPE, 16, hidden=()), DecoderMLP(SHAPE, 16, hidden=()))",
    "mlp": "EncoderDecoder(EncoderMLP(SHAPE, 16, hidden=(128, 64)), "
           "DecoderMLP(SHAPE, 16, hidden=(64, 128), activation_last_layer='sigmoid'))",
    "conv": "EncoderDecoder(EncoderConv2d(SHAPE, 32, channels=(8, 12), kernel_size=3), "
            "DecoderConv2d(SHAPE, 32, channels=(12, 8), kernel_size=3))",
    "stride2": "EncoderDecoder(EncoderConv2d(SHAPE, 16, channels=(16, 24), kernel_size=(5, 3), "
               "stride=2), DecoderConv2d(SHAPE, 16, channels=(24, 16), kernel_size=(3, 5), "
               "stride=2, activation_last_layer='sigmoid'))",
    "residual": "EncoderDecoder(EncoderResidual(SHAPE, 16, channels=(12, 16), hidden=(48,)), "
                "DecoderResidual(SHAPE, 16, channels=(16, 12), hidden=(48,)))",
    "variational": "VariationalAutoencoder(encoder=VariationalEncoder(EncoderMLP(SHAPE, 64, "
                   "hidden=(128,)), 64, 24), decoder=DecoderMLP(SHAPE, 24, hidden=(128,)), "
                   "reconstruction_loss='l2', kl_loss_weight=0.02 / math.prod(SHAPE))",
    "vq": "Autoencoder(nn.Sequential(EncoderConv2d(SHAPE, 32, channels=(12, 16), kernel_size=3, "
          "stride=2), nn.LayerNorm(32)), VQ(codebook_size=64, dims=4), "
          "DecoderMLP(SHAPE, 32, hidden=(128,)))",
    "fsq": "Autoencoder(nn.Sequential(EncoderMLP(SHAPE, 24, hidden=(128,)), nn.LayerNorm(24)), "
           "FSQ(levels=(8, 6, 5)), DecoderMLP(SHAPE, 24, hidden=(128,)))",
    "transformer": "PatchTransformerAutoencoder(SHAPE, 16, patch_size=4, num_layers=1, "
                   "num_hidden=32, num_heads=2)",
}  # fmt: skip

#: Images of a run, by the cost of the architecture.
IMAGES = {
    "linear": (10_000, 20_000, 40_000), "mlp": (8_000, 20_000, 40_000),
    "variational": (8_000, 16_000, 30_000), "fsq": (8_000, 16_000, 30_000),
    "conv": (2_400, 4_000, 6_000), "stride2": (3_000, 5_000, 8_000),
    "vq": (4_000, 6_000, 10_000), "residual": (2_000, 3_000, 5_000),
    "transformer": (2_000, 3_200, 5_000),
}  # fmt: skip

#: So many matrices have runs as long as that; the others are cut, to be affordable.
LONG = 11

SCHEDULES: tuple[Any, ...] = (
    "constant", "cosine", "linear", {"WarmupCosine": {"warmup_images": 1_000}},
)  # fmt: skip

#: An optimiser, and a learning rate that suits most of these networks.
OPTIMIZERS: tuple[tuple[Any, float], ...] = (
    ("AdamW", 0.002), ({"SGD": {"momentum": 0.9}}, 0.2), ("RMSprop", 0.0007),
)  # fmt: skip

FILE = """\
matrix:
  schedule: [{schedules}]
  optimizer: [{optimizers}]
  lr: [{rates}]
  seed: [1, 2, 3]
  $filter: "(schedule, optimizer, lr, seed) in {rows}"
experiment_name: {name}/${{matrix_slug}}
globals:
  SHAPE: ({shape})
train_set: {train}
validation_set: {validation}
model: {net}
loss_function: {loss}
seed: ${{seed}}
batch_size: {batch}
learnrate: ${{lr}}
optimizer: ${{optimizer}}
scheduler: ${{schedule}}
max_images: {images}
validate_every_images: {every}
validation_batch_size: 250
validation_limit: 200
log_every_images: {every}
keep_checkpoints: best+latest
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=CURVES)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--most", type=int, help="only so many matrices")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    matrices = [(net, data) for data in DATA for net in NETS]
    random.Random(0).shuffle(matrices)  # what is there after half the time is a sample of all
    matrices[LONG + 1 :] = sorted(matrices[LONG + 1 :], key=lambda pair: IMAGES[pair[0]][0] < 8_000)
    for number, (net, data) in enumerate(matrices[: given.most] if not given.collect else ()):
        file = given.runs / f"{net}-{data}.yml"
        file.write_text(experiment(net, data, is_short=number >= LONG))
        events = lab.run(file, runs=given.runs, device="cpu", jobs=given.jobs, threads=1)
        for event in events:
            if isinstance(event, RunFinished | RunErred):
                print(event, flush=True)
    found = lab.find_runs(runs=given.runs)
    kept = [curve_of(run) for run in found if run.state == "finished"]
    given.out.write_text(as_text(kept))
    print(f"{len(kept)} curves, {given.out.stat().st_size:,} bytes: {given.out}")
    return 0


def experiment(net: str, data: str, *, is_short: bool) -> str:
    """The file of one matrix; equal arguments give an equal text."""
    draw = random.Random(zlib.crc32(f"{net} {data}".encode()))
    images = draw.choice(IMAGES[net])
    if is_short:
        images = min(images, 8_000 if IMAGES[net][0] >= 8_000 else 4_000)
    batch = draw.choice((16, 32, 32, 64)) if images >= 8_000 else 16  # or it has too few steps
    rows: list[tuple[Any, Any, float, int]] = []
    for number in range(8):
        schedule = SCHEDULES[number % 4]
        optimizer, usual = OPTIMIZERS[draw.choice((0, 0, 1, 2))]
        rate = float(f"{usual * draw.choice((0.1, 0.3, 1.0, 1.0, 2.0)):.6g}")
        rows.append((schedule, optimizer, rate, 1))
        if (schedule, optimizer, rate, 1) in rows[:-1]:
            rows[-1] = (schedule, optimizer, rate, 2 if (*rows[-1][:3], 2) not in rows else 3)
    shape, train, validation = DATA[data]
    return FILE.format(
        schedules=", ".join(json.dumps(s) for s in SCHEDULES),
        optimizers=", ".join(json.dumps(name) for name, _ in OPTIMIZERS),
        rates=", ".join(str(rate) for rate in sorted({row[2] for row in rows})),
        rows=str(rows).replace('"', "'"),
        name=f"{net}-{data}",
        shape=shape,
        train=train,
        validation=validation,
        net=NETS[net],
        loss=draw.choice(("l1", "l2", "l2")),
        batch=batch,
        images=images,
        every=images // VALIDATIONS,
    )


def curve_of(run: Run) -> dict[str, Any]:
    """What is kept of a run: its settings, its losses, and its rates and seconds."""
    validated, trained = run.metrics("validation"), run.metrics("train")
    matrix = run.record["matrix"]
    images, logged = ([row["images"] for row in rows] for rows in (validated, trained))
    return {
        "matrix": run.record["name"].partition("/")[0],
        "schedule": name_of(matrix["schedule"]),
        "optimizer": name_of(matrix["optimizer"]),
        "rate": matrix["lr"],
        "seed": matrix["seed"],
        "end": run.record["max_inputs"],
        "seconds": rounded(run.status["seconds"]),
        "images": images,
        "loss": [rounded(row["loss"]) for row in validated],
        **({"train_images": logged} if logged != images else {}),
        "train": [rounded(row["loss"]) for row in trained],
        "factors": [rounded(row["learnrate"] / matrix["lr"]) for row in trained],
    }


def name_of(choice: Any) -> str:
    """`WarmupCosine` of `{"WarmupCosine": {...}}`."""
    return str(choice if isinstance(choice, str) else next(iter(choice)))


def rounded(value: float | None) -> float | None:
    """Five digits; None where it is no number."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def as_text(curves: list[dict[str, Any]]) -> str:
    """JSON with one curve a line, sorted, so that a change is seen in a difference of texts."""
    lines = sorted(json.dumps(curve, separators=(",", ":")) for curve in curves)
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    sys.exit(main())

"""Make the stored run of the present format that the golden tests open: `python make_golden.py`.

Run it once for every new format version, and keep the older folders: they are the promise that old
runs stay readable and open as models.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from aelab import lab
from aelab.runs.record import FORMAT

EXPERIMENT = """\
matrix:
  ds: ["kali", "noise"]
  lr: [0.002]
experiment_name: golden/tiny_${matrix_slug}
globals:
  SHAPE: (1, 8, 8)
train_set: |
  {"kali": kali_dataset(SHAPE, size=640, seed=1), "noise": noise_dataset(SHAPE, size=640)}["${ds}"]
validation_set: |
  {"kali": kali_dataset(SHAPE, size=64, seed=2), "noise": noise_dataset(SHAPE, size=64)}["${ds}"]
model: |
  encoder = EncoderConv2d(SHAPE, code_size=8, channels=(4, 4), kernel_size=3)
  VariationalAutoencoder(
      VariationalEncoder(encoder, 8, 4),
      DecoderConv2d(SHAPE, code_size=4, channels=(4, 4), kernel_size=3),
      reconstruction_loss="l1",
      kl_loss_weight=0.001,
  )
batch_size: 16
learnrate: ${lr}
optimizer: Adam
scheduler: {WarmupCosine: {warmup_images: 640}}
max_inputs: 6_400
keep_checkpoints: 2
num_inputs_between_checkpoints: 3200
"""


def main() -> None:
    home = Path(__file__).parent / f"format-{FORMAT}"
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("tiny.yml").write_text(EXPERIMENT)
        for event in lab.run("tiny.yml", only="*kali*", runs=home, device="cpu"):
            print(event)
    for name in (".gitignore", "golden/tiny_ds-kali_lr-0.002/lock"):
        (home / name).unlink(missing_ok=True)
    forget_the_machine(home / "golden/tiny_ds-kali_lr-0.002/environment.json")
    print(f"{sum(path.stat().st_size for path in home.rglob('*') if path.is_file()):,} bytes")


def forget_the_machine(path: Path) -> None:
    """A golden run is committed: what names the machine that made it is left out."""
    environment = json.loads(path.read_text())
    for key in ("platform", "processor", "command"):
        environment[key] = ""
    path.write_text(json.dumps(environment, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What `aelab check` of 1,000 rows costs: CPU seconds of a fresh process, for two kinds of matrix.

One has 100 architectures with 10 learning rates each, the other 2 architectures with 50 seeds and
10 learning rates. The images are MNIST's, so `AELAB_DATA` must have them. Targets: 5 s.

    python benchmarks/rows.py [--repeats 3] [--check]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from startup import seconds  # the benchmark beside this one

TARGET_SECONDS = 5.0
RATES = [0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02]
FILE = """
matrix: {{width: {widths}, code: {codes}, seed: {seeds}, lr: {rates}}}
experiment_name: rows/${{width}}-${{code}}-${{seed}}-${{lr}}
seed: ${{seed}}
train_set: mnist_dataset(train=True)
validation_set: mnist_dataset(train=False)
batch_size: 64
learnrate: ${{lr}}
optimizer: Adam
max_images: 100_000
loss_function: l1
model: |
  EncoderDecoder(
      EncoderConv2d((1, 28, 28), ${{code}}, channels=(${{width}}, 2 * ${{width}}), kernel_size=(4, 3), stride=2),
      DecoderConv2d((1, 28, 28), ${{code}}, channels=(2 * ${{width}}, ${{width}}), kernel_size=(3, 4), stride=2,
                    activation_last_layer="sigmoid"),
  )
"""  # noqa: E501
MATRICES = {
    "100 architectures": ([*range(4, 14)], [*range(2, 12)], [0]),
    "2 architectures": ([4, 5], [8], [*range(50)]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit code 1 above the target")
    given = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        for name, (widths, codes, seeds) in MATRICES.items():
            path = Path(folder) / "rows.yml"
            text = FILE.format(widths=widths, codes=codes, seeds=seeds, rates=RATES)
            path.write_text(text, encoding="utf-8")
            words = ["check", str(path), "--runs", str(Path(folder) / "runs")]
            used = [cpu for _, cpu in seconds(words, given.repeats)]
            median = statistics.median(used)
            slow |= median > TARGET_SECONDS
            print(f"{name:18} {median:5.2f} CPU s   [{min(used):.2f} .. {max(used):.2f}]")
    return int(slow and given.check)


if __name__ == "__main__":
    sys.exit(main())

"""Makes the digits that come with aelab from MNIST in AELAB_DATA or the cache.

    python scripts/make_digits.py

A keyed draw (seed 0) of each half, so that anybody gets the same images.
"""

from pathlib import Path

import numpy as np

from aelab.data.sources.mnist import mnist_dataset

TARGET = Path(__file__).parents[1] / "src" / "aelab" / "data" / "packaged" / "mnist-5000.npz"

if __name__ == "__main__":
    arrays = {}
    for half, count in (("train", 4_000), ("test", 1_000)):
        images = mnist_dataset(half == "train").sample(count, seed=0).load()
        arrays[f"{half}_images"] = images.pixels[:, 0].numpy()
        arrays[f"{half}_labels"] = images.labels.numpy().astype(np.uint8)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")

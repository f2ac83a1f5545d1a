"""The latent space of a report: the decoder in the page against a grid of decoded images.

    python benchmarks/explorer.py RUN [RUNS_FOLDER]

Prints how many bytes each takes in the page, and how far the grid's images are from the decoder's
at random places of the map.
"""

from __future__ import annotations

import base64
import io
import json
import sys

import torch
from PIL import Image

from aelab.lab import Lab
from aelab.study.explorer import explorer_of
from aelab.study.latent_map import latent_at


def main(reference: str, runs: str = "runs") -> None:
    opened = Lab(runs, device="cpu").open(reference)
    inside, outside = (explorer_of(opened, decoder=decoder) for decoder in (True, False))
    grid = outside["grid"]
    print(f"decoder: {len(json.dumps(inside['program'])):,} bytes")
    print(f"grid of {grid['side']}x{grid['side']}: {len(json.dumps(grid)):,} bytes")
    codes = torch.frombuffer(bytearray(base64.b64decode(inside["codes"])), dtype=torch.float16)
    codes = codes.view(inside["count"], -1).float()
    axes, places = torch.tensor(inside["axes"])[:2], torch.tensor(inside["map"])
    content = base64.b64decode(grid["picture"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
        sheet = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        sheet = sheet.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255
    channels, height, width = inside["shape"]
    low, high = torch.tensor(grid["low"]), torch.tensor(grid["high"])
    drawn = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    at = places.min(0).values + drawn * (places.max(0).values - places.min(0).values)
    shape = (len(at), *inside["latent_shape"])
    made = opened.decode(latent_at(at, codes, axes, places, inside["spacing"]).reshape(shape))
    made = made.clamp(0, 1).expand(-1, 3, -1, -1) if channels == 1 else made.clamp(0, 1)
    where = (at - low) / (high - low) * (grid["side"] - 1)
    cell = where.floor().long().clamp(max=grid["side"] - 2)
    part = where - cell

    def tile(column: int, row: int) -> torch.Tensor:
        return sheet[:, row * height : (row + 1) * height, column * width : (column + 1) * width]

    off = []
    for image, (x, y), (u, v) in zip(made, cell.tolist(), part.tolist(), strict=True):
        upper = (1 - u) * tile(x, y) + u * tile(x + 1, y)
        lower = (1 - u) * tile(x, y + 1) + u * tile(x + 1, y + 1)
        off.append((image - ((1 - v) * upper + v * lower)).square().mean())
    spread = made.var(0).mean()
    print(f"the grid's images differ by L2 {torch.stack(off).mean():.5f}; variance {spread:.5f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
